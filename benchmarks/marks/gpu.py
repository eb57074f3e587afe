"""`python -m benchmarks.marks.gpu PAIR`: the extractor on the GPU that is there, by precision.

Protocol: every contender runs the same extractor in a process of its own, one after the other.
Inputs are marked and unmarked frames after encoders. Throughput is of batches back to back: on
frames that are on the device for torch and our engines, from host memory for ONNX Runtime; the best
batch of those asked for, median over rounds. Latency is of one frame, from uint8 in host memory to
float32 bits there. Memory is what nvidia-smi shows more of once the process has run its largest
batch: CUDA's context, libraries, weights and work space. torch eager runs the operators of the
derived file one by one, FP32 without TF32. INT8 and FP8 are calibrated on other clips than those
that are compared on. Agreement is the mean cosine of marked frames' soft bits with FP32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.engines.machine import machine, versions
from benchmarks.marks.gpu_table import marks_gpu_table
from benchmarks.marks.pair import UNTRAINED
from engines.marks.reader import reader_master
from engines.precision.calibration import calibrate
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_marks import open_pair
from reelsight.copies.rehearsal import rehearse
from reelsight.errors import FetchError, MediaError
from reelsight.media.limits import MediaLimits
from reelsight.nouns.mark_pair import MarkPair

__all__ = ["NAMES", "main", "measure_extractor", "work_of"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "marks-h200.json"
NAMES = {
    "eager-fp32": "torch eager FP32",
    "eager-fp16": "torch eager FP16",
    "ort-fp32": "ONNX Runtime FP32",
    "ort-fp16": "ONNX Runtime FP16",
    "ort-int8-fp32": "ONNX Runtime INT8",
    "engine-fp16": "**ours** FP16",
    "engine-int8": "**ours** INT8",
    "engine-fp8": "**ours** FP8",
}
_ON = {
    "cuda": ("eager-fp32", "eager-fp16", "ort-fp16", "engine-fp16", "engine-int8", "engine-fp8"),
    "cpu": ("ort-fp32", "ort-int8-fp32"),
}
_BATCHES = (1, 8, 32, 128, 512)
_LATENCIES = 300
_COMPARED = 128
Pixels = npt.NDArray[np.uint8]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", type=Path)
    parser.add_argument("--footage", type=Path, default=ROOT.parent / "shared/data/videos")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--contenders", nargs="+", choices=tuple(NAMES))
    parser.add_argument("--batches", nargs="+", type=int, default=_BATCHES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a throughput")
    parser.add_argument("--strength", type=float, default=48.0)
    parser.add_argument("--work", type=Path, help="where what was made is kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    pair = MarkPair.load(options.pair)
    with tempfile.TemporaryDirectory(prefix="bench-extractor-") as scratch:
        clips = sorted(p for p in options.footage.iterdir() if p.suffix in (".mp4", ".mkv", ".mov"))
        work = work_of(options.pair, clips, options.work or Path(scratch), options.strength)
        settings = {
            "device": options.device,
            "batches": sorted(set(options.batches)),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "latencies": _LATENCIES if options.seconds >= 0.5 else 20,
        }
        document = {
            "benchmark": options.results.stem,
            "pair": f"{pair.carrier.model}@{pair.carrier.version}",
            "protocol": " ".join(__doc__.split("Protocol: ")[1].split()),
            "machine": machine(options.device),
            "versions": versions(),
            "settings": settings,
            "contenders": {
                NAMES[name]: measure_extractor(name, work, settings)
                for name in options.contenders or _ON[options.device]
            },
        }
    print(marks_gpu_table(document))
    if pair.recipe in UNTRAINED and options.results == RESULTS:
        print(f"{pair.carrier.model} was never trained: nothing is written")
        return
    options.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def work_of(pair: Path, clips: Sequence[Path], work: Path, strength_db: float) -> Path:
    """The master, frames, their FP32 rows and the calibration, in a directory.

    Args:
        pair: The pair's directory.
        clips: Every second one is calibrated on, the others are compared on.
        work: The directory; what is there already is kept.
        strength_db: PSNR of marks.
    """
    work.mkdir(parents=True, exist_ok=True)
    opened = open_pair(pair, buckets=(8,))
    model = reader_master(opened.pair, opened.reader.spec, work)
    halves: list[list[Pixels]] = [[], []]
    marked: list[bool] = []
    for number, path in enumerate(clips):
        half = halves[number % 2]
        if sum(map(len, half)) >= _COMPARED:
            continue
        found = rehearse(path, opened.writer, MediaLimits(), strength_db=strength_db, seed=number)
        # A clip that is damaged gives what it has before that.
        with suppress(MediaError, FetchError):
            for take in found:
                half.append(take.luma)
                if number % 2 == 0:
                    marked += [take.code is not None] * len(take.luma)
                if sum(map(len, half)) >= _COMPARED:
                    break
    if not all(halves):
        raise SystemExit("two clips with texture are needed, or more")
    compared, seen = (np.repeat(np.concatenate(h)[..., None], 3, axis=-1) for h in halves)
    whole = compared[: len(compared) // 8 * 8]
    parts = np.split(whole, len(whole) // 8)
    rows = [opened.reader.run(np.ascontiguousarray(part)) for part in parts]
    np.save(work / "frames.npy", whole)
    np.save(work / "rows.npy", np.concatenate(rows))
    np.save(work / "marked.npy", np.array(marked[: len(whole)]))
    calibrate(model.image, FrameSet(seen), "entropy", work / "calibrations")
    (work / "model.json").write_text(json.dumps({"pair": str(pair.absolute())}), encoding="utf-8")
    np.save(work / "calibrated.npy", seen)
    return work


def measure_extractor(name: str, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One contender in a process of its own; `failed` with the reason alone where it fails."""
    command = [sys.executable, "-m", "benchmarks.marks.gpu_worker"]
    command += [name, str(work), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return {"failed": words[-400:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
