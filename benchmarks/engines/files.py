"""Where the benchmark keeps what it made, so that a run goes on where the last one ended.

A step's output appears whole or not at all; what went wrong stays beside it as text. This module
makes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelsight.atomic import write_whole
from reelsight.nouns.engine_spec import EngineSpec, Geometry

__all__ = ["ModelFiles", "read_json", "spec_from", "write_json"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        root: Their directory.
    """

    root: Path

    @property
    def model(self) -> Path:
        """The model directory."""
        return self.root / "model"

    @property
    def calibration(self) -> Path:
        """Directory of calibrations."""
        return self.root / "calibration"

    @property
    def frames(self) -> Path:
        """uint8 [n, size, size, 3] to compare embeddings on."""
        return self.root / "frames.npy"

    @property
    def compiled(self) -> Path:
        """What warming torch.compile's cache took."""
        return self.root / "compiled.json"

    def derived(self, precision: str) -> Path:
        """The precision-carrying ONNX file."""
        return self.root / "onnx" / precision / "image.onnx"

    def engine(self, precision: str) -> Path:
        """An engine's directory."""
        return self.root / "engine" / precision

    def artifact(self, precision: str) -> Path:
        """What an engine's build said; there only after the build."""
        return self.root / "engine" / f"{precision}.json"

    def log(self, step: str) -> Path:
        """Everything that a process printed."""
        return self.root / "logs" / f"{step}.log"

    def failure(self, step: str) -> Path:
        """Why a step failed, in one paragraph; absent otherwise."""
        return self.root / "failures" / f"{step}.txt"

    def rows(self, contender: str) -> Path:
        """Embeddings float32 [n, dim] of the frames."""
        return self.root / "rows" / f"{contender}.npy"

    def why_missing(self, step: str) -> str:
        """Why a step's output is not there."""
        for path in (self.failure(step), self.failure("export")):
            if path.is_file():
                return path.read_text(encoding="utf-8")
        return f"{step} was not prepared"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_json(path: Path, document: dict[str, Any]) -> Path:
    """Write a JSON object, whole."""
    return write_whole(path, (json.dumps(document, indent=2) + "\n").encode())


def spec_from(document: dict[str, Any]) -> EngineSpec:
    """The spec that `asdict` and JSON made a document of."""
    geometry, buckets = Geometry(**document["geometry"]), tuple(document["buckets"])
    return EngineSpec(**document | {"geometry": geometry, "buckets": buckets})
