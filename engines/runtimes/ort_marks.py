"""ONNX Runtime for marks: the extractor as an engine, the embedder as a writer, on the CPU.

What a pair's files say of themselves is checked here, against each other and by running them once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from engines.runtimes.ort_cpu import ORT_ERRORS, open_session
from reelsight.engine.image_engine import ImageEngine, check_batch
from reelsight.engine.protocol import Engine, MarkWriter
from reelsight.errors import EngineError, ModelError
from reelsight.nouns.engine_spec import DEFAULT_BUCKETS, EngineSpec, Geometry
from reelsight.nouns.mark_pair import PAIR_HINT, MarkPair

__all__ = ["OpenPair", "OrtMarkReader", "OrtMarkWriter", "open_pair"]

_U8, _F32 = "tensor(uint8)", "tensor(float)"
_TRY_DB = 40.0


class OrtMarkReader(ImageEngine):
    """An extractor: an Engine whose rows are logits.

    Args:
        pair: The pair; its files were compared with its card.
        buckets: Batch sizes that are accepted.
        threads: Intra-op threads.

    Raises:
        EngineError: The file cannot be loaded.
        ModelError: `model.bad_pair`: it is no extractor.
    """

    def __init__(
        self, pair: MarkPair, *, buckets: tuple[int, ...] = DEFAULT_BUCKETS, threads: int = 1
    ) -> None:
        session = open_session(str(pair.extractor), threads)
        said = _tensors(session)
        size, bits = _side(said, "luma", pair.extractor), _length(said, "logits", pair.extractor)
        expected = {
            "luma": (_U8, [1, size, size]),
            "logits": (_F32, [bits]),
            "presence": (_F32, []),
        }
        _require(said, expected, pair.extractor)
        self._session: ort.InferenceSession | None = session
        super().__init__(
            EngineSpec(
                model="@".join((pair.carrier.model, pair.carrier.version)),
                model_hash=pair.hash,
                backend="onnxruntime-cpu",
                backend_version=ort.__version__,
                precision="fp32",
                onnx_sha256=pair.extractor_sha256,
                geometry=Geometry(size, "active"),
                dim=bits + 1,
                buckets=buckets,
            )
        )

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the engine was closed", code="engine.closed")
        check_batch(self._spec, pixels)
        luma = np.ascontiguousarray(pixels[..., 0])[:, None]
        logits, presence = _run(self._session, ["logits", "presence"], {"luma": luma})
        rows = np.concatenate([logits, presence[:, None]], axis=1)
        if rows.shape != (len(pixels), self._spec.dim) or not np.isfinite(rows).all():
            raise EngineError(
                f"the extractor gave {rows.shape} for {len(pixels)} pictures, or no numbers",
                code="engine.bad_output",
                hint=PAIR_HINT,
            )
        return rows.astype(np.float32, copy=False)

    def close(self) -> None:
        self._session = None


class OrtMarkWriter:
    """An embedder.

    Args:
        pair: The pair; its files were compared with its card.
        threads: Intra-op threads.

    Raises:
        EngineError: The file cannot be loaded.
        ModelError: `model.bad_pair`: it is no embedder.
    """

    def __init__(self, pair: MarkPair, *, threads: int = 1) -> None:
        session = open_session(str(pair.embedder), threads)
        said = _tensors(session)
        self._size = _side(said, "luma", pair.embedder)
        self._bits = _length(said, "bits", pair.embedder)
        expected = {
            "luma": (_U8, [1, self._size, self._size]),
            "bits": (_F32, [self._bits]),
            "strength": (_F32, []),
            "residual": (_F32, [1, self._size, self._size]),
        }
        _require(said, expected, pair.embedder)
        self._session: ort.InferenceSession | None = session

    @property
    def size(self) -> int:
        return self._size

    @property
    def bits(self) -> int:
        return self._bits

    def residual(
        self, luma: npt.NDArray[np.uint8], bits: npt.NDArray[np.float32], strength_db: float
    ) -> npt.NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the embedder was closed", code="engine.closed")
        feed = {
            "luma": np.ascontiguousarray(luma)[None, None],
            "bits": np.asarray(bits, np.float32)[None],
            "strength": np.array([strength_db], np.float32),
        }
        drawn = _run(self._session, ["residual"], feed)[0]
        if drawn.shape != (1, 1, *luma.shape) or not np.isfinite(drawn).all():
            raise EngineError(
                f"the embedder gave {drawn.shape} for a picture of {luma.shape}, or no numbers",
                code="engine.bad_output",
                hint=PAIR_HINT,
            )
        return np.asarray(drawn[0, 0], np.float32)

    def close(self) -> None:
        self._session = None


@dataclass(frozen=True, slots=True)
class OpenPair:
    """Both networks, ready.

    Attributes:
        pair: What they are.
        reader: The extractor, an engine that can `read_mark`; a host that it is given to owns it.
        writer: The embedder.
    """

    pair: MarkPair
    reader: Engine
    writer: MarkWriter


def open_pair(
    directory: Path, *, buckets: tuple[int, ...] = DEFAULT_BUCKETS, threads: int = 1
) -> OpenPair:
    """Load a pair from its directory, and run both networks once.

    Raises:
        ModelError: As `MarkPair.load`; `model.bad_pair` where a file is not what its name says, or
            the two do not belong together.
        EngineError: A file cannot be loaded or run.
    """
    pair = MarkPair.load(directory)
    reader = OrtMarkReader(pair, buckets=buckets, threads=threads)
    writer = OrtMarkWriter(pair, threads=threads)
    size, bits = reader.spec.geometry.size, reader.spec.dim - 1
    if (writer.size, writer.bits) != (size, bits):
        raise ModelError(
            f"the embedder writes {writer.bits} bits into {writer.size} pixels, the extractor "
            f"reads {bits} from {size}",
            code="model.bad_pair",
            hint=PAIR_HINT,
        )
    grey = np.full((size, size), 128, np.uint8)
    writer.residual(grey, np.zeros(bits, np.float32), _TRY_DB)
    reader.run(np.full((buckets[0], size, size, 3), 128, np.uint8))
    return OpenPair(pair, reader, writer)


Tensors = dict[str, tuple[str, list[Any]]]


def _tensors(session: ort.InferenceSession) -> Tensors:
    """Type, and shape less the batch, of everything that goes in or comes out."""
    both = (*session.get_inputs(), *session.get_outputs())
    return {each.name: (each.type, list(each.shape[1:])) for each in both}


def _side(said: Tensors, name: str, path: Path) -> int:
    shape = said.get(name, ("", []))[1]
    if len(shape) != 3 or not isinstance(shape[-1], int):
        raise _bad(path, f"{name} has no fixed side: {said}")
    return int(shape[-1])


def _length(said: Tensors, name: str, path: Path) -> int:
    shape = said.get(name, ("", []))[1]
    if len(shape) != 1 or not isinstance(shape[0], int):
        raise _bad(path, f"{name} has no fixed length: {said}")
    return int(shape[0])


def _require(said: Tensors, expected: Tensors, path: Path) -> None:
    if said != expected:
        raise _bad(path, f"it has {said}, expected {expected}")


def _bad(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is not of a pair: {why}", code="model.bad_pair", hint=PAIR_HINT)


def _run(session: ort.InferenceSession, names: list[str], feed: dict[str, Any]) -> list[Any]:
    try:
        answers: list[Any] = session.run(names, feed)
    except ORT_ERRORS as error:
        raise EngineError(f"onnxruntime failed: {error}") from error
    return answers
