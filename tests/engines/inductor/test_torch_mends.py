"""What the compiler is kept from writing, shown on stand-ins for the parts of it that write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")

from torch._inductor.codegen.common import TritonScratchWorkspace  # noqa: E402
from torch._inductor.codegen.cpp_wrapper_cpu import CppWrapperCpu  # noqa: E402
from torch._inductor.codegen.cuda.device_op_overrides import CUDADeviceOpOverrides  # noqa: E402
from torch._inductor.codegen.triton import TritonKernel  # noqa: E402
from torch._inductor.utils import IndentedBuffer  # noqa: E402

from engines.inductor.torch_mends import mended_torch  # noqa: E402


def test_torch_keeps_what_it_knows_its_declarations_by(monkeypatch: pytest.MonkeyPatch) -> None:
    class Line:
        def write(self, text: str) -> None: ...

    known_by: list[int] = []

    def plain(self: object, int_array: str, writeline: object) -> str:
        known_by.append(id(writeline))
        return int_array

    monkeypatch.setattr(CppWrapperCpu, "codegen_int_array_var", plain)
    line, wrapper = Line(), CppWrapperCpu.__new__(CppWrapperCpu)
    with mended_torch():
        given = [wrapper.codegen_int_array_var(f"{{{i}L}}", line.write) for i in range(9)]
    assert given == [f"{{{i}L}}" for i in range(9)]
    # A bound method is made at each look: were the earlier ones gone, an id would come again.
    assert len(set(known_by)) == 9
    assert CppWrapperCpu.codegen_int_array_var is plain


@pytest.mark.parametrize(
    ("size", "given", "wanted"),
    [
        (384, "384", "static_cast<int64_t>(384) * grid_0 * grid_1 * grid_2"),
        (384, "384 * grid_0", "384 * grid_0"),
        (0, "", ""),
    ],
)
def test_every_program_of_a_kernel_has_scratch_of_its_own(
    monkeypatch: pytest.MonkeyPatch, size: int, given: str, wanted: str
) -> None:
    def written(self: object, idx: int, workspace: Any, prefix: str) -> tuple[list[str], str]:
        name = f"{prefix}_{idx}"
        if not workspace.size:
            return [f"CUdeviceptr {name} = 0;"], name
        return [f"int64_t {name}_size[] = {{{given}}};", "other"], name

    monkeypatch.setattr(CUDADeviceOpOverrides, "cpp_scratch", written)
    with mended_torch():
        lines, name = CUDADeviceOpOverrides().cpp_scratch(
            4, TritonScratchWorkspace(size, lambda: "uint8"), "global"
        )
    assert name == "global_4"
    assert lines == (
        [f"int64_t global_4_size[] = {{{wanted}}};", "other"]
        if size
        else ["CUdeviceptr global_4 = 0;"]
    )
    assert CUDADeviceOpOverrides.cpp_scratch is written


@pytest.mark.parametrize(
    ("loop", "store", "barrier"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_loops_wait_for_the_stores_of_the_loop_before(
    monkeypatch: pytest.MonkeyPatch, loop: bool, store: bool, barrier: bool
) -> None:
    def flush(self: Any) -> None:
        self.body.splice(self.stores)
        self.stores = IndentedBuffer()

    monkeypatch.setattr(TritonKernel, "codegen_body", flush)
    kernel: Any = SimpleNamespace(
        body=IndentedBuffer(), stores=IndentedBuffer(), range_trees=[SimpleNamespace(is_loop=loop)]
    )
    if store:
        kernel.stores.writeline("tl.store(out)")
    with mended_torch():
        TritonKernel.codegen_body(kernel)
    lines = kernel.body.getvalue().split("\n")
    assert [line for line in lines if line] == ["tl.store(out)"] * store + [
        "tl.debug_barrier()"
    ] * barrier
    assert TritonKernel.codegen_body is flush
