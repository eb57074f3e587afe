"""Poisoned clips in a whole run, without Ray and with it: every healthy clip is tagged, the counts
are exact, and a killed worker leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from reelsight.engine import EngineHost, EngineRecipe
from reelsight.media.decoder import Decoding
from reelsight.plan import TaggingPlan
from reelsight.rayx.cluster import Widths
from reelsight.rayx.dataset import tag_dataset
from reelsight.rayx.stages import decode_clips
from reelsight.runner import SequentialRunner
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest
from reelsight.store.manifest import Manifest, write_manifest
from tests.reelsight.media.misbehaviour import Misbehaving, order
from tests.reelsight.media.process_tree import children, nurseries, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

# Code and attempts of each kind of poison.
DEATHS = {
    "segfault": ("media.decoder_crashed", 2),
    "sigkill": ("media.decoder_crashed", 2),
    "exit": ("media.decoder_crashed", 2),
    "balloon": ("media.decoder_memory", 2),
    "loop": ("media.decoder_timeout", 2),
    "index": ("internal.unexpected", 1),
}

Outcome = dict[str, tuple[str, str | None, int | None]]


@pytest.fixture
def plan(fake_plan: TaggingPlan) -> TaggingPlan:
    isolation = Misbehaving(timeout_s=5.0, memory_mb=1024)
    return replace(fake_plan, decoding=Decoding(isolation=isolation))


@pytest.fixture
def rows(samples: list[SampleClip], tmp_path: Path) -> list[dict[str, Any]]:
    """Healthy clips with a poisoned one after each of the first."""
    found = []
    deeds = list(DEATHS)
    for i, sample in enumerate(samples):
        found.append({"clip_id": sample.clip_id, "uri": str(sample.path)})
        if i < len(deeds):
            poisoned = tmp_path / f"{deeds[i]}.mp4"
            poisoned.write_bytes(order(deeds[i]))
            found.append({"clip_id": deeds[i], "uri": str(poisoned)})
    return found


@pytest.fixture
def expected(samples: list[SampleClip]) -> Outcome:
    healthy: Outcome = {sample.clip_id: ("tagged", None, None) for sample in samples}
    return healthy | {deed: ("dead", code, tries) for deed, (code, tries) in DEATHS.items()}


def test_a_run_without_ray_outlives_its_clips(
    plan: TaggingPlan, fake_recipe: EngineRecipe, rows: list[dict[str, Any]], expected: Outcome
) -> None:
    host = EngineHost(fake_recipe.open_engine())
    before = children(os.getpid())
    with SequentialRunner(plan, host) as runner:
        reports = list(runner.run(ClipRequest(row["clip_id"], row["uri"]) for row in rows))
    host.close()
    got = {
        r.clip.clip_id: (
            r.status,
            r.failure.code if r.failure else None,
            r.failure.attempts if r.failure else None,
        )
        for r in reports
    }
    assert len(reports) == len(rows)
    assert got == expected
    assert children(os.getpid()) == before


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_with_ray_outlives_its_clips(
    plan: TaggingPlan,
    fake_recipe: EngineRecipe,
    fake_settings: Settings,
    rows: list[dict[str, Any]],
    expected: Outcome,
    tmp_path: Path,
) -> None:
    manifest = Manifest.open(write_manifest(tmp_path / "m.parquet", rows))
    dataset = tag_dataset(manifest, plan, fake_recipe, fake_settings, Widths(2, 1))
    stored = dataset.take_all()
    got = {
        row["clip"]["clip_id"] if "clip" in row else row["clip_id"]: (
            row["status"],
            row["error"]["code"] if row["error"] else None,
            row["error"]["attempts"] if row["error"] else None,
        )
        for row in stored
    }
    assert len(stored) == len(rows)
    assert got == expected


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_ray_worker_leaves_nothing(plan: TaggingPlan, samples: list[SampleClip]) -> None:
    class Owner:  # Here, because a worker cannot import this module.
        def decode(self, plan: TaggingPlan, clip_id: str, uri: str) -> tuple[int, bool, list[int]]:
            """Its process id, whether there are pixels, and the processes below it."""
            batch = pa.table({"clip_id": [clip_id], "uri": [uri]})
            (row,) = decode_clips(batch, plan, None)
            (nursery,) = nurseries(os.getpid())
            return os.getpid(), row["pixels"][0].is_valid, [nursery, *children(nursery)]

    owner = ray.remote(max_restarts=0)(Owner).remote()
    pid, decoded, below = ray.get(owner.decode.remote(plan, "a", str(samples[0].path)))
    assert decoded
    assert len(below) == 2
    os.kill(pid, signal.SIGKILL)
    assert wait_gone([pid, *below]) == []
