"""The INT8 extractor beside the FP32 one: what it reads, how fast, in how much memory.

It is calibrated on other clips than those it is measured on. Time and memory are taken in a process
of its own for each: CPU time a picture in batches of eight on one thread, and how much more memory
the process held at most than before the file was opened.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marks.attacks import Film
from benchmarks.marks.compare import Clip, attacked_films
from benchmarks.marks.contenders import Ours
from engines.marks.reader import reader_master
from engines.precision.calibration import Method, calibrate
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import plan_named
from engines.runtimes.ort_cpu import OrtEngine, open_session
from engines.runtimes.ort_marks import OrtMarkReader
from reelsight.copies.rehearsal import rehearse
from reelsight.errors import FetchError, MediaError
from reelsight.media.limits import MediaLimits
from reelsight.nouns.mark_pair import MarkPair

__all__ = ["footprint", "measure_int8"]

_PLAN = "int8-fp32"
_METHOD: Method = "entropy"
_BUCKETS = (1, 2, 4, 8)
_BATCH = 8


def measure_int8(
    pair: Path,
    clips: Sequence[Clip],
    names: Sequence[str],
    calibrated_on: Sequence[Path],
    *,
    strength_db: float,
    scratch: Path,
    batches: int = 20,
) -> dict[str, Any]:
    """Bits by attack for both, their CPU time and their memory.

    Args:
        pair: The pair's directory.
        clips: What is read.
        names: Of attacks.
        calibrated_on: Other clips.
        strength_db: PSNR of marks.
        scratch: For derived files.
        batches: That each is timed over.
    """
    loaded = MarkPair.load(pair)
    with_fp32 = Ours(pair, strength_db)
    spec = OrtMarkReader(loaded, buckets=_BUCKETS).spec
    model = reader_master(loaded, spec, scratch)
    frames = _frames(calibrated_on, with_fp32, strength_db)
    calibration = calibrate(model.image, frames, _METHOD, scratch)
    path = scratch / f"{_PLAN}.onnx"
    made = derive(model.image, plan_named(_PLAN), path, calibration=calibration)
    low = replace(spec, precision=_PLAN, onnx_sha256=made.sha256)
    with_int8 = Ours(pair, strength_db, OrtEngine(low, path), "reelsight INT8")
    rows = {name: _accuracies([with_fp32, with_int8], clips, name) for name in names}
    costs = {"fp32": _in_child(model.image, batches), "int8": _in_child(path, batches)}
    means = [float(np.mean([row[i] for row in rows.values()])) for i in range(2)]
    worst = max(rows, key=lambda name: rows[name][0] - rows[name][1])
    return {
        "plan": _PLAN,
        "method": _METHOD,
        "calibration_frames": len(frames),
        "quantised_layers": len(made.quantised),
        "frame": {"fp32": round(means[0], 5), "int8": round(means[1], 5)},
        "drop_points": round(100 * (means[0] - means[1]), 3),
        "worst": {"attack": worst, "fp32": rows[worst][0], "int8": rows[worst][1]},
        "costs": costs,
        "speed_up": round(costs["fp32"]["cpu_ms"] / costs["int8"]["cpu_ms"], 2),
        "memory_ratio": round(costs["int8"]["mib"] / max(costs["fp32"]["mib"], 0.1), 2),
        "files_mb": {
            name: round(file.stat().st_size / 1e6, 2)
            for name, file in (("fp32", model.image), ("int8", path))
        },
    }


def _frames(paths: Sequence[Path], ours: Ours, strength_db: float) -> FrameSet:
    found = []
    for number, path in enumerate(paths):
        try:
            for take in rehearse(
                path, ours.writer, MediaLimits(), strength_db=strength_db, seed=number
            ):
                found.append(take.luma)
                if len(found) >= 12 * (number + 1):
                    break
        except (FetchError, MediaError):
            continue
    if not found:
        raise SystemExit("no clip to calibrate INT8 on gave frames")
    return FrameSet(np.repeat(np.concatenate(found)[..., None], 3, axis=-1))


def _accuracies(readers: Sequence[Ours], clips: Sequence[Clip], name: str) -> list[float]:
    """Share of right bits over the pictures of all clips as they are, for each reader."""
    right: list[list[float]] = [[] for _ in readers]
    for seed, clip in enumerate(clips):
        rng = np.random.default_rng([98, seed])
        code = rng.integers(0, 2, readers[0].bits).astype(np.float32)
        films: list[Film] = [film for _, film in attacked_films(clip, readers[0], code, (name,))]
        for at, reader in enumerate(readers):
            soft = reader.read(reader.prepare(films[0]), search=False)[0].soft
            right[at].append(float(((soft > 0) == (code > 0.5)).mean()))
    return [round(float(np.mean(each)), 5) for each in right]


def _in_child(path: Path, batches: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.marks.int8", str(path), str(batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path} does not run: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def footprint(path: Path, batches: int) -> dict[str, float]:
    """CPU milliseconds a picture, and MiB more than before the file was opened."""
    rng = np.random.default_rng(1)
    before = _most_kib()
    session = open_session(str(path), threads=1)
    side = session.get_inputs()[0].shape[1]
    pixels = rng.integers(0, 256, (_BATCH, side, side, 3), np.uint8)
    for _ in range(2):
        session.run(None, {"frames": pixels})
    begun = time.process_time()
    for _ in range(batches):
        session.run(None, {"frames": pixels})
    took = time.process_time() - begun
    return {
        "cpu_ms": round(1e3 * took / batches / _BATCH, 3),
        "mib": round((_most_kib() - before) / 1024, 1),
    }


def _most_kib() -> int:
    """Most memory that this program held; getrusage would tell its parent's, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    print(json.dumps(footprint(Path(sys.argv[1]), int(sys.argv[2]))))
