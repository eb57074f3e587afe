"""Run compiled buckets: CUDA graphs, and copies that overlap them.

States of a slot: free -> filled (pinned) -> in flight -> read -> free. A submit takes a free slot,
copies the caller's frames into its pinned memory, and queues: the copy to the device on the copy
stream; then, on the compute stream, the copy into the bucket's fixed input, the graph, and the copy
of the answers back. Only the compute stream touches fixed inputs and outputs, so graphs of all
buckets share one memory pool. Device memory that runs out costs the largest bucket, not the
process: its batches run as several smaller ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from engines.inductor.builder import WEIGHTS, bucket_file
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["CpuInductorEngine", "CudaInductorEngine"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]
_SLOTS = 3


def _load(directory: Path, bucket: int, weights: dict[str, torch.Tensor]) -> Any:
    """A compiled bucket that uses weights which somebody else holds."""
    path = directory / bucket_file(bucket)
    try:
        # Its own synchronisation asks events, which no graph capture may see.
        runner = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
        names = set(runner.get_constant_fqns())
        runner.load_constants(
            {name: weights[name] for name in names}, check_full_update=True, user_managed=True
        )
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise EngineError(
            f"torch cannot load {path}: {error}",
            code="engine.unloadable",
            hint="Build the package again with this torch on this GPU.",
        ) from error
    return runner


def _weights(directory: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(directory / WEIGHTS, device=device)
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"cannot read {directory / WEIGHTS}: {error}", code="engine.unloadable"
        ) from error


def _checked(spec: EngineSpec, pixels: Pixels) -> Pixels:
    """The compiled code checks nothing: a wrong shape would be read out of bounds."""
    size = spec.geometry.size
    shape = (size, size, 3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
        raise EngineError(
            f"expected uint8 [n, {size}, {size}, 3], got {pixels.dtype} {list(pixels.shape)}",
            code="engine.bad_input",
        )
    if len(pixels) not in spec.buckets:
        raise EngineError(
            f"batch of {len(pixels)} is not one of the buckets {spec.buckets}",
            code="engine.bad_batch",
        )
    return np.ascontiguousarray(pixels)


class CpuInductorEngine:
    """Compiled buckets on the CPU: what the same files do where there is no GPU.

    Args:
        spec: What was built.
        directory: Where the files are.
        threads: Intra-op threads; torch has one pool a process.

    Raises:
        EngineError: The files cannot be loaded.
    """

    def __init__(self, spec: EngineSpec, directory: Path, *, threads: int) -> None:
        self._spec = spec
        self._threads = threads
        weights = _weights(directory, "cpu")
        self._runners = {b: _load(directory, b, weights) for b in spec.buckets}
        self._weights = weights

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"embed_image"})

    def warmup(self) -> None:
        size = self._spec.geometry.size
        for bucket in self._spec.buckets:
            self.run(np.zeros((bucket, size, size, 3), dtype=np.uint8))

    def run(self, pixels: Pixels) -> Embeddings:
        frames = torch.from_numpy(_checked(self._spec, pixels))
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            rows = self._runners[len(pixels)](frames)
        except RuntimeError as error:
            raise EngineError(f"the compiled program failed: {error}") from error
        found: Embeddings = rows.numpy()
        return found

    def close(self) -> None:
        """The runners' memory goes with the last reference to them."""


@dataclass(slots=True)
class _Slot:
    pinned_in: torch.Tensor
    device_in: torch.Tensor
    pinned_out: torch.Tensor
    copied: Any
    done: Any


@dataclass(slots=True)
class _Bucket:
    runner: Any
    frames: torch.Tensor
    rows: torch.Tensor
    graph: Any


@dataclass(slots=True)
class _InFlight:
    """A Ticket."""

    engine: CudaInductorEngine
    slot: _Slot | None
    rows: int

    def result(self) -> Embeddings:
        slot, self.slot = self.slot, None
        if slot is None:
            raise EngineError("this ticket was read before", code="engine.ticket_read")
        try:
            slot.done.synchronize()
            found: Embeddings = slot.pinned_out[: self.rows].numpy().copy()
        except RuntimeError as error:
            raise EngineError(f"the device failed: {error}") from error
        finally:
            self.engine.free(slot)
        return found


@dataclass(slots=True)
class _Several:
    """A Ticket for a batch that runs in parts."""

    parts: list[Embeddings]

    def result(self) -> Embeddings:
        return np.concatenate(self.parts)


