"""`python -m benchmarks.decode`: what sampling frames costs, ours and theirs, and how true it is.

Protocol: every contender lives in a process of its own, has decoded a small clip before, and
samples each clip in turn with the others, several times over, in changing order. What is counted
is user and system time of its process and of all that it started, from the path of a file on to
square RGB pictures of 224 pixels in memory: opening, reading and scaling count; interpreter,
imports and warming up do not. The ffmpeg command starts anew for each clip: what it takes for a
clip of one small picture is subtracted. The least of the repeats is taken, because neighbours on
the machine only add; how much more the median took is given as spread. Each repeat is the mean of
as many runs as fill 0.2 s. One decoder thread each. Timing error is the largest distance between
the pts of a picture given and of the picture on display at the time asked for, over all times, by a
pass over all pictures: libraries that tell stamps are taken at their word, the pictures of the
others are looked up among all pictures of the clip. A peer is exact on a clip where it gives a
picture for every time and is never off by more than the longest display of one picture.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decode.clips import MADE, make_clips, make_still_clip
from benchmarks.decode.contenders import CONTENDERS, OURS, absent
from benchmarks.decode.rivals import aims, ratios, settle
from benchmarks.decode.shown import Given, Shown, everything_shown
from benchmarks.engines.machine import machine
from reelsight.errors import MediaError
from reelsight.media.container import open_source
from reelsight.media.decode_plan import survey
from reelsight.media.limits import MediaLimits

__all__ = ["main", "run"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "decode-cpu.json"
EVERY_S = (1.0, 5.0)
LEAST_S = 0.2
PACKAGES = ("av", "numpy", "decord", "torch", "torchcodec", "opencv-python-headless")


class Worker:
    """The process of one contender.

    Args:
        name: Its name.
        still: The clip that it warms up on.
        log: File for what its libraries print.
    """

    def __init__(self, name: str, still: Path, log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.decode.worker", name, str(still)]
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Its answer, or what is wrong; a contender that breaks has refused the clip.

        Raises:
            SystemExit: The process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender's process ended: see {self._log.name}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--footage", type=Path, default=ROOT / "../shared/data/videos")
    parser.add_argument("--work", type=Path, default=ROOT / ".bench-decode")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--only", default="", help="clips whose name contains this")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    made = tuple(clip for clip in MADE if options.only in clip.name)
    paths = [p for p in sorted(options.footage.iterdir()) if options.only in p.name]
    paths += make_clips(made, options.footage, options.work / "clips")
    document = run(paths, options.contenders, EVERY_S, options.repeat, options.work)
    document["clips"] = [
        clip | {"made": clip["name"] in [m.name + ".mp4" for m in made]}
        for clip in document["clips"]
    ]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document["aims"], indent=1))


def run(
    paths: list[Path], names: list[str], every: tuple[float, ...], repeat: int, work: Path
) -> dict[str, Any]:
    """Measure every contender on every clip.

    Args:
        paths: The clips.
        names: Contenders; those that cannot run here are left out and named.
        every: Distances of the times asked for, seconds.
        repeat: How often each is measured.
        work: Directory for logs and the clip to warm up on.
    """
    work.mkdir(parents=True, exist_ok=True)
    why = {name: reason for name in names if (reason := absent(name))}
    names = [name for name in names if name not in why]
    still = make_still_clip(work / "still.mp4")
    workers = {name: Worker(name, still, work / f"{name.replace(' ', '-')}.log") for name in names}
    try:
        clips, truths = {}, {}
        for path in paths:
            try:
                truths[path] = everything_shown(path)
            except MediaError as error:
                clips[path] = {"name": path.name, "refused": error.message}
                continue
            clips[path] = describe(path, truths[path])
        cases = [Case(path, truth, e) for path, truth in truths.items() for e in every]
        for case in cases:
            case.check(workers)
        for turn in range(repeat):
            for case in cases:
                case.measure(workers, turn)
            print(f"round {turn + 1} of {repeat}", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    rows = [case.row(clips[case.path]) for case in cases]
    return {
        "benchmark": "decode-cpu",
        "protocol": " ".join((__doc__ or "").split("Protocol: ")[1].split()),
        "machine": machine("cpu"),
        "versions": versions(),
        "absent": why,
        "ours": OURS,
        "repeat": repeat,
        "clips": list(clips.values()),
        "cases": rows,
        "aims": aims(rows),
    }


class Case:
    """One clip and one distance of times: what came out of it, and what it cost.

    Args:
        path: The clip.
        truth: Its pictures.
        every_s: Distance of the times.
    """

    def __init__(self, path: Path, truth: Shown, every_s: float) -> None:
        self.path = path
        self._truth = truth
        self._every_s = every_s
        self._asked: dict[str, Any] = {
            "path": str(path.absolute()),
            "times": truth.times(every_s),
            "every_s": every_s,
        }
        self._found: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, list[dict[str, Any]]] = {}

    def check(self, workers: dict[str, Worker]) -> None:
        """Ask each for its pictures and look at them."""
        for name, worker in workers.items():
            if name == "scene" and self._every_s > 1:
                continue  # It knows no distance.
            with tempfile.NamedTemporaryFile(suffix=".npz") as file:
                reply = worker.ask("pictures", **self._asked, to=file.name)
                why = reply.get("error")
                self._found[name] = {"refused": why} if why else self._seen(name, file.name)

    def _seen(self, name: str, file: str) -> dict[str, Any]:
        with np.load(file) as arrays:
            given = Given(arrays["pixels"], arrays.get("pts"))
        found: dict[str, Any] = {"frames": len(given.pixels)}
        if name != "scene":
            error_s = self._truth.error_s(given, self._every_s)
            found["timing_error_s"] = round(error_s, 4)
            found["exact"] = bool(
                error_s <= self._truth.longest_s + self._truth.slack_s
                and (name in OURS or found["frames"] == len(self._asked["times"]))
            )
        if not name.startswith("fast"):
            found["strangers"] = self._truth.strangers(given)
        return found

    def measure(self, workers: dict[str, Worker], turn: int) -> None:
        """One repeat of every contender that gave something, the first another each time."""
        names = [name for name, found in self._found.items() if "refused" not in found]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            reply = workers[name].ask("measure", **self._asked, least_s=LEAST_S)
            if "answer" in reply:
                self._runs.setdefault(name, []).append(reply["answer"])
            else:
                print(f"{name} fails on {self.path.name} this time: {reply}", flush=True)

    def row(self, clip: dict[str, Any]) -> dict[str, Any]:
        """What the results file holds of it."""
        systems = {
            name: found | settle(self._runs[name], found["frames"]) if name in self._runs else found
            for name, found in self._found.items()
        }
        return {
            "clip": clip["name"],
            "every_s": self._every_s,
            "asked": len(self._asked["times"]),
            "seekable": clip["fresh_starts"] > 1 and len(self._asked["times"]) > 1,
            "b_frames": clip["b_frames"],
            "seconds": clip["seconds"],
            "systems": systems,
            "ratios": ratios(systems),
        }


def describe(path: Path, truth: Shown) -> dict[str, Any]:
    """The facts of a clip that costs hang on."""
    data = path.read_bytes()
    with open_source(data, MediaLimits()) as source:
        context = source.stream.codec_context
        size, codec = f"{context.width}x{context.height}", source.codec
        stamps = [p.pts for p in source.packets() if p.pts is not None]
    index = survey(data, [], MediaLimits()).index
    return {
        "name": path.name,
        "codec": codec,
        "size": size,
        "seconds": round(truth.end_s, 3),
        "pictures": len(truth.pts),
        # Coded in another order than shown: AV1 hides such pictures inside its packets.
        "b_frames": codec in ("h264", "hevc") and stamps != sorted(stamps),
        "keyframes": index.keyframes if index else 0,
        "fresh_starts": index.fresh_starts if index else 0,
        "unreferenced": index.unreferenced if index else 0,
    }


def versions() -> dict[str, str]:
    """Of all that takes part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if shutil.which("ffmpeg"):
        said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
        found["ffmpeg"] = said.stdout.split()[2]
    return found


if __name__ == "__main__":
    main()
