"""The gate on a real engine, and on the same engine broken in known ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engines.gate.gate import embed_frames, run_gate
from engines.gate.measures import margins
from engines.gate.report import GateReport
from engines.gate.thresholds import MIN_FRAMES, Thresholds, thresholds_for
from engines.package.strict_json import read
from engines.precision.frameset import FrameSet
from engines.precision.plan import PLANS, ladder
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.engine import Engine, FakeEngine, fake_spec
from reelsight.errors import BankError, ConfigError, EngineError
from reelsight.nouns.label_bank import LabelBank
from tests.engines.gate.bent import Bent

Floats = npt.NDArray[np.float32]
Limits = Callable[[str], Thresholds]
Judge = Callable[[Engine, LabelBank, Thresholds], GateReport]


def unit(rows: Floats) -> Floats:
    result: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return result


@pytest.fixture(scope="module")
def rows(reference: OrtCpuEngine, frames: FrameSet) -> Floats:
    return embed_frames(reference, frames.frames)


@pytest.fixture(scope="module")
def judge(reference: OrtCpuEngine, frames: FrameSet, rows: Floats) -> Judge:
    """The gate with the reference's rows at hand."""
    return lambda engine, bank, limits: run_gate(
        reference, engine, frames, bank, limits, reference_rows=rows
    )


def test_the_master_agrees_with_itself(
    reference: OrtCpuEngine, frames: FrameSet, bank: LabelBank, limits: Limits
) -> None:
    report = run_gate(reference, reference, frames, bank, limits("fp32"), frames_words="scenes")
    assert report.passed
    assert report.stands_alone
    assert (report.decisions, report.shown, report.top1, report.topk) == (1, 1, 1, 1)
    assert report.centred_cosine is not None
    assert report.centred_cosine.min > 0.99999
    assert (report.frames, report.frames_sha256) == (len(frames), frames.sha256)
    assert (report.bank_hash, report.engine) == (bank.hash, reference.spec.hash)
    assert read(GateReport, json.loads(json.dumps(asdict(report)))) == report


