"""ONNX Runtime: the engine that runs everywhere, on the CPU, and the text tower beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from tokenizers import Tokenizer

from reelsight.engine.image_engine import ImageEngine, check_batch
from reelsight.errors import EngineError, ModelError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

__all__ = [
    "ORT_ERRORS",
    "OrtCpuEngine",
    "OrtEngine",
    "OrtTextTower",
    "open_session",
    "ort_cpu_spec",
]

_CPU_PROVIDER = "CPUExecutionProvider"

# onnxruntime raises classes of its C extension that share no public base but Exception.
ORT_ERRORS = tuple(
    getattr(ort_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "RuntimeException")
)


def ort_cpu_spec(model: Model, buckets: tuple[int, ...]) -> EngineSpec:
    """The spec of this runtime for a model, without opening it."""
    return EngineSpec(
        model=model.name,
        model_hash=model.hash,
        backend="onnxruntime-cpu",
        backend_version=ort.__version__,
        precision="fp32",
        onnx_sha256=dict(model.sha256)["image"],
        geometry=model.geometry,
        dim=model.dim,
        buckets=buckets,
    )


class OrtEngine(ImageEngine):
    """An image tower in ONNX Runtime, on any of its providers.

    Args:
        spec: What the file is; who opens it has verified that.
        path: The ONNX file.
        threads: Intra-op threads. One is the best use of a core; threads never spin, so engines
            that share a machine with decoders do not burn the decoders' cores while idle.
        provider: Of ONNX Runtime.

    Raises:
        EngineError: The file cannot be loaded, has another shape than the spec says, or the
            provider does not start.
    """

    def __init__(
        self, spec: EngineSpec, path: Path, *, threads: int = 1, provider: str = _CPU_PROVIDER
    ) -> None:
        super().__init__(spec)
        session = open_session(str(path), threads, provider)
        size = spec.geometry.size
        _require(session, "frames", "tensor(uint8)", [size, size, 3], str(path))
        self._session: ort.InferenceSession | None = session

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the engine was closed", code="engine.closed")
        check_batch(self._spec, pixels)
        try:
            rows: npt.NDArray[np.float32] = self._session.run(["embedding"], {"frames": pixels})[0]
        except ORT_ERRORS as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        return rows

    def close(self) -> None:
        self._session = None


class OrtCpuEngine(OrtEngine):
    """The FP32 master of a model on the CPU.

    Args:
        model: The model whose image tower is run.
        buckets: Batch sizes that are accepted.
        threads: Intra-op threads.

    Raises:
        EngineError: The file cannot be loaded or has another shape than the model says.
        ModelError: The file is not the one that the model's hash speaks of.
    """

    def __init__(self, model: Model, *, buckets: tuple[int, ...], threads: int = 1) -> None:
        model.verify("image")
        super().__init__(ort_cpu_spec(model, buckets), model.image, threads=threads)


class OrtTextTower:
    """A text tower and its tokenizer on the CPU.

    Args:
        model: The model whose text tower is run.

    Raises:
        EngineError: The text tower cannot be loaded.
        ModelError: The tokenizer cannot be loaded, or a file is not the model's.
    """

    _BATCH = 64

    def __init__(self, model: Model) -> None:
        model.verify("text", "tokenizer")
        self._model = model
        self._session = open_session(str(model.text), threads=1)
        _require(self._session, "tokens", "tensor(int64)", [model.context_length], str(model.text))
        try:
            self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        except Exception as error:  # Boundary: tokenizers raises bare Exception for any bad file.
            raise ModelError(f"cannot load {model.tokenizer}: {error}") from error
        self._tokenizer.enable_truncation(model.context_length)

    @property
    def model_hash(self) -> str:
        return self._model.hash

    def embed_text(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        encoded = [e.ids for e in self._tokenizer.encode_batch(list(phrases))]
        if any(len(ids) != self._model.context_length for ids in encoded):
            raise ModelError(
                f"{self._model.tokenizer} does not pad to {self._model.context_length} tokens"
            )
        tokens = np.array(encoded, dtype=np.int64)
        chunks = [tokens[i : i + self._BATCH] for i in range(0, len(tokens), self._BATCH)]
        try:
            rows = [self._session.run(["embedding"], {"tokens": chunk})[0] for chunk in chunks]
        except ORT_ERRORS as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        return np.concatenate(rows).astype(np.float32)

    def count_tokens(self, phrases: Sequence[str]) -> list[int]:
        return [sum(e.attention_mask) for e in self._tokenizer.encode_batch(list(phrases))]


def open_session(path: str, threads: int, provider: str = _CPU_PROVIDER) -> ort.InferenceSession:
    """A session whose threads do not spin.

    Raises:
        EngineError: The file cannot be loaded, or the provider does not start.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider not in ort.get_available_providers():
        raise EngineError(
            f"this onnxruntime {ort.__version__} has no {provider}", code="engine.unavailable"
        )
    try:
        session = ort.InferenceSession(path, options, providers=[provider])
    except ORT_ERRORS as error:
        raise EngineError(
            f"onnxruntime cannot load {path}: {error}",
            code="engine.unloadable",
            hint="Check the model with `reelsight models --verify`.",
        ) from error
    # onnxruntime only logs that a provider does not start, and goes on with the CPU.
    if session.get_providers()[0] != provider:
        raise EngineError(
            f"{provider} did not start, onnxruntime took {session.get_providers()}",
            code="engine.unavailable",
        )
    return session


def _require(
    session: ort.InferenceSession, name: str, kind: str, shape: list[int], path: str
) -> None:
    found = {i.name: (i.type, list(i.shape[1:])) for i in session.get_inputs()}
    if found.get(name) != (kind, shape):
        raise EngineError(
            f"{path} takes {found}, expected {name}: {kind} [n, {', '.join(map(str, shape))}]",
            code="engine.unloadable",
        )
