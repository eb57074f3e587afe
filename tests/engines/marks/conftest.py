"""An extractor of convolutions, what encoders left of its marks, and its calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engines.gate.ladder import BuildOrder
from engines.gate.mark_gate import MarkTruth
from engines.gate.mark_limits import MarkLimits, mark_limits_for
from engines.marks.reader import reader_master
from engines.precision.calibration import Calibration, calibrate
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_backend import OrtBackend
from engines.runtimes.ort_marks import OrtMarkReader, open_pair
from reelsight.copies.rehearsal import Take, rehearse
from reelsight.media.limits import MediaLimits
from reelsight.nouns.model import Model
from tests.made_films import Film, write_film
from tests.reference_pair import write_pair

BUCKETS = (4, 16)
STRENGTH_DB = 36.0


@dataclass(frozen=True)
class Rehearsed:
    """A pair's extractor with everything that judges its engines."""

    pair: Path
    model: Model
    reference: OrtMarkReader
    frames: FrameSet
    truth: MarkTruth
    calibration: Calibration


def frames_of(takes: list[Take]) -> tuple[FrameSet, MarkTruth]:
    luma = np.concatenate([take.luma for take in takes])
    none = np.zeros(64, np.uint8)
    rows = [none if t.code is None else t.code.astype(np.uint8) for t in takes for _ in t.luma]
    marked = np.array([take.code is not None for take in takes for _ in take.luma])
    cases = tuple(take.case for take in takes for _ in take.luma)
    truth = MarkTruth(np.stack(rows), marked, cases)
    return FrameSet(np.repeat(luma[..., None], 3, axis=-1)), truth


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    home = tmp_path_factory.mktemp("rehearsed")
    pair = write_pair(home / "pair", convolutions=True)
    opened = open_pair(pair, buckets=BUCKETS)
    halves: list[list[Take]] = []
    for seed in (1, 2):
        film = write_film(home / f"film{seed}.mp4", Film(seed=seed, width=426, height=240))
        limits = MediaLimits()
        found = rehearse(film, opened.writer, limits, strength_db=STRENGTH_DB, seed=seed)
        halves.append(list(found))
    reference = OrtMarkReader(opened.pair, buckets=BUCKETS)
    model = reader_master(opened.pair, reference.spec, home / "master")
    frames, truth = frames_of(halves[0])
    seen, _ = frames_of(halves[1])
    yield Rehearsed(
        pair=pair,
        model=model,
        reference=reference,
        frames=frames,
        truth=truth,
        calibration=calibrate(model.image, seen, "minmax", home / "calibrations"),
    )
    reference.close()
    opened.reader.close()


@pytest.fixture(scope="session")
def limits(rehearsed: Rehearsed) -> Callable[[str], MarkLimits]:
    """The real limits, but for how many frames there have to be."""
    return lambda name: replace(mark_limits_for(name), min_frames=len(rehearsed.frames))


@pytest.fixture
def order(rehearsed: Rehearsed, limits: Callable[[str], MarkLimits]) -> Callable[..., BuildOrder]:
    def make(precision: str, **changes: object) -> BuildOrder:
        made = BuildOrder(
            model=rehearsed.model,
            precision=precision,
            backend=OrtBackend("onnxruntime-cpu"),
            buckets=BUCKETS,
            frames=rehearsed.frames,
            bank=rehearsed.truth,
            frames_words="takes",
            calibration=rehearsed.calibration,
            thresholds=limits,
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    return make
