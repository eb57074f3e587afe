"""`make bench-poison`: what poisoned clips cost a run, and whether they cost it anything else.

Protocol: the same manifest twice, on one machine, each in a process of its own: once as it is, and
once with one clip in a hundred replaced by bytes that make the decoder fall (segmentation fault),
loop, ask for 10 GiB, or fork without end, by turns. The misdeeds are real, in the process that
decodes; only their cause, a decoder written for it, stands in for bytes that nobody can publish.
The rest is the run of `python -m jobs.backfill`: Ray Data, children that decode, the shipped model,
Parquet, and the count of the rows. Healthy clips are footage re-encoded to 10 s of 854x480. Then,
clip by clip: every healthy one is tagged, with the tags of the clean run; every poisoned one is
dead with its own reason after two attempts at most. The slowdown is of the time between the first
row and the last by the clock, and of the CPU time of the whole process tree.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.engines.machine import machine
from benchmarks.pipeline.clips import ClipShape, encode_clip
from benchmarks.pipeline.measure import run_counted
from tests.reelsight.media.misbehaviour import Misbehaving, order

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "poison-cpu.json"
FOOTAGE = ROOT.parent / "shared" / "data" / "videos"
DEEDS = ("segfault", "loop", "balloon", "fork_for_ever")
_SHAPE = ClipShape(854, 480, 10, 2, "street_30s_h264.mp4")
_SOURCES = 8
_ONE_IN = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--timeout-s", type=float, default=5.0, help="media.isolation.timeout_s")
    parser.add_argument("--memory-mb", type=int, default=2048, help="media.isolation.memory_mb")
    parser.add_argument("--work", type=Path, default=ROOT / ".bench-poison")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--footage", type=Path, default=FOOTAGE)
    parser.add_argument("--run", type=Path, help="one run: its manifest; for the script itself")
    options = parser.parse_args()
    if options.run is not None:
        tag(options.run, options.timeout_s, options.memory_mb)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    paths = [
        encode_clip(options.footage, _SHAPE, options.work / f"healthy-{i}.mp4", skip=75 * i)
        for i in range(_SOURCES)
    ]
    clean = write_manifest(options.work / "clean", options.clips, paths, poisoned=False)
    poisoned = write_manifest(options.work / "poisoned", options.clips, paths, poisoned=True)
    found = {
        path.parent.name: measured(path, options.timeout_s, options.memory_mb)
        for path in (clean, poisoned)
    }
    document = {
        "benchmark": options.results.stem,
        "protocol": " ".join(__doc__.split("Protocol: ")[1].split()),
        "machine": machine("cpu"),
        "versions": {name: version(name) for name in ("av", "ray", "onnxruntime", "numpy")},
        "settings": {
            "clips": options.clips,
            "timeout_s": options.timeout_s,
            "memory_mb": options.memory_mb,
        },
        "runs": found,
        "slowdown": {
            name: round(found["poisoned"][name] / found["clean"][name] - 1, 4)
            for name in ("wall_s", "cpu_s")
        },
        "outcome": outcome(clean, poisoned),
    }
    options.results.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({k: document[k] for k in ("runs", "slowdown", "outcome")}, indent=1))


def write_manifest(directory: Path, clips: int, paths: list[Path], *, poisoned: bool) -> Path:
    """`clips` rows, every hundredth of them poisoned where it is asked for."""
    directory.mkdir(exist_ok=True)
    rows: dict[str, list[str]] = {"clip_id": [], "uri": []}
    for i in range(clips):
        path, name = paths[i % len(paths)], f"clip-{i:05d}"
        if i % _ONE_IN == _ONE_IN // 2:
            deed = DEEDS[i // _ONE_IN % len(DEEDS)]
            name = f"{deed}-{i:05d}"
            if poisoned:
                path = directory / f"{deed}.mp4"
                path.write_bytes(order(deed))
        rows["clip_id"].append(name)
        rows["uri"].append(str(path.absolute()))
    target = directory / "manifest.parquet"
    pq.write_table(pa.table(rows), target)
    return target


def measured(manifest: Path, timeout_s: float, memory_mb: int) -> dict[str, Any]:
    """Run a manifest in a process of its own, and count what it took."""
    command = [sys.executable, "-m", "benchmarks.poison", "--run", str(manifest)]
    command += ["--timeout-s", str(timeout_s), "--memory-mb", str(memory_mb)]
    log = manifest.parent / "log"
    usage = run_counted(command, log=log, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    told = json.loads((manifest.parent / "told.json").read_text())
    return {**told, "cpu_s": round(usage.cpu_s, 2), "whole_wall_s": round(usage.wall_s, 2)}


def tag(manifest_path: Path, timeout_s: float, memory_mb: int) -> None:
    """The backfill, with the decoder that can be made to misbehave."""
    from engines.catalog import recipe_for
    from reelsight.plan import plan_for
    from reelsight.rayx.cluster import ray_session
    from reelsight.rayx.dataset import tag_dataset
    from reelsight.settings import Settings
    from reelsight.store.manifest import Manifest

    settings = Settings()
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    isolation = Misbehaving(timeout_s=timeout_s, memory_mb=memory_mb)
    plan = replace(plan, decoding=replace(plan.decoding, isolation=isolation))
    manifest = Manifest.open(manifest_path)
    with ray_session(settings) as widths:
        started = time.perf_counter()
        tables = tag_dataset(manifest, plan, recipe, settings, widths).iter_batches(
            batch_format="pyarrow", batch_size=None
        )
        table = pa.concat_tables(list(tables), promote_options="default")
        wall_s = time.perf_counter() - started
    pq.write_table(
        pa.table(
            {
                "clip_id": pc.struct_field(table["clip"], "clip_id"),
                **{name: table[name] for name in ("status", "tags", "error")},
            }
        ),
        manifest_path.parent / "reports.parquet",
    )
    (manifest_path.parent / "told.json").write_text(
        json.dumps({"rows": table.num_rows, "wall_s": round(wall_s, 2)})
    )


def outcome(clean: Path, poisoned: Path) -> dict[str, Any]:
    """Clip by clip, what became of it."""
    before, after = (reports(path.parent / "reports.parquet") for path in (clean, poisoned))
    wanted = set(before)
    healthy = [name for name in wanted if name.startswith("clip-")]
    sick = sorted(wanted - set(healthy))
    deaths = Counter(
        (name.rsplit("-", 1)[0], (after[name]["error"] or {}).get("code"))
        for name in sick
        if name in after and after[name]["status"] == "dead"
    )
    return {
        "rows_lost_or_twice": len(wanted ^ set(after)),
        "healthy": len(healthy),
        "healthy_tagged": sum(after[name]["status"] == "tagged" for name in healthy),
        "healthy_tags_as_in_the_clean_run": sum(
            after[name]["tags"] == before[name]["tags"] for name in healthy
        ),
        "poisoned": len(sick),
        "poisoned_dead": sum(deaths.values()),
        "most_attempts": max((after[name]["error"] or {}).get("attempts", 0) for name in sick),
        "deaths": {f"{deed}: {code}": n for (deed, code), n in sorted(deaths.items())},
    }


def reports(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by clip; a clip that is there twice is an error of the run."""
    rows = pq.read_table(path).to_pylist()
    found = {row["clip_id"]: row for row in rows}
    if len(found) != len(rows):
        raise SystemExit(f"{path} holds {len(rows) - len(found)} clips twice")
    return found


if __name__ == "__main__":
    main()
