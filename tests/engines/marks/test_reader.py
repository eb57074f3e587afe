"""The extractor as a model: what its master answers, and what precision plans make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.marks.reader import reader_master
from engines.precision.derive import derive
from engines.precision.plan import PLANS, plan_named
from engines.runtimes.ort_cpu import OrtCpuEngine
from engines.runtimes.ort_marks import open_pair
from reelsight.engine import EngineHost
from reelsight.errors import ModelError
from tests.engines.marks.conftest import BUCKETS, Rehearsed
from tests.reference_pair import write_card, write_pair


def test_the_master_says_what_the_extractor_says(rehearsed: Rehearsed) -> None:
    engine = OrtCpuEngine(rehearsed.model, buckets=BUCKETS)
    assert engine.capabilities == {"read_mark"}
    pixels = rehearsed.frames.frames[:16]
    assert (engine.run(pixels) == rehearsed.reference.run(pixels)).all()
    host = EngineHost(engine)
    assert host.run(rehearsed.frames.frames[:3]).shape == (3, 65)
    host.close()


def test_the_same_extractor_is_the_same_master(rehearsed: Rehearsed, tmp_path: Path) -> None:
    opened = open_pair(rehearsed.pair, buckets=BUCKETS)
    again = reader_master(opened.pair, opened.reader.spec, tmp_path)
    assert again.sha256 == rehearsed.model.sha256
    assert again.hash == rehearsed.model.hash == opened.pair.hash


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_pixels_and_their_filter_stay_in_fp32(
    rehearsed: Rehearsed, precision: str, tmp_path: Path
) -> None:
    """A mark is a few levels of 255: half precision would round it away before the high-pass."""
    path = tmp_path / "derived.onnx"
    made = derive(
        rehearsed.model.image, plan_named(precision), path, calibration=rehearsed.calibration
    )
    filtering = {"little", "blur", "high", "small"}
    assert filtering <= {kept.node for kept in made.kept}
    proto = onnx.load(str(path))
    first = next(node for node in proto.graph.node if "frames" in node.input)
    assert first.op_type == "Cast"
    assert [output.name for output in proto.graph.output] == ["embedding"]
    assert len(made.quantised) == (3 if PLANS[precision].quantised else 0)


def test_an_extractor_whose_names_are_taken(tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair")
    path = pair / "extractor.onnx"
    proto = onnx.load(str(path))
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = "frames" if name == "flat" else name
    onnx.save(proto, str(path))
    write_card(pair)
    opened = open_pair(pair)
    with pytest.raises(ModelError) as caught:
        reader_master(opened.pair, opened.reader.spec, tmp_path / "master")
    assert caught.value.code == "model.bad_pair"


def test_codes_of_another_seed_are_other_codes(rehearsed: Rehearsed) -> None:
    codes = {row.tobytes() for row in rehearsed.truth.codes[rehearsed.truth.marked]}
    assert len(codes) == 2
    assert np.isin(rehearsed.truth.codes, (0, 1)).all()
