"""Agreement of low precisions on trained weights: python -m benchmarks.engines.trained.

Two models of trained weights run at every precision on the torch compiler's backend, on frames
that neither training nor calibration saw, and are judged by the gate against their FP32 masters on
ONNX Runtime: the shipped convolutional reelsight-mini, and a ViT distilled from it (see `distil`).
Beside the gate's figures stands the mean average precision against the known truth. Stages leave
their results in --work, so a run that was cut off goes on where it stopped; other options need
another --work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

# First: it declares packages whose own imports a machine with little installed cannot follow.
from benchmarks.engines.distil import (
    SETS,
    Frames,
    Recipe,
    clock,
    compose_sets,
    distil,
    say,
    set_clock,
    trained_already,
)
from benchmarks.engines.machine import machine, versions
from engines.backend import BuildRequest, BuildWatch
from engines.gate.gate import embed_frames, run_gate
from engines.gate.measures import margins
from engines.gate.report import GateReport
from engines.gate.thresholds import thresholds_for
from engines.inductor.backend import InductorBackend
from engines.precision.calibration import Calibration, Method, calibrate
from engines.precision.derive import Derived, derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import PrecisionPlan, plan_named
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.errors import ReelsightError
from reelsight.labels.bank_file import load_bank
from reelsight.models import MINI
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.model import Model
from training.mini.scoring import average_precision

__all__ = ["main"]

Floats = npt.NDArray[np.float32]

_REFERENCE_BUCKET = 32


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured.

    Attributes:
        key: Its name in the results.
        model: Its directory.
        bank: Its label bank.
        weights: Where the weights come from, for people.
    """

    key: str
    model: Path
    bank: Path
    weights: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measurements share; picklable.

    Attributes:
        work: Where stages leave their results.
        method: How ranges for 8 bits are chosen.
        bucket: Batch size of the engines.
        min_frames: Frames below which the gate refuses to judge; None for the gate's own.
        threads: CPU threads of what runs alone.
        threads_beside: Of each of the precisions that are measured at once.
    """

    work: Path
    method: Method
    bucket: int
    min_frames: int | None
    threads: int
    threads_beside: int


def _prepare(subject: Subject, setting: Setting) -> None:
    """The reference's embeddings of the held-out frames, which every precision is judged by."""
    work = _place(subject, setting)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "reference.npy").exists():
        engine = OrtCpuEngine(
            Model.load(subject.model), buckets=(_REFERENCE_BUCKET,), threads=setting.threads
        )
        rows = embed_frames(engine, Frames.load(setting.work, "heldout").pixels)
        np.save(work / "reference.part.npy", rows)
        (work / "reference.part.npy").replace(work / "reference.npy")
        say(f"{subject.key}: reference ran {len(rows)} frames")


def _ranges(model: Model, setting: Setting, plan: PrecisionPlan, cache: Path) -> Calibration | None:
    """Ranges where the plan uses them; what overflows in FP16 shows in the plain ones."""
    if not plan.needs_calibration and plan.floats != "fp16":
        return None
    method = "minmax" if plan.quantised is None else setting.method
    frames = FrameSet(Frames.load(setting.work, "calibration").pixels)
    return calibrate(model.image, frames, method, cache, threads=setting.threads_beside)


def _place(subject: Subject, setting: Setting) -> Path:
    # By the model's hash: figures of a student that was trained anew are not those of the old one.
    return setting.work / "measured" / f"{subject.key}-{Model.load(subject.model).hash[:12]}"


