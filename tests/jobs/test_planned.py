"""A plan, the run that starts from it, and what is told while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer.testing

from jobs.backfill import backfill
from jobs.work import Marks
from reelsight.cli.app import app
from reelsight.rayx.live import Stage, limiting, told_live
from reelsight.rayx.planned import as_planned
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.marked_world import MarkedWorld


def stages(decode: tuple[int, int], engine: tuple[int, int]) -> list[Stage]:
    """Running and waiting, of four slots each."""
    return [
        Stage("fetch+decode", decode[0], 4, decode[1], 0),
        Stage("engine", engine[0], 4, engine[1], 0),
    ]


@pytest.mark.parametrize(
    ("decode", "engine", "expected"),
    [
        ((4, 9), (1, 0), "fetch+decode"),
        ((4, 9), (4, 2), "engine"),  # Held back by the engine, decode looks full as well.
        ((4, 9), (4, 0), "fetch+decode"),
        ((0, 0), (2, 0), "engine"),
        ((1, 0), (1, 0), "fetch+decode"),
        ((0, 3), (0, 0), None),
    ],
)
def test_the_last_stage_with_work_in_front_of_it_limits(
    decode: tuple[int, int], engine: tuple[int, int], expected: str | None
) -> None:
    assert limiting(stages(decode, engine)) == expected


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("marks", ["no", "beside", "alone"])
def test_a_run_tells_what_limits_it(
    marks: Marks,
    samples: list[SampleClip],
    fake_settings: Settings,
    marked_world: MarkedWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reelsight.rayx.live._EVERY_S", 0.0)
    manifest = samples[0].path.parent / "manifest.parquet"
    told: list[str] = []
    with told_live(told.append):
        settings = fake_settings if marks == "no" else marked_world.settings()
        record = backfill(manifest, tmp_path / "out", settings, marks=marks)
    assert record.state == "complete"
    assert told
    # Both stages are in every line: the view knows the actor, whatever engines it holds.
    assert all("fetch+decode " in line and "engine " in line for line in told)
    assert all("limiting: fetch+decode" in line or "limiting: engine" in line for line in told)
    assert told[-1].startswith(f"{len(samples)} clips")


@pytest.mark.usefixtures("ray_cluster")
def test_a_backfill_starts_as_planned(samples: list[SampleClip], tmp_path: Path) -> None:
    common = ["--manifest", str(samples[0].path.parent / "manifest.parquet"), "--engine", "fake"]
    runner = typer.testing.CliRunner()
    shown = runner.invoke(app, ["plan", *common, "--sample", "3"])
    assert shown.exit_code == 0, shown.output
    assert "limiting stage" in shown.output
    assert "c7i.8xlarge" in shown.output
    planned = runner.invoke(app, ["plan", *common, "--sample", "3", "--json"])
    plan = json.loads(planned.output)
    assert plan["clips"] == len(samples)
    # Wider than the machine by itself would be.
    plan["pools"]["here"]["engine_actors"] = 3
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = ["--output", str(tmp_path / "out"), "--plan", str(tmp_path / "plan.json")]
    ran = runner.invoke(app, ["backfill", *common, *out])
    assert ran.exit_code == 0, ran.output
    assert "of the engines' ceiling" in ran.output
    assert f"of the plan, {plan['pools']['here']['frames_per_s']:.1f} frames/s" in ran.output
    settings, _ = as_planned(Settings(), tmp_path / "plan.json")
    assert settings.ray.engine_actors == 3
