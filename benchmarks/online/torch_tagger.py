"""Peers' common half: an upload to labels with PyAV, Pillow, open_clip and torch.

It is the code that one writes for it: pictures through open_clip's own preprocessing, similarity
to the label texts, softmax, the five best. The servers differ in how they call it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from engines.export.openclip_import import import_open_clip

__all__ = ["Files", "TorchTagger"]

open_clip = import_open_clip()

_BEST = 5
_FPS = 1


@dataclass(frozen=True, slots=True)
class Files:
    """What a peer is started with.

    Attributes:
        model: open_clip's directory of the model.
        text: npy of the bank's matrix, float32 [L, D].
        threads: Of torch.
        port: To listen on.
    """

    model: str
    text: Path
    threads: int
    port: int

    @classmethod
    def of_command_line(cls) -> Files:
        parser = argparse.ArgumentParser()
        parser.add_argument("--model", required=True)
        parser.add_argument("--text", type=Path, required=True)
        parser.add_argument("--threads", type=int, required=True)
        parser.add_argument("--port", type=int, required=True)
        return cls(**vars(parser.parse_args()))


class TorchTagger:
    """The model and what is around it, in one process.

    Args:
        files: Where it is.
    """

    def __init__(self, files: Files) -> None:
        torch.set_num_threads(files.threads)
        model, _, self._preprocess = open_clip.create_model_and_transforms(
            f"local-dir:{files.model}"
        )
        self._model = model.eval()
        self._text = torch.from_numpy(np.load(files.text))

    def pictures(self, data: bytes) -> torch.Tensor:
        """float32 [N, 3, S, S]: a still's picture, or one a second of a clip."""
        images = [Image.open(io.BytesIO(data))] if data[:2] == b"\xff\xd8" else _frames(data)
        return torch.stack([self._preprocess(image) for image in images])

    def scores(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 [N, L]: each picture's softmax over the labels."""
        with torch.inference_mode():
            embeddings = self._model.encode_image(batch, normalize=True)
            return (100.0 * embeddings @ self._text.T).softmax(dim=-1)

    @staticmethod
    def answer(scores: torch.Tensor) -> dict[str, Any]:
        """The best labels of a clip by the mean over its pictures."""
        best = scores.mean(dim=0).topk(_BEST)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"labels": [{"name": f"label-{i}", "confidence": score} for i, score in pairs]}

    def tag(self, data: bytes) -> dict[str, Any]:
        """The whole, for who does it one request at a time."""
        return self.answer(self.scores(self.pictures(data)))


def _frames(data: bytes) -> Iterator[Image.Image]:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        due = 0.0
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= due:
                due += 1 / _FPS
                yield frame.to_image()  # type: ignore[no-untyped-call]
