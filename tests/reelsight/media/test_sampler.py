from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from reelsight.errors import ConfigError
from reelsight.media.sampler import Sampling, on_display, target_count, target_times


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
        {"policy": "keyframe"},
        {"rate": 0},
        {"rate": -1.0},
        {"rate": math.nan},
        {"rate": math.inf},
        {"policy": "count", "count": 0},
    ],
)
def test_unusable_numbers_are_refused_with_their_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"got .*{list(fields.values())[-1]}"):
        Sampling(**fields)


def test_its_name_tells_the_policy_and_its_number() -> None:
    assert str(Sampling()) == "rate:1"
    assert str(Sampling("rate", rate=0.5)) == "rate:0.5"
    assert str(Sampling("count", count=12)) == "count:12"
