"""The gate of extractors: what it lets through, and extractors that are broken on purpose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.gate.judging import judge
from engines.gate.ladder import BuildOrder, build_gated
from engines.gate.mark_gate import MarkTruth, run_mark_gate
from engines.gate.mark_limits import MarkLimits, mark_limits_for
from engines.gate.mark_report import MarkReport
from engines.gate.thresholds import thresholds_for
from engines.package.directory import open_package
from engines.package.manifest import PackageManifest
from engines.package.registry import Registry
from engines.package.signing import Trust
from engines.package.strict_json import read
from engines.precision.calibration import Span
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import ladder, plan_named
from engines.runtimes.ort_cpu import OrtEngine
from reelsight.engine import Engine
from reelsight.errors import ConfigError, EngineError, PackageError
from tests.engines.gate.bent import Bent, Floats
from tests.engines.marks.conftest import Rehearsed

Limits = Callable[[str], MarkLimits]
Order = Callable[..., BuildOrder]
INT8 = "int8-fp32"


@pytest.fixture
def judged(rehearsed: Rehearsed, limits: Limits) -> Callable[[Engine], MarkReport]:
    return lambda engine: run_mark_gate(
        rehearsed.reference, engine, rehearsed.frames, rehearsed.truth, limits(INT8)
    )


def bent(rehearsed: Rehearsed, bend: Callable[[Floats], Floats]) -> Bent:
    return Bent(rehearsed.reference, bend)


def test_a_good_calibration_passes(order: Order, rehearsed: Rehearsed, tmp_path: Path) -> None:
    made = build_gated(order(INT8), rehearsed.reference, tmp_path)
    assert [(a.precision, a.outcome) for a in made.attempts] == [(INT8, "passed")]
    assert made.calibration is not None
    layers = made.details["layers"]
    assert layers["quantised"] == ["first", "joined_again", "spread_out"]
    assert layers["kept"]["cells"] == "the first convolution sees the pixels"
    report = made.gate
    assert isinstance(report, MarkReport)
    assert report.bits_before is not None
    assert report.bits_before > 0.95
    assert report.bits_lost == pytest.approx(0, abs=0.007)
    assert report.named_before == report.named_after == report.cases == 10
    assert made.spec.model_hash == rehearsed.reference.spec.model_hash
    assert made.spec.geometry.mode == "active"
    assert open_package(tmp_path, Trust()).manifest == made
    assert read(MarkReport, json.loads(json.dumps(asdict(report)))) == report


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        (1 / 40, "frames whose presence was decided as before: 0."),
        (600, "bit accuracy that marked frames lost: 0."),
        (600, "film1.mp4 at 0.0 s, "),
    ],
)
def test_a_shifted_calibration_is_stopped(
    order: Order, rehearsed: Rehearsed, shift: float, says: str, tmp_path: Path
) -> None:
    spans = rehearsed.calibration.spans
    shifted = replace(
        rehearsed.calibration,
        spans={n: Span(s.low * shift, s.high * shift, s.limit * shift) for n, s in spans.items()},
    )
    made = build_gated(order(INT8, calibration=shifted), rehearsed.reference, tmp_path)
    assert [(a.precision, a.outcome) for a in made.attempts] == [
        (INT8, "failed"),
        ("fp32", "passed"),
    ]
    words = "; ".join(made.attempts[0].reasons)
    assert says in words


def test_what_failed_is_not_published(order: Order, rehearsed: Rehearsed, tmp_path: Path) -> None:
    spans = rehearsed.calibration.spans
    shifted = replace(rehearsed.calibration, spans={n: Span(0, 1e6, 1e6) for n in spans})
    (tmp_path / "package").mkdir()
    wanted = order(INT8, calibration=shifted, fallback=False)
    build_gated(wanted, rehearsed.reference, tmp_path / "package")
    package = open_package(tmp_path / "package", Trust())
    assert package.manifest.refusal is not None
    assert "the gate stopped it: " in package.manifest.refusal
    with pytest.raises(PackageError) as caught:
        Registry(str(tmp_path / "registry"), Trust()).push(package)
    assert caught.value.code == "package.gate_failed"


def test_weights_that_overflow_are_stopped(
    rehearsed: Rehearsed, judged: Callable[[Engine], MarkReport], tmp_path: Path
) -> None:
    """Quantised as somebody would who forgets to clip: 200 becomes -56."""
    plan = plan_named(INT8)
    path = tmp_path / "int8.onnx"
    derive(rehearsed.model.image, plan, path, calibration=rehearsed.calibration)
    proto = onnx.load(str(path))
    wrapped = 0
    for tensor in proto.graph.initializer:
        content = numpy_helper.to_array(tensor)
        if content.dtype == np.int8 and content.ndim == 4:
            wide = content.astype(np.int32) * 200 // 127
            tensor.CopyFrom(numpy_helper.from_array(wide.astype(np.int8), tensor.name))
            wrapped += 1
    assert wrapped == 3
    onnx.save(proto, str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(rehearsed.reference.spec, precision=INT8, onnx_sha256=digest)
    engine = OrtEngine(spec, path)
    report = judged(engine)
    engine.close()
    assert not report.passed
    assert any("the copy is named no longer" in reason for reason in report.reasons)


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (lambda rows: np.where(np.arange(65) == 64, -rows, rows), "presence was decided"),
        (lambda rows: np.where(np.arange(65) < 2, -rows, rows), "bit accuracy that marked"),
        (lambda rows: np.where(np.arange(65) < 1, rows * 50, rows), "mean cosine of soft bits"),
        (lambda rows: rows * np.float32(np.nan), "NaN or infinite"),
        (lambda rows: rows if len(rows) == 4 else rows * 0 - 1, "in batches of 16"),
    ],
)
def test_what_else_is_stopped(
    rehearsed: Rehearsed,
    judged: Callable[[Engine], MarkReport],
    bend: Callable[[Floats], Floats],
    says: str,
) -> None:
    report = judged(bent(rehearsed, bend))
    assert not report.passed
    assert any(says in reason for reason in report.reasons), report.reasons
    report.require_consistent()


def test_the_same_bits_at_another_scale_pass(
    rehearsed: Rehearsed, judged: Callable[[Engine], MarkReport]
) -> None:
    report = judged(bent(rehearsed, lambda rows: rows * np.float32(1.5)))
    assert report.passed
    assert report.log10_p == pytest.approx(0, abs=1e-6)
    assert report.soft == pytest.approx(1)


def test_comparisons_that_would_say_nothing(rehearsed: Rehearsed, limits: Limits) -> None:
    frames, truth, reference = rehearsed.frames, rehearsed.truth, rehearsed.reference

    def refused(*args: object) -> str:
        with pytest.raises((ConfigError, EngineError)) as caught:
            judge(*args)  # type: ignore[arg-type]
        return caught.value.code

    own = limits(INT8)
    deaf = bent(rehearsed, lambda rows: rows * 0 + np.float32(0.5))
    assert refused(deaf, reference, frames, truth, own) == "gate.unreadable_marks"
    broken = bent(rehearsed, lambda rows: rows * np.float32(np.nan))
    assert refused(broken, reference, frames, truth, own) == "gate.bad_reference"
    few = FrameSet(frames.frames[:8])
    assert refused(reference, reference, few, truth, own) == "gate.too_few_frames"
    assert refused(reference, reference, frames, truth, thresholds_for(INT8)) == "gate.other_limits"
    half = MarkTruth(truth.codes[:8], truth.marked[:8], truth.cases[:8])
    assert refused(reference, reference, frames, half, own) == "gate.bad_marks"
    none = MarkTruth(truth.codes, truth.marked & False, truth.cases)
    assert refused(reference, reference, frames, none, own) == "gate.bad_marks"
    with pytest.raises(ConfigError, match="do not carry the same"):
        MarkTruth(truth.codes, truth.marked, ("one",) * len(truth.cases))


def test_a_report_is_checked_not_believed(
    order: Order, rehearsed: Rehearsed, tmp_path: Path
) -> None:
    made = build_gated(order("fp32"), rehearsed.reference, tmp_path)
    assert isinstance(made.gate, MarkReport)
    for changed in (
        replace(made.gate, bits_after=0.5),
        replace(made.gate, presence=None),
        replace(made.gate, worst_cases=()),
        replace(made.gate, reasons=("bad",)),
    ):
        with pytest.raises(PackageError) as caught:
            PackageManifest.from_bytes(replace(made, gate=changed).to_bytes(), "p")
        assert caught.value.code == "package.malformed"
    squash = replace(made.spec, geometry=replace(made.spec.geometry, mode="squash"))
    gate = replace(made.gate, engine=squash.hash)
    with pytest.raises(PackageError, match="another kind of engine"):
        PackageManifest.from_bytes(replace(made, spec=squash, gate=gate).to_bytes(), "p")


@pytest.mark.parametrize("first", ["int8", "int8-fp32", "fp8", "fp16", "bf16"])
def test_limits_do_not_grow_down_the_ladder(first: str) -> None:
    rungs = [mark_limits_for(plan.name) for plan in ladder(first)]
    for upper, lower in pairwise(rungs):
        assert lower.laxer_than(upper) == []
    assert rungs[0].laxer_than(rungs[-1]) != []
    assert replace(rungs[-1], bits=float("nan")).laxer_than(rungs[-1]) == ["bits"]