def _measure(subject: Subject, setting: Setting, precision: str) -> dict[str, Any]:
    """Build, judge and score one precision; from the work directory when it is there."""
    path = _place(subject, setting) / f"{precision}-{setting.method}.json"
    if not path.exists():
        started = time.monotonic()
        try:
            row = _judge(subject, setting, plan_named(precision))
        except ReelsightError as error:
            return {"outcome": "failed", "error": f"{error.code}: {error.message}"}
        except Exception as error:  # Boundary: one precision's failure; the others go on.
            return {"outcome": "failed", "error": repr(error)}
        if row["label_agreement"] is None:
            return {"outcome": "failed", "error": "; ".join(row["reasons"])}
        row["seconds"] = round(time.monotonic() - started, 1)
        path.write_text(json.dumps(row), encoding="utf-8")
        say(f"{subject.key} {precision}: {row['label_agreement']:.5f} in {row['seconds']} s")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _judge(subject: Subject, setting: Setting, plan: PrecisionPlan) -> dict[str, Any]:
    work, model, bank = _place(subject, setting), Model.load(subject.model), load_bank(subject.bank)
    held = Frames.load(setting.work, "heldout")
    before: Floats = np.load(work / "reference.npy")
    ranges = _ranges(model, setting, plan, work / "calibrations")
    files = work / plan.name
    files.mkdir(exist_ok=True)
    for left in files.iterdir():
        left.unlink()
    derived = derive(model.image, plan, work / f"{plan.name}.onnx", calibration=ranges)
    backend = InductorBackend()
    request = BuildRequest(model, plan, derived.path, derived.sha256, (setting.bucket,))
    artifact = backend.build(request, files, BuildWatch())
    limits = thresholds_for(plan.name)
    if setting.min_frames is not None:
        limits = replace(limits, min_frames=setting.min_frames)
    engine = backend.open(artifact.spec, files, model, threads=1)
    try:
        report = run_gate(
            OrtCpuEngine(model, buckets=(_REFERENCE_BUCKET,)),
            engine,
            FrameSet(held.pixels),
            bank,
            limits,
            frames_words="composed, one half degraded; seeds of no training and no calibration",
            reference_rows=before,
        )
        after = embed_frames(engine, held.pixels)
    finally:
        engine.close()
    return {
        "outcome": "measured",
        **_figures(report),
        **(_scored(held, before, after, bank) if np.isfinite(after).all() else {}),
        "arithmetic": _arithmetic(plan, derived, artifact.details),
        "calibration": None if ranges is None else ranges.method,
        "build_s": round(artifact.seconds, 1),
    }


def _figures(report: GateReport) -> dict[str, Any]:
    """The gate's report, its main figures by the names they have among people."""
    aim = report.thresholds.decisions
    return {
        "passes_the_gate": report.passed,
        "stands_alone": report.stands_alone,
        "reasons": list(report.reasons),
        "label_agreement": report.decisions,
        "label_agreement_aim": aim,
        # Written so that None and NaN fail.
        "meets_the_aim": report.decisions is not None and report.decisions >= aim,
        "shown_agreement": report.shown,
        "top1": report.top1,
        "centred_cosine": None if report.centred_cosine is None else asdict(report.centred_cosine),
        "frames": report.frames,
        "gate": asdict(report),
    }


def _scored(held: Frames, before: Floats, after: Floats, bank: LabelBank) -> dict[str, Any]:
    """Mean average precision and agreement, of the clean half, of the degraded one and of both."""
    half = len(held.truth) // 2
    stays = (margins(before, bank) >= 0) == (margins(after, bank) >= 0)
    scored: dict[str, Any] = {"map": {}, "map_fp32": {}, "map_drop": {}, "label_agreement_of": {}}
    for name, part in (
        ("all", slice(None)),
        ("clean", slice(half)),
        ("degraded", slice(half, None)),
    ):
        truth = held.truth[part]
        was, now = (_mean_precision(rows[part], truth, bank) for rows in (before, after))
        scored["map_fp32"][name], scored["map"][name] = was, now
        scored["map_drop"][name] = was - now
        scored["label_agreement_of"][name] = float(stays[part].mean())
    return scored


def _mean_precision(rows: Floats, truth: npt.NDArray[np.bool_], bank: LabelBank) -> float:
    scores = rows @ bank.matrix.T
    there = np.flatnonzero(truth.any(axis=0))
    return float(np.mean([average_precision(scores[:, i], truth[:, i]) for i in there]))


def _arithmetic(
    plan: PrecisionPlan, derived: Derived, details: Mapping[str, Any]
) -> dict[str, Any]:
    """What the engine computes in which type: 8 bits in the file are not 8 bits in the machine."""
    import onnx

    quantised = set(derived.quantised)
    nodes = onnx.load(str(derived.path), load_external_data=False).graph.node
    convolutions = sum(n.op_type == "Conv" and n.name in quantised for n in nodes)
    gemms = int(details["fusions"].get("QuantisedLinear", 0))
    kept = len(derived.kept)
    words = [f"unquantised layers and activations in {plan.floats}, {kept} nodes kept in FP32"]
    if gemms:
        how = (
            "multiplied as 8-bit operands by the package's own tensor-core kernel"
            if details["kernels"]
            else "8-bit operands widened to FP32 and multiplied in FP32: no kernel of ours here"
        )
        words.append(f"{gemms} GEMMs in {plan.quantised}: {how}")
    if convolutions:
        words.append(
            f"{convolutions} convolutions in {plan.quantised} by rounding alone: weights and "
            f"inputs are rounded to {plan.quantised} and widened again, and torch convolves in "
            f"{plan.floats}; this shows the accuracy of the file and no speed of 8-bit convolutions"
        )
    return {
        "words": "; ".join(words),
        "quantised_layers": len(quantised),
        "gemms_multiplied_in_8_bits": gemms if details["kernels"] else 0,
        "convolutions_rounded_to_8_bits": convolutions,
        "fusions": dict(details["fusions"]),
    }


