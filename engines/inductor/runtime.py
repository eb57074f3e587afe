"""Run compiled buckets: on CUDA as graphs in a Pipeline, or on the CPU.

A bucket's program reads a fixed input and leaves a fixed output, and the graphs of all buckets
share one memory pool: a lane copies a slot's frames to the input, launches the graph, and copies
the rows to the slot, all in the slot's stream. Frames that a decoder left on the device are copied
to the slot there. Device memory that runs out costs the largest bucket, not the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from engines.cuda.device import CudaGraph, CudaStream
from engines.cuda.lane_engine import LaneEngine
from engines.cuda.pipeline import Pipeline, open_largest_first
from engines.cuda.slots import Slot, SlotRing
from engines.cuda.torch_device import (
    TorchDevice,
    on_stream,
    out_of_memory,
    tensor_of,
    torch_errors,
)
from engines.inductor.builder import WEIGHTS, bucket_file
from reelsight.engine.image_engine import ImageEngine, check_batch
from reelsight.engine.protocol import DevicePixels, Ticket
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["CpuInductorEngine", "CudaInductorEngine"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]
_SLOTS = 3
_DLPACK_CUDA = 2


class CpuInductorEngine(ImageEngine):
    """Compiled buckets on the CPU: what the same files do where there is no GPU.

    Args:
        spec: What was built.
        directory: Where the files are.
        threads: Intra-op threads; torch has one pool a process.

    Raises:
        EngineError: The files cannot be loaded.
    """

    def __init__(self, spec: EngineSpec, directory: Path, *, threads: int) -> None:
        super().__init__(spec)
        self._threads = threads
        self._weights = _weights(directory, "cpu")
        self._runners: dict[int, Any] | None = {
            b: _load(directory, b, self._weights) for b in spec.buckets
        }

    def run(self, pixels: Pixels) -> Embeddings:
        if self._runners is None:
            raise EngineError("the engine was closed", code="engine.closed")
        check_batch(self._spec, pixels)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            rows = self._runners[len(pixels)](torch.from_numpy(pixels))
        except RuntimeError as error:
            raise EngineError(f"the compiled program failed: {error}") from error
        found: Embeddings = rows.numpy()
        return found

    def close(self) -> None:
        self._runners = None
        self._weights.clear()


class CudaInductorEngine(LaneEngine["GraphLane"]):
    """Compiled buckets on a CUDA device; a DeviceFramesEngine.

    Args:
        spec: What was built.
        directory: Where the files are.
        threads: CPU threads that copy frames into page-locked memory.

    Raises:
        EngineError: The files cannot be loaded, or not even the smallest bucket fits the device.
    """

    def __init__(self, spec: EngineSpec, directory: Path, *, threads: int) -> None:
        device = TorchDevice()
        super().__init__(spec, device, _SLOTS)
        if spec.precision == "fp32":
            # torch's default is TF32, and FP32 is what the others are measured against.
            torch.backends.cudnn.allow_tf32 = False
        self._weights: dict[str, torch.Tensor] = {}
        try:
            with device.current():
                self._stream = device.stream()
                with torch_errors():
                    self._weights = _weights(directory, "cuda")
                # The largest first, so that smaller ones use its scratch memory.
                lanes = open_largest_first(
                    spec.buckets, lambda bucket: self._open_lane(directory, bucket, device)
                )
                self._pipeline = Pipeline(spec, device, lanes, slots=_SLOTS, copy_threads=threads)
        except BaseException:
            self.close()
            raise

    def submit_on_device(self, pixels: DevicePixels) -> Ticket:
        return self.submit_batch(DeviceBatch(self._spec, pixels))

    def replay(self, bucket: int, times: int) -> None:
        """Run a bucket on what lies on the device, again and again; for measuring the device."""
        lane = next(lane for lane in self._open_pipeline().lanes if lane.bucket == bucket)
        with self._device.current():
            for _ in range(times):
                lane.launch(self._stream)

    def synchronize(self) -> None:
        """Wait for what replay() started."""
        self._stream.synchronize()

    def _let_go(self) -> None:
        self._weights.clear()

    def _open_lane(self, directory: Path, bucket: int, device: TorchDevice) -> GraphLane:
        runner = _load(directory, bucket, self._weights)
        return GraphLane(self._spec, bucket, runner, device, self._stream)


class DeviceBatch:
    """Frames in the memory of the GPU that embeds them.

    Args:
        spec: Of the engine.
        pixels: As DeviceFramesEngine takes them.

    Raises:
        EngineInputError: They have another shape, or lie elsewhere.
    """

    def __init__(self, spec: EngineSpec, pixels: DevicePixels) -> None:
        size = spec.geometry.size
        if tuple(pixels.shape[1:]) != (size, size, 3):
            raise EngineInputError(f"frames are {list(pixels.shape)}, not [n, {size}, {size}, 3]")
        kind, index = pixels.__dlpack_device__()
        if (int(kind), int(index)) != (_DLPACK_CUDA, 0):
            raise EngineInputError(
                f"frames lie on DLPack's device {int(kind)}:{int(index)}, not on the first GPU"
            )
        self._pixels, self._rows, self._frame_bytes = pixels, int(pixels.shape[0]), size * size * 3

    def __len__(self) -> int:
        return self._rows

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        used = count * self._frame_bytes

        def fill(slot: Slot) -> None:
            with torch_errors():
                # Asked for while the producer's own stream is torch's current one: it is from
                # there that the slot's stream is made to wait.
                frames = torch.from_dlpack(self._pixels.__dlpack__(stream=slot.stream.handle))
                if frames.dtype != torch.uint8 or not frames.is_contiguous():
                    raise EngineInputError("frames are not contiguous uint8")
                with on_stream(slot.stream):
                    to = tensor_of(slot.device_in)
                    to[:used].copy_(frames[start : start + count].reshape(-1), non_blocking=True)
                    to[used : bucket * self._frame_bytes].zero_()

        return ring.take_filled(fill)


class GraphLane:
    """One bucket's compiled program, recorded as a graph.

    Args:
        spec: Of the engine.
        bucket: Batch size.
        runner: The loaded program.
        device: Where it runs.
        stream: What it is recorded in.

    Raises:
        EngineError: The program fails; `engine.out_of_memory`.
    """

    def __init__(
        self, spec: EngineSpec, bucket: int, runner: Any, device: TorchDevice, stream: CudaStream
    ) -> None:
        size = spec.geometry.size
        self.bucket = bucket
        self._frame_bytes, self._row_bytes = bucket * size * size * 3, bucket * spec.dim * 4
        with torch_errors():
            self._frames: Any = torch.zeros(
                (bucket, size, size, 3), dtype=torch.uint8, device="cuda"
            )
            self._rows: Any = None
            torch.cuda.synchronize()
            # Modules are loaded and workspaces made at the first run, which no capture may see.
            with on_stream(stream):
                runner(self._frames)
            stream.synchronize()

        def record() -> None:
            self._rows = runner(self._frames)

        self._runner = runner
        self._graph: CudaGraph | None = device.capture(stream, record)

    def enqueue(self, slot: Slot) -> None:
        with torch_errors(), on_stream(slot.stream):
            frames = tensor_of(slot.device_in)[: self._frame_bytes]
            self._frames.copy_(frames.view(self._frames.shape))
            self.launch(slot.stream)
            rows = tensor_of(slot.device_out)[: self._row_bytes]
            rows.copy_(self._rows.reshape(-1).view(torch.uint8))

    def launch(self, stream: CudaStream) -> None:
        """Enqueue the graph on the frames that lie in its input."""
        if self._graph is None:
            raise EngineError("the engine was closed", code="engine.closed")
        self._graph.launch(stream)

    def close(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()
        self._runner = self._frames = self._rows = None


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
        unloadable = EngineError(
            f"torch cannot load {path}: {error}",
            code="engine.unloadable",
            hint="Build the package again with this torch on this GPU.",
        )
        raise (out_of_memory(error) or unloadable) from error
    return runner


def _weights(directory: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(directory / WEIGHTS, device=device)
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"cannot read {directory / WEIGHTS}: {error}", code="engine.unloadable"
        ) from error
