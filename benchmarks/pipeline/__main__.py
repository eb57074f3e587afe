"""`python -m benchmarks.pipeline`: run every contender, count, compare, write results.

Protocol: each contender runs as its own process on N clips and on 4N (the same ones four times,
under other ids), in turn, several times. Its steady cost is the difference of the two runs, each
the least of its repeats, because neighbours on the machine only ever add. Whatever does not grow
with the clips (interpreter, imports, Ray's start and end, loading the model) cancels, without a
clock inside anyone's code; it is given too, as start-up. CPU seconds are user and system time of
the whole process tree; OpenMP threads wait passively, so that torch's are not charged for
spinning while a neighbour holds their core. All contenders get the same clips, one frame a
second, the same weights and the same label embeddings; their embeddings at the same stamps are
compared with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipeline.agreement import compare, read_ours, read_peer
from benchmarks.pipeline.cases import CASES, Case
from benchmarks.pipeline.clips import describe, make_clips, write_manifest
from benchmarks.pipeline.measure import Usage, run_counted

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "pipeline-cpu.json"
OURS, LOOP, NAIVE = "reelsight backfill", "torch loop", "naive Ray Data"
PEERS = {LOOP: "benchmarks.pipeline.torch_loop", NAIVE: "benchmarks.pipeline.naive_ray"}
TIMES = 4  # The larger run's clips over the smaller one's.
VERSIONS = ("ray", "av", "decord", "onnxruntime", "torch", "open_clip_torch", "pillow", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--footage", type=Path, default=ROOT / "../shared/data/videos")
    parser.add_argument("--work", type=Path, help="where clips and models are kept between runs")
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="bench-pipeline-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        clips = make_clips(options.footage, work / "clips")
        manifests = [work / "n.parquet", work / f"{TIMES}n.parquet"]
        write_manifest(clips, manifests[0])
        write_manifest(clips, manifests[1], times=TIMES)
        load = os.getloadavg()[0]
        cases = [
            run_case(CASES[name](work), manifests, options.repeat, work) for name in options.models
        ]
    document = {
        "benchmark": "pipeline-cpu",
        "protocol": " ".join(__doc__.split("Protocol: ")[1].split()),
        "machine": machine() | {"load_at_start": round(load, 2)},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in VERSIONS},
        "sampling": "1 frame per second, square RGB input of the model's size, float32",
        "repeat": options.repeat,
        "clips": {"n": len(clips), "times": TIMES, "shapes": describe()},
        "cases": cases,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    show(document)


def run_case(case: Case, manifests: list[Path], repeat: int, work: Path) -> dict[str, Any]:
    """All contenders on one model."""
    runs: dict[str, tuple[list[Usage], list[Usage]]] = {
        name: ([], []) for name in (OURS, LOOP, NAIVE)
    }
    outputs = work / "outputs"
    for _ in range(repeat):
        for name, sizes in runs.items():
            for usages, manifest in zip(sizes, manifests, strict=True):
                shutil.rmtree(outputs / name, ignore_errors=True)
                outputs.mkdir(exist_ok=True)
                usages.append(run_one(name, case, manifest, outputs / name))
    ours = read_ours(outputs / OURS)
    seen = {name: read_peer(outputs / name) for name in PEERS}
    text = np.load(case.text)
    systems = {}
    for name, (small, large) in runs.items():
        # The last runs were on the larger manifest.
        frames = len((ours if name == OURS else seen[name]).keys)
        systems[name] = cost(small, large, frames)
        if name in seen:
            systems[name]["agreement"] = asdict(compare(ours, seen[name], text))
    return {"model": case.name, "systems": systems, "ratios": ratios(systems)}


def run_one(name: str, case: Case, manifest: Path, output: Path) -> Usage:
    """One contender, one manifest, in a process tree of its own."""
    common = ["--manifest", str(manifest), "--output", str(output)]
    if name == OURS:
        bank = ["--bank", str(case.bank), "--fps", "1"]
        command = ["jobs.backfill", *common, "--model", case.model, *bank]
    else:
        command = [PEERS[name], *common, "--model", str(case.twin), "--text", str(case.text)]
    path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    env |= {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    log = output.with_suffix(".log")
    used = run_counted([sys.executable, "-m", *command], log=log, env=env)
    print(f"  {name:20} {manifest.stem:3} {used.wall_s:6.1f} s {used.cpu_s:6.1f} CPU s", flush=True)
    return used


def cost(small: list[Usage], large: list[Usage], frames: int) -> dict[str, Any]:
    """Steady cost a frame and start-up, from the runs on N and on TIMES x N clips."""
    more = frames * (TIMES - 1) / TIMES
    cpu = [min(u.cpu_s for u in runs) for runs in (small, large)]
    wall = [min(u.wall_s for u in runs) for runs in (small, large)]
    return {
        "frames": frames,
        "cpu_s_per_frame": round((cpu[1] - cpu[0]) / more, 5),
        "frames_per_cpu_s": round(more / (cpu[1] - cpu[0]), 2),
        "frames_per_s": round(more / (wall[1] - wall[0]), 2),
        # Of the larger run, start-up included: less fair to who starts slowly, but robust.
        "frames_per_s_whole_run": round(frames / wall[1], 2),
        # How far the repeats lie apart, as a share of the steady cost they are subtracted for:
        # None with one repeat, which cannot know; near or above 1 the difference means nothing.
        "spread": _spread(small, large, cpu[1] - cpu[0]),
        "startup_cpu_s": round((TIMES * cpu[0] - cpu[1]) / (TIMES - 1), 2),
        "startup_wall_s": round((TIMES * wall[0] - wall[1]) / (TIMES - 1), 2),
        "runs": {"n": [asdict(u) for u in small], f"{TIMES}n": [asdict(u) for u in large]},
    }


def _spread(small: list[Usage], large: list[Usage], difference: float) -> float | None:
    if len(small) < 2:
        return None
    widest = max(max(u.cpu_s for u in r) - min(u.cpu_s for u in r) for r in (small, large))
    return round(widest / difference, 2)


def ratios(systems: dict[str, Any]) -> dict[str, float]:
    """Ours over each peer, in frames per CPU second and in frames per second."""
    found = {}
    for name in PEERS:
        for unit in ("frames_per_cpu_s", "frames_per_s_whole_run"):
            found[f"{unit} / {name}"] = round(systems[OURS][unit] / systems[name][unit], 2)
    return found


def machine() -> dict[str, Any]:
    """What this ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9),
        "system": platform.platform(terse=True),
    }


def show(document: dict[str, Any]) -> None:
    """The table on the terminal."""
    print(document["protocol"], document["machine"], document["versions"], sep="\n")
    for case in document["cases"]:
        print(
            f"\n{case['model']}\n"
            f"{'':20} frames/CPU s  frames/s* CPU ms/frame  start-up CPU s  spread"
        )
        for name, row in case["systems"].items():
            print(
                f"{name:20} {row['frames_per_cpu_s']:12.2f} {row['frames_per_s_whole_run']:9.2f} "
                f"{1000 * row['cpu_s_per_frame']:13.2f} {row['startup_cpu_s']:9.1f} "
                f" {row['spread']}"
            )
        for name, value in case["ratios"].items():
            print(f"  ours / theirs, {name}: {value}")
    print("* by the clock, over the whole larger run, start-up included")


if __name__ == "__main__":
    main()