def _measured(
    subject: Subject, setting: Setting, precisions: list[str], pool: ProcessPoolExecutor
) -> dict[str, Any]:
    pool.submit(_prepare, subject, setting).result()
    runs = {name: pool.submit(_measure, subject, setting, name) for name in precisions}
    model, bank = Model.load(subject.model), load_bank(subject.bank)
    reference: Floats = np.load(_place(subject, setting) / "reference.npy")
    taught = Frames.load(setting.work, "heldout").rows
    return {
        "model": model.name,
        "model_hash": model.hash,
        "weights": subject.weights,
        "bank_hash": bank.hash,
        "labels": len(bank),
        "mean_cosine_to_reelsight_mini": float((reference * taught).sum(axis=1).mean()),
        "precisions": {name: run.result() for name, run in runs.items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--models", nargs="+", default=["mini", "vit"], choices=["mini", "vit"])
    parser.add_argument(
        "--precisions",
        nargs="+",
        default=["fp16", "bf16", "int8", "fp8"],
        choices=sorted(InductorBackend().precisions),
    )
    # Sixteen processes compose the frames of a full run in some 75 seconds.
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--train-frames", type=int, default=40_000)
    parser.add_argument("--threshold-frames", type=int, default=3000)
    parser.add_argument("--calibration-frames", type=int, default=600)
    parser.add_argument(
        "--calibration", choices=get_args(Method), default="entropy", help="of the 8-bit ranges"
    )
    parser.add_argument("--photos", type=Path, help="JPEG files under half of the training frames")
    parser.add_argument("--train-seconds", type=float, default=100)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--bucket", type=int, default=128)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--jobs", type=int, default=4, help="precisions built at once")
    parser.add_argument("--min-frames", type=int, help="lower the gate's own; for a trial alone")
    return parser.parse_args()


def main() -> None:
    """Compose, distil, measure; write the results."""
    options = _arguments()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Of each build: several run at once, beside the training.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    where = {
        "machine": machine(options.device),
        "versions": versions() | {"onnx": version("onnx")},
    }
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    counts = {
        "heldout": options.frames,
        "calibration": options.calibration_frames,
        "threshold": options.threshold_frames,
    }
    if "vit" in options.models and not trained_already(work):
        counts["train"] = options.train_frames
    compose_sets(work, counts, workers=options.workers, photos=options.photos)
    setting = Setting(
        work=work,
        method=options.calibration,
        bucket=options.bucket,
        min_frames=options.min_frames,
        threads=options.workers,
        threads_beside=max(1, options.workers // options.jobs),
    )
    recipe = Recipe(
        options.train_seconds, options.batch, options.rate, options.device, options.workers
    )
    mini = Subject("mini", MINI, MINI / "labels.bank.safetensors", "shipped; ModifiedResNet")
    spawn = mp.get_context("spawn")
    with (
        ProcessPoolExecutor(options.jobs, spawn, set_clock, (clock(),)) as pool,
        ThreadPoolExecutor(1) as beside,
    ):
        runs = []
        if "mini" in options.models:
            # The shipped model is measured while the student trains.
            runs.append(beside.submit(_measured, mini, setting, options.precisions, pool))
        if "vit" in options.models:
            student = Subject("vit", *distil(work, recipe), "distilled from reelsight-mini")
            runs.append(beside.submit(_measured, student, setting, options.precisions, pool))
        models = [run.result() for run in runs]
    document = {
        **where,
        "frames": {
            name: {"seed": SETS[name].seed, "frames": len(Frames.load(work, name).rows)}
            for name in counts
        },
        "reference": "onnxruntime-cpu on the FP32 master",
        "models": models,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    say(f"results in {options.results}")
    for model in models:
        for name, row in model["precisions"].items():
            words = row.get("error") or (
                f"labels {row['label_agreement']:.5f} (aim {row['label_agreement_aim']}), top-1 "
                f"{row['top1']:.4f}, mAP drop {row['map_drop']['all']:+.4f}, "
                f"gate {row['passes_the_gate']}"
            )
            say(f"{model['model']} {name}: {words}")


if __name__ == "__main__":
    main()
