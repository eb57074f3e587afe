"""What torch's compiler writes wrong, put right while it writes.

Each mend names its versions and goes when no supported torch needs it. All are harmless where torch
does the same itself. Tags that changed at random gave the last two away: the gate refused such
engines, now one precision and now another, as a build's tuning went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch._inductor.codegen.common import TritonScratchWorkspace
from torch._inductor.codegen.cpp_wrapper_cpu import CppWrapperCpu
from torch._inductor.codegen.cuda.device_op_overrides import CUDADeviceOpOverrides
from torch._inductor.codegen.triton import TritonKernel

__all__ = ["mended_torch"]

Method = Callable[..., Any]


@contextmanager
def mended_torch() -> Iterator[None]:
    """Compile with every mend; not for two threads at once."""
    with (
        _replaced(CppWrapperCpu, "codegen_int_array_var", _declarations_in_order),
        _replaced(CUDADeviceOpOverrides, "cpp_scratch", _whole_scratch),
        _replaced(TritonKernel, "codegen_body", _barriers_between_loops),
    ):
        yield


@contextmanager
def _replaced(owner: type, name: str, make: Callable[[Method], Method]) -> Iterator[None]:
    """Put what `make` makes of a class's own method in its place, until the end."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _declarations_in_order(original: Method) -> Method:
    """Keep what torch knows its declarations by alive while it writes a program.

    torch 2.11 remembers an array by id() of a bound method, which is another's once the method is
    gone: large programs then use arrays that they declare further down. 2.13 does not.
    """
    kept: list[Any] = []

    def keeping(self: Any, int_array: str, writeline: Any, *args: Any, **kwargs: Any) -> str:
        kept.append(writeline)
        name: str = original(self, int_array, writeline, *args, **kwargs)
        return name

    return keeping


def _whole_scratch(original: Method) -> Method:
    """Let a compiled kernel have scratch memory for all its programs.

    Each program builds its tensor maps in scratch memory, at its index times the size that Triton
    reports. torch 2.11 allocates that size once: the others write over whatever lies behind, and
    embeddings come out wrong now and then. 2.13 multiplies it by the grid itself.
    """

    def whole(
        self: Any, idx: int, workspace: TritonScratchWorkspace, prefix: str | None = None
    ) -> tuple[list[str], str] | None:
        made: tuple[list[str], str] | None = original(self, idx, workspace, prefix)
        if made is None or workspace.size <= 0:
            return made
        lines, name = made
        once = f"{name}_size[] = {{{workspace.size}}};"
        each = f"static_cast<int64_t>({workspace.size}) * grid_0 * grid_1 * grid_2"
        return [line.replace(once, f"{name}_size[] = {{{each}}};") for line in lines], name

    return whole


def _barriers_between_loops(original: Method) -> Method:
    """Let a kernel's threads wait for each other between one loop's stores and the next loop.

    Two norms in a row become one kernel, whose second loop reads what its first one stored; another
    thread may read it than the one that stored it, and the compiler of kernels puts no barrier
    between (pytorch/pytorch#190519, open up to 2.13).
    """

    def guarded(self: Any) -> None:
        stores = bool(self.stores) and any(tree.is_loop for tree in self.range_trees)
        original(self)
        if stores:
            self.body.writeline("tl.debug_barrier()")

    return guarded
