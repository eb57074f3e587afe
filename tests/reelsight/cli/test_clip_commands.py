"""`probe` and `decode` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reelsight.cli.app import app
from reelsight.errors import ConfigError
from tests.reelsight.media.moving_clips import coded


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(coded("h264 no B"))
    return path


def run(*args: str | Path) -> str:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_probe_says_header_index_and_every_plan(clip: Path) -> None:
    told = json.loads(run("probe", clip, "--json"))
    assert (told["header"]["codec"], told["header"]["width"]) == ("h264", 192)
    assert (told["index"]["pictures"], told["index"]["keyframes"]) == (75, 7)
    names = [plan["sampling"] for plan in told["plans"]]
    assert len(names) == len(set(names)) == 18
    assert {"rate:1", "keyframe@fast", "keyframe+fill:1@reference"} <= set(names)
    assert all(0 < plan["cost"] <= 1 for plan in told["plans"])


def test_probe_plans_what_it_is_asked(clip: Path) -> None:
    told = json.loads(run("probe", clip, "--policy", "keyframe:1", "--policy", "rate:5", "--json"))
    assert [plan["sampling"] for plan in told["plans"]] == ["keyframe:1", "rate:5"]
    assert "keyframe:1" in run("probe", clip, "--policy", "keyframe:1")


def test_probe_says_why_there_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(coded("mpeg4"))
    assert json.loads(run("probe", path, "--json"))["plans"] == []
    assert "no plan: packets of mpeg4 do not tell enough" in run("probe", path)


def test_decode_prints_times_and_draws_them(clip: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    command = ("decode", clip, "--policy", "keyframe", "--accuracy", "fast", "--size", "64")
    told = json.loads(run(*command, "--contact-sheet", sheet, "--json"))
    assert (told["policy"], told["asked"], told["returned"]) == ("keyframe@fast", 7, 7)
    assert [frame["pts"] for frame in told["frames"]] == pytest.approx([0.48 * k for k in range(7)])
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_decode_takes_the_settings_where_nothing_is_said(clip: Path) -> None:
    sets = ("--set", "media.sampling.policy=keyframe", "--set", "media.sampling.every_s=1")
    told = json.loads(run("decode", clip, *sets, "--json"))
    assert (told["policy"], told["asked"], told["returned"]) == ("keyframe:1", 3, 3)
    assert "keyframe:1: 3 frames for 3 times" in run("decode", clip, *sets)


@pytest.mark.parametrize("flags", [("--policy", "often"), ("--accuracy", "rough")])
def test_words_that_mean_nothing_are_refused(clip: Path, flags: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=flags[1]):
        run("decode", clip, *flags)
