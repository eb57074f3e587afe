"""The NVDEC benchmark without a GPU: its steps over a double, its figures and its table."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decode import nvdec, nvdec_streams
from benchmarks.decode.nvdec_clips import Footage, MadeFootage, given, make_all
from benchmarks.decode.nvdec_streams import in_processes, in_threads
from benchmarks.decode.nvdec_table import nvdec_table
from benchmarks.decode.nvdec_vendor import clocks_in, published, watched

CLOCK = """
GPU 00000000:0A:00.0
    Clocks
        Graphics                          : 345 MHz
        Memory                            : 2619 MHz
        Video                             : 765 MHz
    Applications Clocks
        Graphics                          : 1980 MHz
        Memory                            : 3201 MHz
    Max Clocks
        Graphics                          : 1980 MHz
        SM                                : 1980 MHz
        Memory                            : 3201 MHz
        Video                             : 1545 MHz
"""


def row(**fields: Any) -> dict[str, Any]:
    made = {"clip": "h264 854x480", "kind": "nvdec", "where": "threads", "streams": 8}
    rates = {"frames_per_s": 283.3, "pictures_per_s": 8500.4, "cpu_ms_per_frame": 1.25}
    return made | rates | fields


def document(**fields: Any) -> dict[str, Any]:
    clip = {"name": "h264 854x480", "seconds": 10.0, "pictures": 300, "mbit_s": 1.5}
    made: dict[str, Any] = {
        "machine": {
            "cpu": "C",
            "cores": 16,
            "gpu": {"name": "NVIDIA H200", "driver": "580"},
        },
        "versions": {"PyNvVideoCodec": "2.2.4"},
        "clips": [clip],
        "self_test": {"failure": None, "clips": 5},
        "truth": {"h264": "right", "av1": "refuses: its codec", "hevc": "right"},
        "agreement": {"h264 854x480": {"mean": 0.01, "p99": 1.0, "max": 2}},
        "sessions": {"create": 61.2},
        "parts": {"h264 854x480": {"decode": 200.0}},
        "rows": [row()],
        "vendor": {"figures": {}},
        "skipped": [],
        "failed": {},
    }
    return made | fields


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> str:
    clip = MadeFootage("small", "libx264", 96, 64, seconds=3, fps=10)
    return make_all((clip,), tmp_path_factory.mktemp("clips"), 1)[0].path


# All of it.


def test_every_step_runs_over_the_double(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="NVDEC's surfaces are scaled by torch")
    output = tmp_path / "result.json"
    times = ["--seconds", "0.1", "--budget", "300"]
    nvdec.main(["--tiny", *times, "--streams", "1", "2", "--output", str(output)])
    found = json.loads(output.read_text())
    assert found["self_test"]["failure"] is None
    assert set(found["truth"]) == set(nvdec.TINY_TRUTH)
    assert sorted(outcome[:5] for outcome in found["truth"].values()) == ["refus", *["right"] * 4]
    assert found["skipped"] == []
    assert found["failed"] == {}
    clips = [clip["name"] for clip in found["clips"]]
    assert list(found["agreement"]) == list(found["parts"]) == clips
    assert all(error["mean"] < 0.05 for error in found["agreement"].values())
    assert {"create", "another clip", "another codec"} <= found["sessions"].keys()
    rows = [(r["clip"], r["kind"], r["streams"], r["where"]) for r in found["rows"]]
    assert len(set(rows)) == len(rows) == 16
    assert {kind for _, kind, _, _ in rows} == set(nvdec_streams.KINDS)
    assert all(r["frames_per_s"] > 0 and r["cpu_ms_per_frame"] > 0 for r in found["rows"])
    # A frame a second from clips of 3 s at 10 fps: the last one asked for is picture 20.
    for r in found["rows"]:
        assert r["pictures_per_s"] == pytest.approx(r["frames_per_s"] * 21 / 3, rel=0.01)
    printed = capsys.readouterr().out
    assert nvdec_table(found) in printed


def test_a_double_does_not_write_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        nvdec.main(["--tiny"])
    assert "name another --output" in capsys.readouterr().err


def test_what_fails_or_has_no_time_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, footage: str
) -> None:
    def broken(*given: Any) -> None:
        raise RuntimeError("the driver is gone\nat 0x12")

    monkeypatch.setattr(nvdec, "self_tested", broken)
    monkeypatch.setattr(nvdec, "truth", len)
    monkeypatch.setattr(nvdec._Run, "_left", lambda run: 1.0)
    output = tmp_path / "result.json"
    nvdec.main(["--tiny", "--clips", footage, "--output", str(output)])
    found = json.loads(output.read_text())
    assert found["failed"]["self_test"] == "RuntimeError: the driver is gone"
    assert found["failed"]["truth"].startswith("TypeError: len() takes exactly one argument")
    name = found["clips"][0]["name"]
    assert found["skipped"][:4] == [
        f"{name}, agreement with PyAV",
        "sessions",
        f"{name}, parts",
        f"{name}, nvdec, 1 threads",
    ]
    assert found["skipped"][-1] == f"{name}, nvdec, 8 processes"
    assert found["rows"] == []
    table = nvdec_table(found)
    assert "The self-test was not run." in table
    assert "Failed: self_test: RuntimeError: the driver is gone." in table


# Streams.


def test_a_stream_that_fails_is_its_rows_word(
    monkeypatch: pytest.MonkeyPatch, footage: str
) -> None:
    taker, broken = nvdec_streams._taker, threading.Semaphore(1)

    def one_fails(*given: Any) -> Any:
        if broken.acquire(blocking=False):
            raise OSError("no engine is free\nat 0x12")
        return taker(*given)

    monkeypatch.setattr(nvdec_streams, "_taker", one_fails)
    found = in_threads("pyav", footage, 3, 0.1, True, 10.0)
    assert found == {
        "kind": "pyav",
        "where": "threads",
        "streams": 3,
        "failed": "OSError: no engine is free",
    }


def test_streams_start_together_and_are_counted(footage: str) -> None:
    started: list[bool] = []
    rows = [
        in_threads("pyav", footage, 2, 0.2, True, 10.0, lambda: started.append(True)),
        in_processes("pyav", footage, 2, 0.2, True, 10.0),
    ]
    assert started == [True]
    for found in rows:
        assert found["streams"] == 2
        assert found["clips"] >= 2
        assert found["pictures_per_s"] == pytest.approx(7 * found["frames_per_s"], rel=0.01)
        assert 0 < found["cpu_ms_per_frame"] < 1000


def test_processes_say_what_they_lack(footage: str) -> None:
    words = in_processes("nvdec", footage + ".missing", 2, 0.1, True, 10.0)["failed"]
    assert "No such file" in words


# Clips and figures.


def test_a_clip_has_one_keyframe_unless_it_says_otherwise(tmp_path: Path) -> None:
    import av

    made = (
        MadeFootage("one", "libx264", 96, 64, seconds=3, fps=10),
        MadeFootage("hevc", "libx265", 96, 64, seconds=3, fps=10),
        MadeFootage("several", "libx264", 96, 64, seconds=3, fps=10, gop=10),
    )
    keys = []
    for clip in make_all(made, tmp_path, 1):
        assert (clip.width, clip.height, clip.pictures, clip.seconds) == (96, 64, 30, 3.0)
        with av.open(clip.path, mode="r") as container:
            keys.append(sum(p.is_keyframe for p in container.demux(video=0) if p.size))
    assert keys == [1, 1, 3]


def test_other_containers_are_refused(tmp_path: Path) -> None:
    from tests.reelsight.media.truth_clips import CASES, make

    path = tmp_path / "a.mkv"
    path.write_bytes(make(CASES["variable rate, B-frames, mkv"]))
    with pytest.raises(SystemExit, match="is no MP4"):
        given(str(path))


def test_the_vendors_figure_is_scaled_by_clock_and_engines() -> None:
    assert published("NVIDIA H200", "h264", 1080, 1860) == 771 * 7
    assert published("NVIDIA H200", "hevc", 1080, 930) == 1316 * 7 / 2
    assert published("NVIDIA H200", "h264", 480, 1860) is None
    assert published("NVIDIA H200", "av1", 1080, 1860) is None
    assert published("NVIDIA L4", "h264", 1080, 1860) is None


def test_clocks_are_found_in_what_nvidia_smi_prints() -> None:
    assert clocks_in(CLOCK) == {"now_mhz": 765.0, "most_mhz": 1545.0}
    assert clocks_in("No devices were found") == {}


def test_a_busy_gpu_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho '97, 1545, [N/A]'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert watched() == {"decoder_percent": 97.0, "video_mhz": 1545.0}


def test_a_row_is_held_against_the_vendor_or_what_was_measured_before(tmp_path: Path) -> None:
    import argparse

    options = argparse.Namespace(
        tiny=True, seconds=1.0, budget=1.0, streams=(1,), output=tmp_path / "o", clips=None
    )
    run = nvdec._Run(options)
    run.document["machine"]["gpu"] = {"name": "NVIDIA H200", "driver": "1"}
    run._clock = 930.0
    small = Footage("a", "h264", 854, 480, 300, 10.0, 1.0, "")
    large = Footage("b", "h264", 1920, 1080, 300, 10.0, 1.0, "")
    found = row(clip="b", pictures_per_s=771 * 7 / 4)
    run._share(found, large)
    assert (found["share"], found["share_of"]) == (0.5, "the vendor's")
    assert run.document["vendor"]["figures"] == {"b": 771 * 7 / 2}
    found = row(clip="b", pictures_per_s=771 * 7 / 4, watched={"video_mhz": 1860.0})
    run._share(found, large)
    assert found["share"] == 0.25, "by the clock that it had"
    found = row(pictures_per_s=4250)
    run._share(found, small)
    assert (found["share"], found["share_of"]) == (0.5, "8,500 measured before")
    found = row(kind="pyav")
    run._share(found, large)
    assert "share" not in found


# The table.


def test_the_table_has_every_number() -> None:
    shown = nvdec_table(
        document(
            rows=[
                row(share=1.0, share_of="8,500 measured before", watched={"decoder_percent": 98.0}),
                row(kind="pyav", where="processes", streams=1),
                {"clip": "b", "kind": "nvdec", "where": "threads", "streams": 16, "failed": "gone"},
            ],
            skipped=["b, pyav, 16"],
        )
    )
    assert "The self-test passed on 5 clips." in shown
    assert "Of 3 clips whose truth is known: 2 right, 1 refuses, 0 wrong." in shown
    assert (
        "| h264 854x480 | NVDEC, frames to the host | 8 threads | 283 | 8,500 | 1.25 | 98% "
        "| 100% of 8,500 measured before |" in shown
    )
    assert "| h264 854x480 | PyAV, CPU | 1 | 283 | 8,500 | 1.25 |  |  |" in shown
    assert "| b | NVDEC, frames to the host | 16 threads | gone |  |  |  |  |" in shown
    assert "| create | 61.2 |" in shown
    assert "| decode | 200.00 |" in shown
    assert "Out of time, not measured: b, pyav, 16." in shown
    tables = [block for block in shown.split("\n\n") if block.startswith("|")]
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"self_test": {"failure": "on 'HEVC': it fails", "clips": 5}},
            "**The self-test did not pass: on 'HEVC': it fails.**",
        ),
        (
            {"truth": {"vp9": "wrong: shows frames [1]"}},
            "**NOT VALID for such clips: vp9 (wrong: shows frames [1]).**",
        ),
        (
            {"agreement": {"x": {"failed": "it gives other times"}}},
            "**x differs from PyAV: it gives other times.**",
        ),
    ],
)
def test_a_decoder_that_is_wrong_is_said_to_be_first(fields: dict[str, Any], words: str) -> None:
    assert words in nvdec_table(document(**fields)).splitlines()[0]
