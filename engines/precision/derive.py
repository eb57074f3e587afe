"""derive: from an FP32 master and a plan to the one ONNX file that carries the plan's precision.

The same file serves every runtime that can do the arithmetic, and the accuracy referee. The same
inputs give the same bytes. Whether the result is good enough is not asked here: the gate does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from engines.precision.calibration import Calibration
from engines.precision.floats import (
    cast_pixels_first,
    final_norm,
    lower_floats,
    norms,
    out_of_range,
    pixel_arithmetic,
)
from engines.precision.onnx_graph import OnnxGraph, sha256_of, weights_beside
from engines.precision.plan import PrecisionPlan
from engines.precision.quantise import Scheme, leave_unscalable, quantise, split_gemms
from engines.precision.selection import select
from engines.precision.writing import writing
from reelsight.digest import file_sha256
from reelsight.errors import EngineError

__all__ = ["Derived", "Kept", "derive"]

# Operators of this version and below have no bfloat16 form of Conv and of pooling.
_BF16_OPSET = 22


@dataclass(frozen=True, slots=True)
class Kept:
    """A layer that was left in a higher precision.

    Attributes:
        node: Its name in the graph.
        reason: Why.
    """

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Derived:
    """A precision-carrying ONNX file.

    Attributes:
        path: The file. Input `frames` uint8 [n, size, size, 3], output `embedding` float32 [n, dim]
            as the master's.
        sha256: Of the file (hex); weights beside it are not in it for a copied master.
        plan: The precision that it carries.
        master_sha256: Of the master (hex), see sha256_of.
        calibration_sha256: Of the calibration; None where none was used.
        quantised: Names of the layers whose weights and inputs are quantised.
        kept: Layers left in FP32 or, beside quantised ones, unquantised.
    """

    path: Path
    sha256: str
    plan: PrecisionPlan
    master_sha256: str
    calibration_sha256: str | None
    quantised: tuple[str, ...]
    kept: tuple[Kept, ...]


def derive(
    master: Path,
    plan: PrecisionPlan,
    destination: Path,
    *,
    calibration: Calibration | None = None,
    runs_on: Literal["cpu", "gpu"] | None = None,
) -> Derived:
    """Write the ONNX file of a plan.

    Args:
        master: The exported FP32 tower.
        plan: The precision.
        destination: The file to write, replaced whole when it exists. Weights of 2 GB and more lie
            beside it.
        calibration: Activation ranges of this master: needed for quantised plans. An FP16 plan
            takes it too, and keeps what overflows in FP32.
        runs_on: Where the engine will run, which matters to plans that run anywhere; a GPU where
            it is not said.

    Raises:
        EngineError: `engine.calibration_missing`, `engine.calibration_mismatch`,
            `engine.calibration_incomplete`, `engine.bad_weights`, `engine.nothing_to_quantise`, or
            one of OnnxGraph's.
    """
    digest = sha256_of(master)
    _require_calibration(plan, calibration, digest)
    if plan.floats != "fp16" and plan.quantised is None:
        calibration = None
    graph = OnnxGraph(master)
    graph.require_finite_weights()
    # A CPU keeps the uint8 transposition, which moves a quarter of the bytes.
    moved = "cpu" not in (plan.runs_on, runs_on) and cast_pixels_first(graph)
    if plan.name == "fp32" and not moved:
        return _copied(master, plan, destination, digest)
    kept: dict[str, str] = {}
    quantised: tuple[str, ...] = ()
    # Q and DQ hide which layers are the first.
    pixels = pixel_arithmetic(graph)
    observed = {} if calibration is None else calibration.magnitudes
    if plan.quantised is None or calibration is None:
        overflowing = out_of_range(graph, observed) if plan.floats == "fp16" else {}
    else:
        selection = select(graph)
        scale_dtype = np.float16 if plan.floats == "fp16" else np.float32
        leave_unscalable(graph, selection, calibration.limits, _scheme(plan), scale_dtype)
        if not selection.nodes:
            raise EngineError(
                f"{master} has no layer that {plan.name} quantises",
                code="engine.nothing_to_quantise",
                hint="Build it at fp16 or fp32.",
            )
        if _scheme(plan) != "int8-cpu":
            split_gemms(graph, selection)
        overflowing = out_of_range(graph, observed) if plan.floats == "fp16" else {}
        quantise(graph, selection, calibration.limits, _scheme(plan), scale_dtype)
        kept |= selection.kept
        quantised = tuple(sorted(node.name for node in selection.nodes))
    if plan.floats != "fp32":
        kept |= _lower(graph, plan, {**pixels, **overflowing})
    notes = {
        "reelsight.precision": plan.name,
        "reelsight.runs_on": plan.runs_on,
        "reelsight.master_sha256": digest,
    }
    if calibration is not None:
        notes["reelsight.calibration_sha256"] = calibration.sha256
    return Derived(
        path=destination,
        sha256=graph.save(destination, notes),
        plan=plan,
        master_sha256=digest,
        calibration_sha256=None if calibration is None else calibration.sha256,
        quantised=quantised,
        kept=tuple(Kept(name, reason) for name, reason in sorted(kept.items())),
    )


def _require_calibration(
    plan: PrecisionPlan, calibration: Calibration | None, master_sha256: str
) -> None:
    if calibration is None:
        if plan.needs_calibration:
            raise EngineError(
                f"{plan.name} needs the activation ranges of a calibration",
                code="engine.calibration_missing",
                hint="Calibrate the master on representative frames first.",
            )
    elif calibration.master_sha256 != master_sha256:
        raise EngineError(
            f"the calibration is of master {calibration.master_sha256[:12]}, "
            f"not of {master_sha256[:12]}",
            code="engine.calibration_mismatch",
            hint="Calibrate this master.",
        )


def _scheme(plan: PrecisionPlan) -> Scheme:
    if plan.quantised == "fp8":
        return "fp8"
    return "int8-cpu" if plan.runs_on == "cpu" else "int8"


def _lower(graph: OnnxGraph, plan: PrecisionPlan, in_fp32: dict[str, str]) -> dict[str, str]:
    if plan.floats == "bf16":
        graph.raise_opset(_BF16_OPSET)
    kept = {**final_norm(graph), **in_fp32}
    if plan.norms_fp32:
        kept |= norms(graph)
    beside = _quantisers_beside(graph, kept)
    lowered = lower_floats(graph, plan.floats, {**kept, **beside})
    return {name: reason for name, reason in lowered.items() if name not in beside}


def _quantisers_beside(graph: OnnxGraph, kept: dict[str, str]) -> dict[str, str]:
    """Q after and DQ before FP32 nodes: with a cast between them no runtime would fuse them."""
    found: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            maker = graph.producer.get(node.input[0])
            if maker is not None and maker.name in kept:
                found[node.name] = "beside FP32"
        elif node.op_type == "DequantizeLinear":
            readers = [reader for reader, _ in graph.readers.get(node.output[0], ())]
            if readers and all(reader.name in kept for reader in readers):
                found[node.name] = "beside FP32"
    return found


def _copied(master: Path, plan: PrecisionPlan, destination: Path, digest: str) -> Derived:
    data = weights_beside(master)
    with writing(destination):
        if data.is_file() and destination.parent.resolve() != master.parent.resolve():
            # The graph names this file, whatever the graph's own file is called. It comes first:
            # without it the graph would be there and not load.
            _copy_whole(data, destination.with_name(data.name))
        _copy_whole(master, destination)
    return Derived(destination, file_sha256(destination), plan, digest, None, (), ())


def _copy_whole(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=destination.parent, prefix=".")
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        os.chmod(name, 0o644)
        os.replace(name, destination)
    except BaseException:
        os.unlink(name)
        raise
