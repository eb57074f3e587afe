"""Contender: ONNX Runtime on the file that our engine of the same precision is built from."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from benchmarks.engines.contender import Embeddings, Pixels
from benchmarks.engines.files import ModelFiles
from benchmarks.engines.frames import noise_frames
from benchmarks.engines.timing import timed
from engines.export.openclip_import import import_extra

__all__ = ["OrtPeer"]

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


class OrtPeer:
    """A session at its default optimisation; input and output stay on the device by IO binding.

    Args:
        files: Of the model.
        precision: Of the derived file.
        device: `cuda` or `cpu`.
        threads: Of the session on the CPU.
    """

    def __init__(self, files: ModelFiles, precision: str, device: str, threads: int) -> None:
        self._files, self._precision = files, precision
        self._device, self._threads = device, threads
        self._bindings: dict[int, Any] = {}

    def load(self) -> None:
        provider = _PROVIDERS[self._device]
        if provider not in ort.get_available_providers():
            raise SystemExit(f"the installed onnxruntime {ort.__version__} has no {provider}")
        self._path = self._files.derived(self._precision)
        if not self._path.is_file():
            raise SystemExit(self._files.why_missing(f"derive-{self._precision}"))

    def place(self, batches: tuple[int, ...]) -> None:
        provider = _PROVIDERS[self._device]
        if self._device == "cuda":
            # The provider needs CUDA's libraries, and torch's own are the ones that are there.
            import_extra("torch")
            ort.preload_dlls()
        self._bindings.clear()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = ort.InferenceSession(str(self._path), options, providers=[provider])
        # onnxruntime only logs that a provider does not start, and goes on with the CPU.
        if self._session.get_providers()[0] != provider:
            raise SystemExit(f"{provider} did not start: {self._session.get_providers()}")
        size = self._session.get_inputs()[0].shape[1]
        for batch in batches:
            frames = noise_frames(batch, size)
            binding = self._session.io_binding()
            value = ort.OrtValue.ortvalue_from_numpy(frames, self._device, 0)
            binding.bind_ortvalue_input("frames", value)
            binding.bind_output("embedding", self._device)
            # A binding does not keep what is bound to it alive.
            self._bindings[batch] = binding, value

    def warm(self, batch: int) -> None:
        self._repeat(batch, 3)

    def throughput(self, batch: int, seconds: float) -> tuple[int, float]:
        return timed(lambda times: self._repeat(batch, times), seconds)

    def run(self, frames: Pixels) -> Embeddings:
        rows: Embeddings = self._session.run(["embedding"], {"frames": frames})[0]
        return rows

    def pipelined(self, batch: int, seconds: float) -> tuple[int, float] | None:
        return None

    def reserved_mib(self) -> float | None:
        return None

    def profile(self, batch: int) -> list[dict[str, Any]] | None:
        return None

    def _repeat(self, batch: int, times: int) -> None:
        binding = self._bindings[batch][0]
        for _ in range(times):
            # It waits for the device at the end of each run.
            self._session.run_with_iobinding(binding)
