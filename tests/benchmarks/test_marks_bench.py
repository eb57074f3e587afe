"""The simulation of leak tracing, small: its document makes the table and a drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from benchmarks.marks.__main__ import measure
from benchmarks.marks.plot import plot
from benchmarks.marks.table import marks_table


def test_a_small_simulation_makes_the_table_and_the_plot() -> None:
    document = measure(codes=3000, suspects=1, traces=3, copies=20)
    curves = {curve["frame_error_rate"]: curve["points"] for curve in document["power"]}
    named = [point["named"] for point in curves[0.3]]
    assert named == sorted(named)
    assert (named[0], named[-1]) == (0.0, 1.0)
    assert document["traces"]["at_or_below"]["1e-6"] == 0
    text = marks_table(document)
    assert text.count("\n| ") == len(document["null"]) + len(document["power"]) + 1
    assert "3,000 codes" in text
    drawn = ET.fromstring(plot(document))
    lines = drawn.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 1 + len(document["null"]) + len(document["power"])
