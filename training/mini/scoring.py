"""Score frames with the exported files alone: ONNX Runtime, `tokenizers`, numpy.

What is measured is what ships; torch is not imported here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]

__all__ = ["Mini", "average_precision", "best_threshold"]


class Mini:
    """The exported model.

    Args:
        directory: Holds model.json and the files that it lists.
        threads: Threads of one run.
    """

    def __init__(self, directory: Path, threads: int = 1) -> None:
        self.manifest: dict[str, Any] = json.loads((directory / "model.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._image = ort.InferenceSession(str(directory / "image.onnx"), options)
        self._text = ort.InferenceSession(str(directory / "text.onnx"), options)

    def images(self, frames: npt.NDArray[np.uint8], batch: int = 16) -> Floats:
        """Unit embeddings float32 [n, dim] of frames uint8 [n, 224, 224, 3]."""
        parts = [
            self._image.run(None, {"frames": np.ascontiguousarray(frames[at : at + batch])})[0]
            for at in range(0, len(frames), batch)
        ]
        return np.concatenate(parts)

    def texts(self, texts: list[str]) -> Floats:
        """Unit embeddings float32 [n, dim]."""
        ids = [row.ids for row in self.tokenizer.encode_batch(texts)]
        (rows,) = self._text.run(None, {"tokens": np.asarray(ids, np.int64)})
        return np.asarray(rows, np.float32)

    def bank(self, prompts: list[list[str]], templates: list[str]) -> Floats:
        """One vector a label, float32 [labels, dim]: the renormalised mean of its prompts."""
        rows = []
        for phrases in prompts:
            mean = self.texts([t.replace("{}", p) for t in templates for p in phrases]).mean(0)
            rows.append(mean / np.linalg.norm(mean))
        return np.stack(rows)


def average_precision(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Area under precision and recall, as the mean precision at the rank of every positive."""
    hits = truth[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / (np.arange(len(hits)) + 1))[hits].mean())


def best_threshold(scores: Floats, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The cosine threshold of the highest F1, in the middle of its gap, and that F1."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(len(order)) + 1 + truth.sum())
    best = int(np.argmax(f1))
    low = scores[order[min(best + 1, len(order) - 1)]]
    return float((scores[order[best]] + low) / 2), float(f1[best])
