from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from reelsight.errors import ConfigError
from reelsight.media.sampler import Sampling, chosen, on_display, target_count, target_times


@pytest.mark.parametrize(
    ("rate", "end_s", "times"),
    [
        (1, 3.0, [0, 1, 2]),
        (1, 3.01, [0, 1, 2, 3]),
        (1, 0.1, [0]),
        (2, 1.2, [0, 0.5, 1.0]),
        (0.5, 5.0, [0, 2, 4]),
        (1, 2.0000000000000004, [0, 1]),
    ],
)
def test_fixed_rate_asks_from_zero_up_to_but_not_at_the_end(
    rate: float, end_s: float, times: list[float]
) -> None:
    assert list(target_times(Sampling("rate", rate=rate), end_s)) == pytest.approx(times)


def test_fixed_rate_with_an_unknown_end_never_stops() -> None:
    times = target_times(Sampling("rate", rate=4), None)
    assert list(itertools.islice(times, 5)) == [0, 0.25, 0.5, 0.75, 1]


def test_fixed_count_asks_for_the_midpoints_of_equal_intervals() -> None:
    assert list(target_times(Sampling("count", count=4), 8.0)) == [1, 3, 5, 7]
    assert list(target_times(Sampling("count", count=1), 3.0)) == [1.5]


def test_fixed_count_needs_an_end() -> None:
    with pytest.raises(ValueError, match="'count'"):
        target_times(Sampling("count"), None)


def test_on_display_is_the_last_frame_not_later_than_the_time() -> None:
    pts = [0.0, 0.4, 1.0, 1.0, 2.0]
    assert on_display(pts, [0.0, 0.39, 0.4, 0.99, 1.0, 5.0]) == [0, 0, 1, 1, 3, 4]
    assert on_display([0.5], [0.0]) == [0]


def test_a_stamp_rounded_up_by_half_a_tick_is_on_time() -> None:
    assert on_display([0.0, 0.333, 0.667], [2 / 3]) == [1]
    assert on_display([0.0, 0.333, 0.667], [2 / 3], slack_s=0.0005) == [2]


def test_times_ascend_lie_in_the_clip_and_are_as_many_as_counted() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        rate, count, end_s = rng.uniform(0.01, 60), rng.randrange(1, 300), rng.uniform(0.001, 100)
        for sampling in (Sampling("rate", rate=rate), Sampling("count", count=count)):
            times = list(target_times(sampling, end_s))
            assert len(times) == target_count(sampling, end_s) >= 1
            assert times == sorted(set(times))
            assert all(0 <= time < end_s for time in times)


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": "uniform"},
        {"rate": 0},
        {"rate": -1.0},
        {"rate": math.nan},
        {"rate": math.inf},
        {"policy": "count", "count": 0},
        {"accuracy": "rough"},
        {"every_s": -1.0},
        {"min_gap_s": 3.0, "max_gap_s": 3.0},
        {"max_gap_s": math.inf},
        {"threshold": 1.0},
    ],
)
def test_unusable_numbers_are_refused_with_their_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"got .*{list(fields.values())[-1]}"):
        Sampling(**fields)


def test_its_name_tells_the_policy_and_its_number() -> None:
    assert str(Sampling()) == "rate:1"
    assert str(Sampling("rate", rate=0.5)) == "rate:0.5"
    assert str(Sampling("count", count=12)) == "count:12"


NAMES = [
    *("rate:1", "rate:0.5", "count:12", "keyframe", "keyframe:2", "keyframe+fill:0.5"),
    *("scene:0.5-10:0.3", "scene:0-2.5:0.25", "rate:2@reference", "keyframe+fill:1@fast"),
    "rate:1e-05",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_reads_back_as_what_it_names(name: str) -> None:
    assert str(Sampling.parse(name)) == name


def test_numbers_may_be_left_out_of_a_name() -> None:
    assert Sampling.parse("rate") == Sampling()
    assert Sampling.parse("scene") == Sampling("scene")
    assert Sampling.parse("scene:1-4") == Sampling("scene", min_gap_s=1, max_gap_s=4)
    assert Sampling.parse("keyframe@fast") == Sampling("keyframe", accuracy="fast")


@pytest.mark.parametrize(
    "name",
    [
        *("", "uniform", "rate:", "rate:x", "rate:-1", "rate:1-2", "count:2.5", "keyframe:1-2"),
        *("scene:1", "scene:1-2-3", "rate:1@", "rate:1@rough", "rate:1 ", "rate:0", "scene:2-1"),
    ],
)
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        Sampling.parse(name)


def serving(name: str, pts: list[float], keys: list[float], end_s: float) -> list[float]:
    """pts of the picture that serves each time asked for; every other one is a reference."""
    key = np.isin(pts, keys)
    reference = np.arange(len(pts)) % 2 == 0
    found = chosen(Sampling.parse(name), np.array(pts), key, reference, end_s, 0.0)
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    return [pts[i] for _, i in found]


def test_keyframes_all_or_on_time() -> None:
    pts = [k / 10 for k in range(50)]
    assert serving("keyframe", pts, [0, 0.3, 2.9], 5) == [0, 0.3, 2.9]
    assert serving("keyframe:1", pts, [0, 0.3, 2.9], 5) == [0, 0.3, 0.3, 2.9, 2.9]


def test_fill_takes_the_nearest_keyframe_within_half_an_interval() -> None:
    pts = [k / 10 for k in range(50)]
    # 1 s is nearer to 1.3 than to 0.6; 2 s has none near; 3 s is served early, 4 s exactly.
    assert serving("keyframe+fill:1", pts, [0, 0.6, 1.3, 2.7, 4.0], 5) == [0, 1.3, 2.0, 2.7, 4.0]


def test_fill_takes_a_keyframe_on_display_however_long_ago_it_came() -> None:
    assert serving("keyframe+fill:1", [0, 0.2, 3.0], [0, 0.2], 4) == [0, 0.2, 0.2, 3.0]


def test_reference_takes_the_last_reference_picture() -> None:
    pts = [0, 0.9, 1.4, 1.9, 2.1]
    assert serving("rate:1", pts, [0], 3) == [0, 0.9, 1.9]
    assert serving("rate:1@reference", pts, [0], 3) == [0, 0, 1.4]


def test_fill_never_runs_backwards_and_keeps_its_bound() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        pts = np.cumsum(rng.uniform(0.01, 0.4, 80)) - 0.01
        pts[0] = 0
        keys = pts[rng.random(80) < 0.1]
        rate, end_s = float(rng.uniform(0.3, 5)), float(pts[-1] + 0.1)
        key = np.isin(pts, [0, *keys])
        found = chosen(Sampling("keyframe+fill", rate=rate), pts, key, key, end_s, 0.0)
        served = pts[[i for _, i in found]]
        assert (np.diff(served) >= 0).all()
        errors = np.abs(served - [time for time, _ in found])
        assert errors.max() <= max(0.5 / rate, np.diff(pts, append=end_s).max()) + 1e-9