class CudaInductorEngine:
    """Compiled buckets on a CUDA device; a PipelinedEngine.

    Args:
        spec: What was built.
        directory: Where the files are.
        threads: CPU threads that copy frames into pinned memory.

    Raises:
        EngineError: The files cannot be loaded, or not even the smallest bucket fits the device.
    """

    def __init__(self, spec: EngineSpec, directory: Path, *, threads: int) -> None:
        self._spec = spec
        self._threads = threads
        self._weights = _weights(directory, "cuda")
        self._compute, self._copy = torch.cuda.Stream(), torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()
        self._buckets: dict[int, _Bucket] = {}
        for bucket in reversed(spec.buckets):
            self._open(directory, bucket)
        if not self._buckets:
            raise EngineError(
                f"not even the bucket of {spec.buckets[0]} fits the device's memory",
                code="engine.out_of_memory",
                hint="Free the device, or build with smaller buckets.",
            )
        self._free = [self._slot(max(self._buckets)) for _ in range(_SLOTS)]
        self._lock = threading.Lock()

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"embed_image"})

    @property
    def slots(self) -> int:
        return _SLOTS

    @property
    def resident_buckets(self) -> tuple[int, ...]:
        """Buckets that fit the device; larger batches run in parts."""
        return tuple(sorted(self._buckets))

    def warmup(self) -> None:
        size = self._spec.geometry.size
        for bucket in self._spec.buckets:
            self.run(np.zeros((bucket, size, size, 3), dtype=np.uint8))

    def run(self, pixels: Pixels) -> Embeddings:
        rows: Embeddings = self.submit(pixels).result()
        return rows

    def submit(self, pixels: Pixels) -> _InFlight | _Several:
        frames = _checked(self._spec, pixels)
        if not self._buckets:
            raise EngineError("the engine is closed", code="engine.closed")
        if len(frames) in self._buckets:
            return self._start(frames, len(frames))
        largest = max(self._buckets)
        parts = [frames[i : i + largest] for i in range(0, len(frames), largest)]
        return _Several([self._padded(part) for part in parts])

    def replay(self, bucket: int, times: int) -> None:
        """Run a bucket on what lies on the device, again and again; for measuring the device."""
        with torch.cuda.stream(self._compute):
            for _ in range(times):
                self._buckets[bucket].graph.replay()

    def synchronize(self) -> None:
        """Wait for the device."""
        self._compute.synchronize()

    def free(self, slot: _Slot) -> None:
        """Take a slot back; for tickets."""
        with self._lock:
            self._free.append(slot)

    def close(self) -> None:
        if self._buckets:
            torch.cuda.synchronize()
        self._buckets.clear()
        self._free.clear()
        self._weights.clear()
        torch.cuda.empty_cache()

    def _padded(self, part: Pixels) -> Embeddings:
        bucket = next(b for b in sorted(self._buckets) if b >= len(part))
        filled = np.zeros((bucket, *part.shape[1:]), dtype=np.uint8)
        filled[: len(part)] = part
        return self._start(filled, bucket).result()[: len(part)]

    def _start(self, frames: Pixels, bucket: int) -> _InFlight:
        with self._lock:
            slot = self._free.pop() if self._free else None
        if slot is None:
            raise EngineError(f"{_SLOTS} batches are unread", code="engine.slots_full")
        ready = self._buckets[bucket]
        try:
            if torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)
            slot.pinned_in[:bucket].copy_(torch.from_numpy(frames))
            with torch.cuda.stream(self._copy):
                slot.device_in[:bucket].copy_(slot.pinned_in[:bucket], non_blocking=True)
                slot.copied.record(self._copy)
            with torch.cuda.stream(self._compute):
                self._compute.wait_event(slot.copied)
                ready.frames.copy_(slot.device_in[:bucket])
                ready.graph.replay()
                slot.pinned_out[:bucket].copy_(ready.rows, non_blocking=True)
                slot.done.record(self._compute)
        except RuntimeError as error:
            self.free(slot)
            raise EngineError(f"the device failed: {error}") from error
        return _InFlight(self, slot, bucket)

    def _open(self, directory: Path, bucket: int) -> None:
        """Load and capture a bucket; leave it out when the device has no room for it."""
        size = self._spec.geometry.size
        try:
            frames = torch.zeros((bucket, size, size, 3), dtype=torch.uint8, device="cuda")
            runner = _load(directory, bucket, self._weights)
            # Modules are loaded and workspaces made at the first run, which no capture may see.
            self._compute.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._compute):
                runner(frames)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._compute):
                rows = runner(frames)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        except RuntimeError as error:
            if "out of memory" in str(error):
                torch.cuda.empty_cache()
                return
            raise EngineError(
                f"bucket {bucket} cannot be captured: {error}", code="engine.unloadable"
            ) from error
        self._buckets[bucket] = _Bucket(runner, frames, rows, graph)

    def _slot(self, batch: int) -> _Slot:
        size, dim = self._spec.geometry.size, self._spec.dim
        shape = (batch, size, size, 3)
        return _Slot(
            pinned_in=torch.empty(shape, dtype=torch.uint8, pin_memory=True),
            device_in=torch.empty(shape, dtype=torch.uint8, device="cuda"),
            pinned_out=torch.empty((batch, dim), dtype=torch.float32, pin_memory=True),
            copied=torch.cuda.Event(),
            done=torch.cuda.Event(blocking=False),
        )
