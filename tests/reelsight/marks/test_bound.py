"""The bound against exact probabilities, by counting every code, and against many codes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.marks.null import codes_of_nobody, null_tails, null_traces, statistic_at
from benchmarks.marks.power import statistics_of_frames
from reelsight.marks.bound import (
    binomial_log10_tail,
    chernoff_log10,
    chernoff_log10_many,
    hard_mismatches,
    largest_distance,
)
from reelsight.marks.power import chance_of_naming, power_of
from reelsight.nouns.mark_trace import Trials

EVERY_CODE = 2.0 * (np.arange(2**12)[:, None] >> np.arange(12) & 1) - 1


def exact_log10(soft: npt.NDArray[np.float64], t: float) -> float:
    reached = np.count_nonzero(EVERY_CODE @ soft >= t - 1e-9)
    return math.log10(reached / len(EVERY_CODE)) if reached else -math.inf


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_is_never_below_the_exact_probability(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-6, 6)
    soft = scale * rng.standard_t(1 + seed % 5, 12) + scale * (seed % 3)
    if seed % 4 == 0:
        soft[rng.random(12) < 0.3] = 0
    for t in np.sort(EVERY_CODE @ soft)[:: 2**12 // 50]:
        assert chernoff_log10(soft, t) >= exact_log10(soft, t) - 1e-9
    most = float(np.abs(soft).sum())
    assert chernoff_log10(soft, most) == pytest.approx(exact_log10(soft, most), abs=1e-9)


def test_the_bound_is_the_least_over_lambda() -> None:
    rng = np.random.default_rng(5)
    soft = rng.standard_normal(64) + 0.8
    t = 0.7 * float(np.abs(soft).sum())
    rates = np.exp(np.linspace(-8, 8, 20001))
    grid = [
        (-rate * t + np.logaddexp(rate * soft, -rate * soft).sum() - 64 * math.log(2))
        for rate in rates
    ]
    assert chernoff_log10(soft, t) == pytest.approx(min(grid) / math.log(10), abs=1e-5)


@pytest.mark.parametrize("t", [0.0, -1.0, -1e9])
def test_no_agreement_is_no_evidence(t: float) -> None:
    assert chernoff_log10([1.0, -2.0, 3.0], t) == 0
    assert chernoff_log10([0.0, 0.0], 0.0) == 0


def test_scale_does_not_matter() -> None:
    soft = np.random.default_rng(2).standard_normal(64)
    t = 0.6 * float(np.abs(soft).sum())
    values = [chernoff_log10(soft * 10.0**k, t * 10.0**k) for k in (-300, -30, 0, 30, 300)]
    assert values == pytest.approx([values[2]] * 5, rel=1e-9)


def test_bits_of_zero_are_no_evidence() -> None:
    soft = np.concatenate([np.ones(10), np.zeros(54)])
    assert chernoff_log10(soft, 10.0) == pytest.approx(-10 * math.log10(2))


def test_bits_that_a_sum_does_not_show_are_no_evidence() -> None:
    soft = np.concatenate([np.ones(12), np.full(52, 1e-15)])
    # The large bits agree, the others need not: one code in 2^12 reaches that.
    for t in (12.0, float(soft.sum()), 12 - 52e-15):
        assert chernoff_log10(soft, t) == pytest.approx(-12 * math.log10(2), abs=1e-6)


def test_pairs_are_judged_one_by_one() -> None:
    rng = np.random.default_rng(3)
    soft, t = rng.standard_normal((20, 64)), rng.uniform(0, 40, 20)
    one_by_one = [chernoff_log10(s, v) for s, v in zip(soft, t, strict=True)]
    assert chernoff_log10_many(soft, t) == pytest.approx(one_by_one, abs=1e-9)


def test_hard_bits_by_the_exact_binomial() -> None:
    assert binomial_log10_tail(64, 0) == pytest.approx(-64 * math.log10(2))
    assert binomial_log10_tail(64, 64) == pytest.approx(0)
    assert 10 ** binomial_log10_tail(4, 1) == pytest.approx(5 / 16)
    with pytest.raises(ValueError, match=r"0\.\.64"):
        binomial_log10_tail(64, 65)
    assert hard_mismatches([0.1, -2, 0.0, 3], [1, 1, 1, -1]) == 2


@pytest.mark.parametrize("bits", [64, 1000, 2048])
def test_the_tail_of_long_codes_is_that_of_whole_numbers(bits: int) -> None:
    for wrong in (0, 1, bits // 4, bits // 2, bits):
        ways = sum(math.comb(bits, j) for j in range(wrong + 1))
        exact = math.log10(ways) - bits * math.log10(2)
        assert binomial_log10_tail(bits, wrong) == pytest.approx(exact, abs=1e-9)


def test_power_of_two_hours_of_a_rotating_pad() -> None:
    bits = 64 * 3600
    power = power_of(bits, Trials(10**6, windows=2 * 3600 - 1), 1e-6)
    distance = largest_distance(bits, power.log10_p_needed)
    assert distance is not None
    assert binomial_log10_tail(bits, distance) <= power.log10_p_needed
    assert binomial_log10_tail(bits, distance + 1) > power.log10_p_needed
    assert power.detectable_error is not None
    assert 0.45 < power.detectable_error < distance / bits
    assert chance_of_naming(bits, bits, 0.5) == pytest.approx(1)
    assert (chance_of_naming(8, 2, 0.0), chance_of_naming(8, 2, 1.0)) == (1, 0)


@pytest.mark.parametrize(
    ("bits", "distances"),
    [
        (32, (None, None, None, None)),
        (48, (3, 1, None, 0)),
        (64, (7, 5, 2, 3)),
        (96, (17, 14, 10, 12)),
        (128, (28, 25, 20, 21)),
        (256, (77, 72, 65, 67)),
    ],
)
def test_the_largest_distance_that_accuses(bits: int, distances: tuple[int | None, ...]) -> None:
    cases = ((1e4, 1e-6), (1e6, 1e-6), (1e6, 1e-9), (1e8, 1e-6))
    found = [largest_distance(bits, math.log10(alpha / rows)) for rows, alpha in cases]
    assert found == list(distances)


@pytest.mark.parametrize(
    ("rate", "frames", "median"),
    [(0.3, 8, -14.9), (0.2, 4, -16.2), (0.4, 32, -14.4), (0.1, 1, -12.6), (0.3, 1, -3.4)],
)
def test_power_is_what_was_computed_when_the_design_was_made(
    rate: float, frames: int, median: float
) -> None:
    logs = statistics_of_frames(np.random.default_rng(1), rate, frames, 64, 400)
    # Another sample and another noise model than then: half a decade.
    assert float(np.median(logs)) == pytest.approx(median, abs=0.6)


@pytest.fixture(scope="module")
def codes() -> npt.NDArray[np.uint8]:
    return codes_of_nobody(200_000)


def test_innocent_codes_never_beat_the_bound(codes: npt.NDArray[np.uint8]) -> None:
    # `python -m benchmarks.marks` does the same with 1,000,000 codes and more suspects.
    for family in null_tails(codes, suspects=2, seed=7):
        for level in family["levels"]:
            allowed = level["codes"] * 10.0 ** level["log10_bound"]
            # Five sigmas above the most that the bound allows would be chance 3e-7 a case.
            assert level["reached"] <= allowed + 5 * math.sqrt(allowed) + 1, (family, level)
        # And it is a bound of the right size: within two decades where there is much to count.
        assert family["levels"][1]["observed_over_bound"] > 0.02, family


def test_whole_traces_of_unmarked_footage_name_nobody(codes: npt.NDArray[np.uint8]) -> None:
    found = null_traces(np.ascontiguousarray(codes[:, :2000]), traces=150, seed=3)
    assert found["at_or_below"]["1e-6"] == 0
    assert found["at_or_below"]["1e-3"] == 0
    # Bonferroni promises at most 15; at the bound's own slack there are far fewer.
    assert found["at_or_below"]["1e-1"] <= 30


def test_the_statistic_of_a_level_is_just_beyond_it() -> None:
    soft = np.random.default_rng(4).standard_normal(64)
    t = statistic_at(soft, -4)
    assert chernoff_log10(soft, t) <= -4 < chernoff_log10(soft, t * 0.999)
    assert statistic_at(np.ones(3), -4) == math.inf
