"""Frames, a bank and the FP32 master: what the gate judges with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

import reelsight.models
from engines.gate.thresholds import Thresholds, thresholds_for
from engines.precision.frameset import FrameSet, degraded
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.labels import BANK_SUFFIX, load_bank
from reelsight.media.pixels import resize_rgb
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.model import Model
from reelsight.samples import compose

FRAMES = 48


@pytest.fixture(scope="session")
def model() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture(scope="session")
def bank(model: Model) -> LabelBank:
    return load_bank(model.directory / f"labels{BANK_SUFFIX}")


@pytest.fixture(scope="session")
def frames(model: Model) -> FrameSet:
    """Scenes and a degraded copy of each."""
    scenes = []
    for seed in range(FRAMES // 2):
        picture, _ = compose(np.random.default_rng([5, seed]), None, (270, 480))
        scenes.append(resize_rgb(np.ascontiguousarray(picture), model.geometry))
    clean = FrameSet(np.stack(scenes))
    return clean.joined(degraded(clean, 3))


@pytest.fixture(scope="session")
def reference(model: Model) -> Iterator[OrtCpuEngine]:
    engine = OrtCpuEngine(model, buckets=(8, 32))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def limits() -> Callable[[str], Thresholds]:
    """The real limits, for as few frames as a test has time for."""
    return lambda precision: replace(thresholds_for(precision), min_frames=FRAMES)
