"""Measuring a sample, with real clips and the real steps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reelsight.capacity.measured import STAGES
from reelsight.capacity.sample import choose, measure
from reelsight.engine import EngineRecipe
from reelsight.errors import ManifestError, RunError
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest
from reelsight.store.manifest import Manifest, write_manifest


def test_the_sample_does_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [{"clip_id": f"clip-{i}", "uri": f"/{i}"} for i in range(200)]
    first = choose(Manifest.open(write_manifest(tmp_path / "a", rows)), 7)
    random.Random(1).shuffle(rows)
    assert choose(Manifest.open(write_manifest(tmp_path / "b", rows)), 7) == first
    # Not the head of the manifest, and all of it when it is small.
    assert {request.clip_id for request in first} != {f"clip-{i}" for i in range(7)}
    assert len(choose(Manifest.open(tmp_path / "b"), 1000)) == 200


def test_every_stage_is_measured(
    samples: list[SampleClip],
    fake_plan: TaggingPlan,
    fake_recipe: EngineRecipe,
    fake_settings: Settings,
    tmp_path: Path,
) -> None:
    requests = [ClipRequest(clip.clip_id, str(clip.path)) for clip in samples[:4]]
    requests.append(ClipRequest("gone", str(tmp_path / "gone.mp4")))
    m = measure(requests, fake_plan, fake_recipe, fake_settings, cores=2)
    assert (m.clips, m.dead, len(m.frames)) == (5, 1, 4)
    assert m.total_frames == sum(m.frames)
    assert m.frames_per_clip == pytest.approx(m.total_frames / 5)
    assert set(m.seconds) == set(STAGES)
    assert all(seconds > 0 for seconds in m.seconds.values())
    assert not m.on_gpu
    assert sum(m.cost(stage) for stage in STAGES) == pytest.approx(m.cpu_cost)


def test_a_sample_of_dead_clips_says_so(
    fake_plan: TaggingPlan, fake_recipe: EngineRecipe, fake_settings: Settings, tmp_path: Path
) -> None:
    requests = [ClipRequest("gone", str(tmp_path / "gone.mp4"))]
    with pytest.raises(ManifestError, match=r"fetch\.not_found"):
        measure(requests, fake_plan, fake_recipe, fake_settings, cores=1)


def test_a_lane_that_breaks_ends_the_others(
    fake_plan: TaggingPlan,
    fake_recipe: EngineRecipe,
    fake_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(request: ClipRequest, *_: object) -> None:
        raise RunError(f"no process for {request.clip_id}")

    monkeypatch.setattr("reelsight.capacity.sample.load_clip", broken)
    with pytest.raises(RunError, match="no process"):
        measure([ClipRequest("a", "/a")], fake_plan, fake_recipe, fake_settings, cores=3)
