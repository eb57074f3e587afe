"""The program that torch makes of an extractor, on the CPU, against the pair's own file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")

from engines.backend import BuildRequest, BuildWatch  # noqa: E402
from engines.inductor.backend import InductorBackend  # noqa: E402
from engines.precision.calibration import calibrate  # noqa: E402
from engines.precision.derive import derive  # noqa: E402
from engines.precision.plan import plan_named  # noqa: E402
from tests.untrained_pair import untrained_frames, untrained_reader  # noqa: E402


def test_a_program_reads_what_the_file_reads(tmp_path: Path) -> None:
    """At 8 bits, whose program has FP16 and FP32 in it too."""
    model, reader = untrained_reader()
    frames = untrained_frames(8)
    calibration = calibrate(model.image, frames, "minmax", tmp_path / "ranges")
    path, plan = tmp_path / "derived.onnx", plan_named("int8")
    derived = derive(model.image, plan, path, calibration=calibration)
    made = tmp_path / "program"
    made.mkdir()
    backend = InductorBackend()
    wanted = BuildRequest(model, plan, path, derived.sha256, (8,))
    artifact = backend.build(wanted, made, BuildWatch())
    engine = backend.open(artifact.spec, made, model, threads=1)
    try:
        assert engine.capabilities == {"read_mark"}
        pixels = frames.frames.copy()
        rows, truth = engine.run(pixels), reader.run(pixels)
    finally:
        engine.close()
    assert rows.shape == (8, 65)
    rows, truth = (each - truth.mean(axis=0) for each in (rows, truth))
    # What 8 bits leave of random weights; a layer that is wrong leaves nothing.
    assert np.corrcoef(rows.ravel(), truth.ravel())[0, 1] > 0.97
