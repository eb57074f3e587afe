"""Towers, frames and runs as the file says: what precision is tested with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reelsight.models
from engines.precision.calibration import Calibration, calibrate
from engines.precision.frameset import FrameSet, degraded
from reelsight.media.pixels import resize_rgb
from reelsight.nouns.engine_spec import Geometry
from reelsight.samples import compose

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'reelsight[export]'")

from tests.engines.precision import handmade

Floats = npt.NDArray[np.float32]
Run = Callable[[Path, FrameSet], Floats]


def scenes(n: int, size: int, seed: int) -> FrameSet:
    """Sample scenes, the second half of them degraded."""
    rng = np.random.default_rng(seed)
    drawn = [compose(rng, None, (224, 224), None, float(rng.random()))[0] for _ in range(n)]
    if size != 224:
        drawn = [resize_rgb(frame, Geometry(size)) for frame in drawn]
    clean = FrameSet(np.stack(drawn))
    half = FrameSet(clean.frames[: n // 2])
    return half.joined(degraded(FrameSet(clean.frames[n // 2 :]), seed))


@pytest.fixture(scope="session")
def mini() -> Path:
    """The shipped tower: a ResNet with an attention pool."""
    return reelsight.models.MINI / "image.onnx"


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade.vit(tmp_path_factory.mktemp("vit") / "vit.onnx")


@pytest.fixture(scope="session")
def tower(mini: Path, vit: Path) -> Callable[[str], Path]:
    return lambda name: {"mini": mini, "vit": vit}[name]


@pytest.fixture(scope="session")
def frames() -> Callable[[str], FrameSet]:
    """Calibration frames at a tower's size."""
    made = {"mini": scenes(32, 224, 1), "vit": scenes(64, handmade.SIZE, 2)}
    return lambda name: made[name]


@pytest.fixture(scope="session")
def unseen() -> Callable[[str], FrameSet]:
    """Frames that no calibration saw."""
    made = {"mini": scenes(16, 224, 3), "vit": scenes(32, handmade.SIZE, 4)}
    return lambda name: made[name]


@pytest.fixture(scope="session")
def calibration(
    tower: Callable[[str], Path],
    frames: Callable[[str], FrameSet],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Calibration]:
    cache = tmp_path_factory.mktemp("calibrations")
    return lambda name: calibrate(tower(name), frames(name), "minmax", cache)


@pytest.fixture(scope="session")
def run() -> Run:
    """Embeddings by ONNX Runtime with the graph exactly as it is in the file.

    Its optimisers are off: one of them quantises biases that the file does not, and with scales in
    FP16 or values in FP8 it does so wrongly; another crashes on transformers in FP16.
    """
    import onnxruntime

    def embed(path: Path, frames: FrameSet) -> Floats:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        parts: list[Any] = [
            session.run(["embedding"], {"frames": frames.frames[at : at + 8]})[0]
            for at in range(0, len(frames), 8)
        ]
        rows: Floats = np.concatenate(parts)
        return rows

    return embed
