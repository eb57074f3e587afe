from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reelsight.errors import ConfigError, MarkError
from reelsight.marks.policy import Marking
from reelsight.marks.pool import pool
from reelsight.nouns.mark import SoftBits
from tests.reelsight.marks.made_copies import soft_bits

MARKING = Marking()


def test_frames_are_weighed_by_quality_and_summed_by_segment() -> None:
    soft = np.arange(12.0).reshape(6, 2) - 6
    frames = replace(soft_bits(soft), quality=np.array([1, 0, 1, 3, 1, 0], dtype=np.float32))
    pooled = pool(frames, replace(MARKING, segment_s=1.0))
    assert pooled.weights == pytest.approx([4 / 6, 0, 4 / 6, 2, 4 / 6, 0])
    assert pooled.used == 4
    assert pooled.edges == pytest.approx([0, 1, 2, 3])
    weighed = soft * pooled.weights[:, None]
    assert pooled.sums == pytest.approx(weighed.reshape(3, 2, 2).sum(axis=1))
    assert pooled.total == pytest.approx(weighed.sum(axis=0))


def test_outliers_are_limited() -> None:
    soft = np.ones((10, 4))
    soft[3, 1] = -1000
    pooled = pool(soft_bits(soft), MARKING)
    assert pooled.total == pytest.approx([10, 9 - MARKING.clip_at, 10, 10])


def test_unmarked_footage_gives_the_bias_that_is_taken_off() -> None:
    soft = np.tile([1.5, -0.5], (8, 1))
    pooled = pool(soft_bits(soft), MARKING, null_mean=np.array([1.0, -1.0]))
    assert pooled.total == pytest.approx([4, 4])
    with pytest.raises(MarkError, match="calibration"):
        pool(soft_bits(soft), MARKING, null_mean=np.zeros(3))


@pytest.mark.parametrize(
    ("count", "segments"), [(1, 1), (2, 1), (5, 1), (6, 2), (9, 2), (64, 16), (5000, 32)]
)
def test_segments_cover_the_timeline_and_are_not_too_many(count: int, segments: int) -> None:
    frames = soft_bits(np.ones((count, 8)))
    pooled = pool(frames, MARKING)
    assert len(pooled.sums) == len(pooled.edges) - 1 == segments
    assert pooled.edges[0] == 0
    assert pooled.edges[-1] >= frames.pts[-1]
    assert pooled.total == pytest.approx(np.full(8, count))


def test_segments_of_a_rotating_pad_begin_at_the_begin_of_the_asset() -> None:
    frames = soft_bits(np.ones((9, 8)))  # 0 to 4 s, two a second
    shifted = replace(frames, pts=frames.pts + 2.5)
    pooled = pool(shifted, MARKING, segment_s=2.0)
    assert pooled.edges == pytest.approx([0, 2, 4, 6, 8])
    assert pooled.sums[:, 0] == pytest.approx([0, 3, 4, 2])


def test_no_frames_and_no_usable_frames() -> None:
    empty = pool(soft_bits(np.zeros((0, 8))), MARKING)
    assert (empty.used, empty.presence, empty.total.tolist()) == (0, 0.0, [0.0] * 8)
    frames = soft_bits(np.ones((4, 8)))
    useless = pool(replace(frames, quality=np.zeros(4, dtype=np.float32)), MARKING)
    assert (useless.used, useless.presence, useless.total.tolist()) == (0, 0.0, [0.0] * 8)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"soft": np.zeros(4, dtype=np.float32)}, "shape"),
        ({"pts": np.zeros(3)}, "3 pts"),
        ({"soft": np.full((4, 8), np.nan, dtype=np.float32)}, "finite"),
        ({"pts": np.array([0.0, 1, 0, 2])}, "ascend"),
        ({"quality": np.array([1, -1, 1, 1], dtype=np.float32)}, "qualities"),
    ],
)
def test_soft_bits_that_are_none(wrong: dict[str, np.ndarray], says: str) -> None:
    good: SoftBits = soft_bits(np.ones((4, 8)))
    with pytest.raises(ValueError, match=says):
        replace(good, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 32},
        {"identified": 0.01},
        {"probable": 1.0},
        {"segment_s": 0.0},
        {"clip_at": float("inf")},
        {"max_segments": 0},
        {"ledger_wait_s": -1.0},
    ],
)
def test_policies_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"marks\."):
        replace(MARKING, **wrong)  # type: ignore[arg-type]