def test_padding_does_not_change_a_row(reference: OrtCpuEngine, frames: FrameSet) -> None:
    whole = embed_frames(reference, frames.frames)
    assert np.allclose(embed_frames(reference, frames.frames[:5]), whole[:5], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_frame_that_is_not_finite_stops_it(
    reference: OrtCpuEngine,
    frames: FrameSet,
    bank: LabelBank,
    limits: Limits,
    judge: Judge,
    value: float,
) -> None:
    def bend(rows: Floats) -> Floats:
        rows[0, 7] = value
        return rows

    report = judge(Bent(reference, bend), bank, limits("int8"))
    assert not report.passed
    assert report.reasons == (
        f"4 of {len(frames)} frames came out NaN or infinite, in batches of 8, 32",
    )
    assert report.decisions is None


@pytest.mark.parametrize("bad", [8, 32])
def test_every_bucket_is_judged(
    reference: OrtCpuEngine, bank: LabelBank, limits: Limits, judge: Judge, bad: int
) -> None:
    """A compiler makes a program for each batch size; one of them can be wrong alone."""

    def nan(rows: Floats) -> Floats:
        return np.full_like(rows, np.nan) if len(rows) == bad else rows

    report = judge(Bent(reference, nan), bank, limits("int8"))
    assert report.reasons == (f"24 of 48 frames came out NaN or infinite, in batches of {bad}",)

    def noisy(rows: Floats) -> Floats:
        noise = np.random.default_rng(3).normal(0, 0.012, rows.shape).astype(np.float32)
        return unit(rows + noise) if len(rows) == bad else rows

    lax = replace(
        limits("int8"), decisions=0, shown=0, top1=0, topk=0, centred_mean=-1, centred_p1=-1
    )
    spread = judge(Bent(reference, noisy), bank, lax).centred_cosine
    assert spread is not None
    # Half the frames went through the bad bucket: its own mean is twice as far from 1.
    between = 1 - 1.5 * (1 - spread.mean)
    report = judge(Bent(reference, noisy), bank, replace(lax, centred_mean=between))
    assert f"mean centred cosine in batches of {bad}: 0." in report.reasons[0]


def test_an_engine_that_says_the_same_of_everything_is_stopped(
    reference: OrtCpuEngine, frames: FrameSet, bank: LabelBank, limits: Limits, judge: Judge
) -> None:
    mean = embed_frames(reference, frames.frames).mean(axis=0, keepdims=True)
    same = Bent(reference, lambda rows: unit(np.repeat(mean, len(rows), axis=0)))
    report = judge(same, bank, limits("int8"))
    assert not report.passed
    assert report.decisions is not None
    # Decisions alone would nearly let it through: most labels are absent from most frames.
    assert report.decisions > 0.9
    words = " ".join(report.reasons)
    assert "centred cosine" in words
    assert "frames whose best label stayed" in words
    assert f"{report.worst_labels[0].label} (" in words


def test_small_noise_passes_and_large_noise_does_not(
    reference: OrtCpuEngine, frames: FrameSet, bank: LabelBank, limits: Limits, judge: Judge
) -> None:
    def noisy(size: float) -> GateReport:
        rng = np.random.default_rng(3)
        engine = Bent(
            reference,
            lambda rows: unit(rows + rng.normal(0, size, rows.shape).astype(np.float32)),
        )
        return judge(engine, bank, limits("fp16"))

    assert noisy(1e-5).passed
    assert not noisy(0.03).passed


def test_what_says_nothing_is_an_error(
    reference: OrtCpuEngine, frames: FrameSet, bank: LabelBank, limits: Limits
) -> None:
    few = FrameSet(frames.frames[:8])
    with pytest.raises(ConfigError, match=f"needs {MIN_FRAMES} frames, got 8") as caught:
        run_gate(reference, reference, few, bank, thresholds_for("fp16"))
    assert caught.value.code == "gate.too_few_frames"
    alike = FrameSet(np.repeat(frames.frames[:1], len(frames), axis=0))
    with pytest.raises(ConfigError) as caught:
        run_gate(reference, reference, alike, bank, limits("fp16"))
    assert caught.value.code == "gate.frames_alike"
    small = FrameSet(frames.frames[:, ::2, ::2])
    with pytest.raises(ConfigError) as caught:
        run_gate(reference, reference, small, bank, limits("fp16"))
    assert caught.value.code == "gate.bad_frames"
    broken = Bent(reference, lambda rows: np.full_like(rows, np.nan))
    with pytest.raises(EngineError) as failed:
        run_gate(broken, reference, frames, bank, limits("fp16"))
    assert failed.value.code == "gate.bad_reference"
    fake = FakeEngine(fake_spec(224))
    with pytest.raises(ConfigError) as caught:
        run_gate(fake, reference, frames, bank, limits("fp16"))
    assert caught.value.code == "gate.other_model"
    with pytest.raises(BankError, match="belongs to model"):
        run_gate(fake, fake, frames, bank, limits("fp16"))


@pytest.mark.parametrize("first", PLANS)
def test_no_rung_is_held_to_less_than_the_one_above_it(first: str) -> None:
    """The limits of a higher precision let through nothing that the lower one's would not."""
    rungs = [thresholds_for(plan.name) for plan in ladder(first)]
    for above, below in pairwise(rungs):
        assert below.laxer_than(above) == []
    assert rungs[0].min_frames == MIN_FRAMES


def test_limits_are_compared_field_by_field() -> None:
    limit = thresholds_for("fp16")
    assert limit.laxer_than(limit) == []
    for name in ("decisions", "shown", "top1", "topk", "centred_mean", "centred_p1", "min_frames"):
        lower: dict[str, Any] = {name: 0}
        assert replace(limit, **lower).laxer_than(limit) == [name]
    for name in ("critical_changed", "rerun_share"):
        higher: dict[str, Any] = {name: 1.0}
        assert replace(limit, **higher).laxer_than(limit) == [name]
    assert replace(limit, k=1).laxer_than(limit) == ["k"]


def test_a_precision_without_limits_is_refused() -> None:
    with pytest.raises(ConfigError):
        thresholds_for("int4")


@pytest.fixture(scope="module")
def pushed(reference: OrtCpuEngine, frames: FrameSet, bank: LabelBank) -> tuple[int, Bent]:
    """A label that some frame nearly shows, and an engine that shows it there."""
    nearly = margins(embed_frames(reference, frames.frames), bank)
    nearly[nearly > -1e-3] = -np.inf
    label = int(nearly.max(axis=0).argmax())
    step = np.float32(1.2 * -nearly.max())
    return label, Bent(reference, lambda rows: unit(rows + step * bank.matrix[label]))


@pytest.fixture
def lax(limits: Limits) -> Thresholds:
    """Limits that leave critical labels alone to decide."""
    return replace(
        limits("int8"), decisions=0.9, shown=0, top1=0, topk=0, centred_mean=0, centred_p1=-1
    )


def criticals(bank: LabelBank, *chosen: int) -> LabelBank:
    labels = [replace(label, critical=i in chosen) for i, label in enumerate(bank.labels)]
    return replace(bank, labels=tuple(labels))


def test_a_critical_label_is_named_with_the_frames_to_run_again(
    reference: OrtCpuEngine,
    frames: FrameSet,
    bank: LabelBank,
    lax: Thresholds,
    judge: Judge,
    pushed: tuple[int, Bent],
) -> None:
    label, engine = pushed
    assert judge(engine, bank, lax).stands_alone
    critical = criticals(bank, label)
    report = judge(engine, critical, replace(lax, rerun_share=0.5))
    assert report.passed
    assert not report.stands_alone
    (rerun,) = report.needs_higher_precision
    assert rerun.label == bank.labels[label].name
    assert any(w.label == rerun.label and w.critical and w.changed for w in report.worst_labels)
    # What a server must do with it: run the frames in the band again, and nothing else changes.
    before = margins(embed_frames(reference, frames.frames), critical)[:, label]
    after = margins(embed_frames(engine, frames.frames), critical)[:, label]
    # Rows of different batch sizes differ by rounding.
    band = np.abs(after) <= rerun.margin + 1e-6
    assert 0 < band.mean() == pytest.approx(rerun.share, abs=1 / len(frames))
    assert rerun.share < 0.5
    assert np.array_equal(np.where(band, before, after) >= 0, before >= 0)
    assert not np.array_equal(after >= 0, before >= 0)
    assert read(GateReport, json.loads(json.dumps(asdict(report)))) == report


def test_a_critical_label_with_too_many_frames_to_run_again_stops_it(
    reference: OrtCpuEngine,
    frames: FrameSet,
    bank: LabelBank,
    lax: Thresholds,
    judge: Judge,
    pushed: tuple[int, Bent],
) -> None:
    label, engine = pushed
    strict = replace(lax, rerun_share=0.0)
    report = judge(engine, criticals(bank, label), strict)
    assert not report.passed
    assert f"critical label {bank.labels[label].name} was decided otherwise" in report.reasons[0]
    other = criticals(bank, (label + 1) % len(bank))
    assert judge(reference, other, strict).passed
