from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from reelsight.marks.multiplicity import (
    adjusted_log10,
    joint_pair_log10,
    look_share,
    window_share,
)
from reelsight.marks.power import chance_of_naming, power_of
from reelsight.nouns.mark_trace import Trials


def test_shares_of_all_looks_and_of_all_windows_are_no_more_than_one() -> None:
    assert math.fsum(look_share(k) for k in range(1, 200_000)) == pytest.approx(1, abs=1e-5)
    assert math.fsum(look_share(k) for k in range(1, 200_000)) < 1
    for windows in (1, 3, 5, 63):
        others = window_share(windows, whole=False) * (windows - 1) if windows > 1 else 0
        assert window_share(windows, whole=True) + others == pytest.approx(1)
    with pytest.raises(ValueError, match="looks count from 1"):
        look_share(0)


def test_everything_that_was_tried_is_multiplied() -> None:
    trials = Trials(rows=1000, attempts=10)
    assert adjusted_log10(-12, trials) == pytest.approx(-8)
    assert adjusted_log10(-12, replace(trials, tried_before=90)) == pytest.approx(-7)
    assert adjusted_log10(-12, replace(trials, windows=3)) == pytest.approx(-8 + math.log10(2))
    assert adjusted_log10(-12, replace(trials, suspects=1000)) == pytest.approx(-5)
    several = replace(trials, windows=11)
    assert adjusted_log10(-12, several, whole=False) == pytest.approx(-8 + math.log10(20))
    third = replace(trials, look=3)
    assert adjusted_log10(-12, third) == pytest.approx(-8 + math.log10(math.pi**2 * 9 / 6))
    assert adjusted_log10(-1, trials) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": -1},
        {"attempts": 0},
        {"windows": 0},
        {"look": -1},
        {"tried_before": -1},
        {"suspects": 0},
    ],
)
def test_nothing_is_tried_less_than_never(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="less than never"):
        replace(Trials(rows=5), **wrong)


def test_pairs_of_innocents_are_as_rare_as_is_said() -> None:
    # 2000 ledgers of 40 innocents with exact p-values: the second best of each, as a pair.
    rng = np.random.default_rng(1)
    second = np.sort(rng.random((2000, 40)), axis=1)[:, 1]
    joint = np.array([joint_pair_log10(float(np.log10(p)), Trials(rows=40)) for p in second])
    for alpha in (0.3, 0.1, 0.03):
        named = np.count_nonzero(joint <= math.log10(alpha))
        assert named <= 2000 * alpha + 5 * math.sqrt(2000 * alpha)
    assert joint_pair_log10(-9.6, Trials(rows=10**6)) == pytest.approx(-19.2 + 11.699, abs=0.01)


def test_power_is_stated_by_the_exact_binomial() -> None:
    power = power_of(64, Trials(rows=10**6), 1e-6)
    assert power.log10_p_needed == pytest.approx(-12)
    assert power.table[0] == (0.0, 1.0)
    # Five wrong bits of 64 are allowed.
    assert chance_of_naming(64, 5, 0.05) == pytest.approx(
        sum(math.comb(64, j) * 0.05**j * 0.95 ** (64 - j) for j in range(6))
    )
    assert power.detectable_error is not None
    assert chance_of_naming(64, 5, power.detectable_error) >= 0.95
    assert chance_of_naming(64, 5, power.detectable_error + 0.001) < 0.95


def test_a_code_that_is_too_short_has_no_power() -> None:
    power = power_of(32, Trials(rows=10**4), 1e-6)
    assert power.detectable_error is None
    assert {chance for _, chance in power.table} == {0.0}
