"""The servers that are compared, all with the same weights, labels and number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.online.servers import ROOT, Server, behind_haproxy, door
from benchmarks.pipeline.cases import Case
from reelsight.samples import write_samples

__all__ = [
    "FASTAPI",
    "LITSERVE",
    "OURS",
    "SERVE",
    "contenders",
    "int8_registry",
]

FP32, FP32_HAPROXY = "reelsight serve, FP32", "reelsight serve, FP32, HAProxy"
INT8, INT8_HAPROXY = "reelsight serve, INT8", "reelsight serve, INT8, HAProxy"
OURS = (FP32, FP32_HAPROXY, INT8, INT8_HAPROXY)
FASTAPI, LITSERVE, SERVE = "FastAPI + torch", "LitServe + torch", "Ray Serve tutorial"
_PEERS = {FASTAPI: "fastapi_peer", LITSERVE: "litserve_peer", SERVE: "serve_peer"}
_JUDGING_CLIPS, _JUDGING_FRAMES = 20, 300


def contenders(case: Case, work: Path, threads: int, registry: Path | None) -> list[Server]:
    """Ours first; INT8 where a registry has its package."""
    common: dict[str, object] = {
        "model": case.model,
        "bank": case.bank,
        "engine.threads": threads,
        "data_dir": work / "data",
        "cache_dir": work / "cache",
    }
    found = [door(common, FP32), behind_haproxy(door(common, FP32_HAPROXY), work)]
    if registry is not None:
        packaged = common | {"engine.registry": registry, "engine.precision": "int8-fp32"}
        found += [door(packaged, INT8), behind_haproxy(door(packaged, INT8_HAPROXY), work)]
    files = ("--model", str(case.twin), "--text", str(case.text), "--threads", str(threads))
    for name, module in _PEERS.items():
        found.append(Server(name, (sys.executable, "-m", f"benchmarks.online.{module}", *files)))
    return found


def int8_registry(case: Case, work: Path, threads: int) -> tuple[Path | None, str]:
    """A registry with the model's INT8 package, built and gated here; or None and why not."""
    registry = work / "registry"
    if (registry / "built.json").is_file():
        return registry, ""
    command = [sys.executable, "-m", "reelsight.cli.app", "engine", "build"]
    command += ["--precision", "int8-fp32", "--no-fallback", "--bench-seconds", "0", "--json"]
    command += ["--model", case.model, "--bank", str(case.bank), "--registry", str(registry)]
    write_samples(work / "judging", count=_JUDGING_CLIPS)
    command += ["--frames", str(work / "judging"), "--count", str(_JUDGING_FRAMES)]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "REELSIGHT_ENGINE__THREADS": str(threads),
        "REELSIGHT_DATA_DIR": str(work / "data"),
        "REELSIGHT_CACHE_DIR": str(work / "cache"),
    }
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
        return None, str(said.get("error", {}).get("message", done.stderr[-500:]))
    (registry / "built.json").write_text(done.stdout)
    return registry, ""
