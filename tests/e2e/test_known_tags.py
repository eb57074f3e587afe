"""Clips whose tags are known by construction, through the whole backfill with the shipped model."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.backfill import backfill
from reelsight.samples.clips import SampleClip, write_samples
from reelsight.settings import Settings
from reelsight.store.query import query

# Sixty clips are encoded first; a slow machine may take its time.
pytestmark = pytest.mark.timeout(900)

CLIPS = 60
SEED = 4242
STEP_S = 1.0

Found = dict[tuple[str, str], list[tuple[float, float]]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[SampleClip]:
    return write_samples(tmp_path_factory.mktemp("known"), count=CLIPS, seed=SEED)


@pytest.fixture(scope="module")
def output(
    clips: list[SampleClip], ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    del ray_cluster
    out = tmp_path_factory.mktemp("run") / "out"
    settings = Settings.load(None, {"media.sampling.rate": 1 / STEP_S})
    record = backfill(clips[0].path.parent / "manifest.parquet", out, settings)
    assert record.tagged == CLIPS
    return out


def test_the_right_tag_is_first(clips: list[SampleClip], output: Path) -> None:
    rows = query(output, "SELECT clip_id, tags[1].label FROM reports").rows
    first = dict(rows)
    wrong = [
        (c.clip_id, c.expected[0], first[c.clip_id])
        for c in clips
        if c.expected[0] != first[c.clip_id]
    ]
    assert len(wrong) <= 0.05 * CLIPS, wrong


def test_segments_begin_and_end_within_one_sampling_step(
    clips: list[SampleClip], output: Path
) -> None:
    found: Found = {}
    sql = "SELECT clip_id, label, unnest(segments) AS s FROM tags"
    for clip_id, label, s in query(output, sql).rows:
        found.setdefault((clip_id, label), []).append((s["start_ms"] / 1000, s["end_ms"] / 1000))
    scenes = [(c.clip_id, part) for c in clips for part in c.truth]
    missed = [
        (clip_id, part)
        for clip_id, part in scenes
        if not any(
            abs(start - part.start_s) <= STEP_S and abs(end - part.end_s) <= STEP_S
            for start, end in found.get((clip_id, part.label), [])
        )
    ]
    assert len(missed) <= 0.05 * len(scenes), missed
