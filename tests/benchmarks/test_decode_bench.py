"""The decode benchmark runs whole on a tiny clip and judges times and ratios rightly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.decode.__main__ import run
from benchmarks.decode.clips import MadeClip, make_clips
from benchmarks.decode.contenders import CONTENDERS, FfmpegCommand, Refused, absent
from benchmarks.decode.cost_table import cost_table
from benchmarks.decode.cpu_time import tree_cpu_s
from benchmarks.decode.rivals import aims, ratios, settle
from benchmarks.decode.shown import Given, Shown, everything_shown
from benchmarks.footage import Coding

RATE, SECONDS = 10, 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty noisy pictures that drift, ten a second, with B-frames and a keyframe a second."""
    root = tmp_path_factory.mktemp("clip")
    noise = np.random.default_rng(0).integers(0, 256, (12, 60, 3), np.uint8)
    noise = noise.repeat(16, axis=0).repeat(16, axis=1)
    with av.open(str(root / "noise.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for number in range(RATE * SECONDS):
            picture = np.ascontiguousarray(noise[:, 12 * number : 12 * number + 320])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))
    coding = Coding("libx264", 320, 192, 10, {"bf": "3"})
    made = MadeClip("made", coding, seconds=SECONDS, footage="noise.mp4")
    return make_clips((made,), root, root)[0]


@pytest.fixture(scope="module")
def document(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One round of two contenders, and of one that is not there."""
    broken = clip.with_name("broken.mp4")
    broken.write_bytes(b"no clip")
    paths = [clip, broken]
    return run(paths, ["exact", "decord"], (1.0,), 1, tmp_path_factory.mktemp("work"))


def test_two_contenders_are_measured_and_compared(document: dict[str, Any]) -> None:
    (case,) = document["cases"]
    assert (case["asked"], case["b_frames"], case["seekable"]) == (SECONDS, True, True)
    for name in ("exact", "decord"):
        row = case["systems"][name]
        assert (row["frames"], row["exact"], row["strangers"]) == (SECONDS, True, 0)
        assert row["timing_error_s"] == 0
        assert 0 < row["cpu_ms"] < 2000
    mine, theirs = (case["systems"][name]["cpu_ms"] for name in ("exact", "decord"))
    assert case["ratios"]["best_exact_peer"] == "decord"
    assert case["ratios"]["exact / best exact peer"] == pytest.approx(mine / theirs, abs=1e-3)
    assert document["versions"]["av"] == av.__version__


def test_clips_that_are_refused_are_named(document: dict[str, Any]) -> None:
    whole, broken = document["clips"]
    assert "refused" not in whole
    assert broken["name"] == "broken.mp4"
    assert broken["refused"]


def test_the_table_holds_what_was_measured(document: dict[str, Any]) -> None:
    table = cost_table(document)
    row = document["cases"][0]["systems"]["decord"]
    cost = row["cpu_ms_per_frame"]
    assert f"| {cost:.2f} |" in table or f"| {cost:.1f} |" in table
    assert "- broken.mp4, left out: " in table
    assert "1 frame a second" in table
    assert f"decord {document['versions']['decord']}" in table


def test_pictures_are_found_among_all(clip: Path) -> None:
    shown = everything_shown(clip)
    assert len(shown.pts) == RATE * SECONDS
    assert shown.times(1.0) == [0, 1, 2, 3]
    exact = CONTENDERS["exact"]().sample(clip, [0.0, 1.0, 2.0, 3.0], 1.0)
    assert shown.error_s(Given(exact.pixels), 1.0) == 0
    assert shown.strangers(exact) == 0
    late = CONTENDERS["exact"]().sample(clip, [], 0.1)
    assert shown.error_s(Given(late.pixels[[0, 10, 23, 30]]), 1.0) == pytest.approx(0.3)
    assert exact.pts is not None
    assert shown.strangers(Given(exact.pixels, exact.pts + 0.1)) == 4


def test_the_nearest_stamp_serves_a_time() -> None:
    shown = Shown(np.arange(10) / 2, np.zeros((10, 28, 28), np.float32), 5.0, 0.0)
    pixels = np.zeros((2, 224, 224, 3), np.uint8)
    assert shown.error_s(Given(pixels, np.array([0.0, 3.5])), 1.0) == 1.5
    assert shown.longest_s == 0.5


def test_cpu_time_counts_children_while_they_live_and_after() -> None:
    before = tree_cpu_s()
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = tree_cpu_s() - before
    assert living >= 0.3
    assert tree_cpu_s() - before >= 0.3
    assert os.times().children_user > 0
    started = time.process_time()
    assert tree_cpu_s() >= started


def test_the_ffmpeg_command_without_ffmpeg(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for it writes one picture too many, then fails."""
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.stdout.buffer.write(bytes(224 * 224 * 3) * 3)\n"
        "if 'broken' in sys.argv[sys.argv.index('-i') + 1]: sys.exit('no such\\nfilter')\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert FfmpegCommand().sample(clip, [0.0, 1.0], 1.0).pixels.shape == (2, 224, 224, 3)
    with pytest.raises(Refused, match="filter"):
        FfmpegCommand().sample(tmp_path / "broken", [0.0], 1.0)


def test_what_cannot_run_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert absent("exact") is None
    assert absent("decord") is None
    (tmp_path / "decord.py").write_text("raise OSError('a library of it is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert absent("decord") == "decord cannot be imported"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert absent("ffmpeg") == "there is no ffmpeg command"


def test_the_best_peer_is_an_exact_one_whose_time_can_be_told() -> None:
    systems = {
        "exact": {"cpu_ms": 10.0, "exact": True},
        "fast": {"cpu_ms": 4.0, "exact": True},
        "decord": {"cpu_ms": 5.0, "exact": False},
        "ffmpeg": {"cpu_ms": 1.0, "exact": True, "lost_in_start_up": True},
        "OpenCV": {"cpu_ms": 16.0, "exact": True},
        "torchcodec exact": {"refused": "no"},
    }
    found = ratios(systems)
    assert found["best_exact_peer"] == "OpenCV"
    assert found["exact / best exact peer"] == 0.625
    assert found["fast / exact"] == 0.4
    runs = [{"cpu_s": cost, "start_up_s": 0.05} for cost in (0.02, 0.03, 0.04)]
    settled = settle(runs, 4)
    assert settled["cpu_ms_per_frame"] == 5
    assert settled["spread"] == 0.5
    assert settled["lost_in_start_up"]


def test_aims_say_where_they_are_missed() -> None:
    def case(clip: str, ratio: float, every_s: float) -> dict[str, Any]:
        found = {"exact / best exact peer": ratio, "exact, in a child / exact": 1.01}
        facts = {"b_frames": False, "seekable": True, "seconds": 25.0, "asked": 5}
        return {"clip": clip, "every_s": every_s, "ratios": found, **facts}

    found = aims([case("a", 1.2, 1.0), case("b", 0.5, 5.0), case("c", 0.9, 5.0)])
    worst, sparse, *fast, child = found.values()
    assert (worst["met"], worst["missed"]) == (False, {"a, 1 s": 1.2})
    assert sparse["met"]
    assert sparse["geometric_mean"] == pytest.approx(0.671, abs=1e-3)
    assert sparse["missed"] == {"c, 5 s": 0.9}
    assert [aim["met"] for aim in fast] == [None, None]
    assert child["met"]
    assert child["cases"] == 3
