"""CUDA devices on a real GPU, and what they say where there is none."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from engines.cuda import graphs
from engines.cuda.device import CudaDevice, driver_problem
from engines.cuda.pycuda_device import PycudaDevice
from engines.cuda.slots import SlotRing
from reelsight.errors import EngineError


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a GPU")
def test_a_machine_without_a_driver_says_so() -> None:
    with pytest.raises(EngineError, match="no NVIDIA driver is installed") as caught:
        PycudaDevice()
    assert caught.value.code == "engine.no_cuda"
    assert "reelsight[gpu]" in caught.value.hint


def test_importing_the_seam_imports_no_cuda_library() -> None:
    assert "pycuda.autoinit" not in sys.modules
    source = (sys.modules[PycudaDevice.__module__].__file__ or "").strip()
    with open(source, encoding="utf-8") as file:
        imports = [line for line in file if line.lstrip().startswith(("import ", "from "))]
    assert not any("autoinit" in line or "autoprimaryctx" in line for line in imports)


@pytest.mark.gpu
def test_it_describes_the_gpu(gpu: CudaDevice) -> None:
    assert gpu.name
    assert float(gpu.sm) >= 7.0
    with gpu.current():
        free, total = gpu.memory_info()
    assert 0 < free <= total


@pytest.mark.gpu
def test_bytes_go_in_and_out_through_a_slot(gpu: CudaDevice) -> None:
    batch = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    with gpu.current():
        ring = SlotRing(gpu, count=2, bytes_in=1 << 20, bytes_out=1 << 20)
        slot = ring.take(batch)
        back = gpu.pinned(1 << 20)
        gpu.copy_out(back, slot.device_in, 1 << 20, slot.stream)
        slot.done.record(slot.stream)
        slot.done.wait()
        assert np.array_equal(back.array, batch)
        back.free()
        back.free()
        ring.close()
        ring.close()


@pytest.mark.gpu
def test_a_stream_waits_for_another_ones_event(gpu: CudaDevice) -> None:
    n = 64 << 20
    rng = np.random.default_rng(1)
    with gpu.current():
        source, back = gpu.pinned(n), gpu.pinned(n)
        memory = gpu.memory(n)
        first, second, event = gpu.stream(), gpu.stream(), gpu.event()
        for _ in range(5):
            source.array[:] = rng.integers(0, 256, n, np.uint8)
            gpu.copy_in(memory, source, n, first)
            event.record(first)
            second.wait_for(event)
            gpu.copy_out(back, memory, n, second)
            second.synchronize()
            assert np.array_equal(back.array, source.array)
        for buffer in (source, back, memory):
            buffer.free()


@pytest.mark.gpu
def test_every_thread_uses_the_same_primary_context(gpu: CudaDevice) -> None:
    with gpu.current():
        memory, source = gpu.memory(16), gpu.pinned(16)
        source.array[:] = 7
        stream = gpu.stream()
        gpu.copy_in(memory, source, 16, stream)
        stream.synchronize()
    seen: list[Any] = []

    def other() -> None:
        with gpu.current(), gpu.current():
            back, own = gpu.pinned(16), gpu.stream()
            gpu.copy_out(back, memory, 16, own)
            own.synchronize()
            seen.append(back.array.tolist())
            back.free()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [[7] * 16]
    with gpu.current():
        memory.free()
        source.free()


@pytest.mark.gpu
def test_torch_reads_our_memory_and_we_read_torchs(pycuda_gpu: PycudaDevice) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    tensor = torch.arange(256, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()

    class Theirs:
        address, nbytes = tensor.data_ptr(), 256

        def free(self) -> None: ...

    with pycuda_gpu.current():
        back, stream = pycuda_gpu.pinned(256), pycuda_gpu.stream()
        pycuda_gpu.copy_out(back, Theirs(), 256, stream)
        stream.synchronize()
        assert back.array.tolist() == list(range(256))
        back.free()
    assert int((tensor.int() * 2).sum()) == 255 * 256


@pytest.mark.gpu
def test_memory_that_is_not_there_is_named(gpu: CudaDevice) -> None:
    with gpu.current():
        with pytest.raises(EngineError) as caught:
            gpu.memory(1 << 50)
        assert caught.value.code == "engine.out_of_memory"
        gpu.memory(1 << 20).free()


@pytest.mark.gpu
def test_a_graph_replays_what_was_recorded(gpu: CudaDevice) -> None:
    if not gpu.captures:
        pytest.skip("cuda-bindings is not installed")
    with gpu.current():
        source, back, memory = gpu.pinned(1024), gpu.pinned(1024), gpu.memory(1024)
        stream = gpu.stream()

        def work() -> None:
            gpu.copy_in(memory, source, 1024, stream)
            gpu.copy_out(back, memory, 1024, stream)

        back.array[:] = 0
        graph = gpu.capture(stream, work)
        stream.synchronize()
        assert not back.array.any(), "recorded, not done"
        for value in (3, 4):
            source.array[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert (back.array == value).all()
        graph.free()
        graph.free()
        for buffer in (source, back, memory):
            buffer.free()


@pytest.mark.gpu
def test_a_capture_that_fails_leaves_the_stream_usable(gpu: CudaDevice) -> None:
    if not gpu.captures:
        pytest.skip("cuda-bindings is not installed")

    def broken() -> None:
        raise KeyError("x")

    with gpu.current():
        stream = gpu.stream()
        with pytest.raises(KeyError):
            gpu.capture(stream, broken)
        memory, source = gpu.memory(16), gpu.pinned(16)
        gpu.copy_in(memory, source, 16, stream)
        stream.synchronize()
        memory.free()
        source.free()


@pytest.mark.gpu
def test_a_closed_device_refuses(gpu: CudaDevice) -> None:
    gpu.close()
    gpu.close()
    with pytest.raises(EngineError) as caught, gpu.current():
        pass
    assert caught.value.code == "engine.closed"


def test_without_cuda_bindings_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "find_spec", lambda name: None)
    assert not graphs.can_capture()

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(graphs, "find_spec", missing)
    assert not graphs.can_capture()
