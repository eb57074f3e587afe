"""NVDEC against the CPU on a machine with an NVIDIA GPU, first whether it is right, then how fast.

    PYTHONPATH=platform:. python -m benchmarks.decode.nvdec

Writes results/decode-h200.json after every measurement, so that one that is cut short is kept, and
prints the table at the end. --tiny runs the same steps over a double, without a GPU, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.decode.nvdec_clips import MADE, TINY, Footage, given, make_all
from benchmarks.decode.nvdec_device import agreement, parts, self_tested, sessions, truth
from benchmarks.decode.nvdec_streams import GEOMETRY, SAMPLING, in_processes, in_threads
from benchmarks.decode.nvdec_table import nvdec_table
from benchmarks.decode.nvdec_vendor import (
    MEASURED_480P,
    SOURCE,
    published,
    video_clocks,
    watched,
)
from benchmarks.engines.machine import machine, versions

__all__ = ["main", "measure"]

RESULT = Path(__file__).parents[1] / "results" / "decode-h200.json"
PROTOCOL = (
    "one frame a second, squashed to 224x224. A stream is a thread or a process with a decoder of "
    "its own that decodes one clip again and again from memory; all start together after a clip "
    "each, and each is timed to the end of its last clip. Pictures are those up to the last one "
    "asked for, all of which have to be decoded where a clip has one keyframe. Sizes, packets and "
    "caps are read by PyAV before NVDEC sees a clip, and that is in every number. CPU is that of "
    "the whole process or of all processes. The video engines' use is asked of nvidia-smi in the "
    "middle of a row."
)
STREAMS = (1, 4, 8, 16)
TINY_TRUTH = ("h264", "rotation 90", "10 bit hevc", "interlaced", "variable rate, B-frames, mkv")


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the document and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", help="MP4 files to use instead of made ones")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each row")
    parser.add_argument("--budget", type=float, default=230.0, help="seconds, for everything")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--tiny", action="store_true", help="over a double, without a GPU")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if options.tiny and options.output == RESULT:
        parser.error("--tiny shows nothing about a GPU: name another --output")
    document = measure(options)
    print(nvdec_table(document))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all steps that fit into the budget; what is in the document is on the disk."""
    run = _Run(options)
    with tempfile.TemporaryDirectory() as directory:
        run.prepare(Path(directory))
        run.correctness()
        run.times()
        run.rows()
    run.save()
    return run.document


class _Run:
    """One run: the document, and the time that is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._tiny = options, bool(options.tiny)
        self._end = time.monotonic() + options.budget
        self._cores = 2 if self._tiny else len(os.sched_getaffinity(0))
        self._footage: list[Footage] = []
        self._clock: float | None = None
        names = {"seconds": options.seconds, "streams": list(options.streams)}
        self.document: dict[str, Any] = {
            "benchmark": "decode-h200",
            "protocol": PROTOCOL,
            "machine": machine("cpu" if self._tiny else "cuda"),
            "versions": _versions(),
            "settings": names | {"sampling": str(SAMPLING), "size": GEOMETRY.size},
            "tiny": self._tiny,
            "clips": [],
            "self_test": None,
            "truth": {},
            "agreement": {},
            "sessions": {},
            "parts": {},
            "rows": [],
            "vendor": {"source": SOURCE, "clocks": {}, "figures": {}},
            "skipped": [],
            "failed": {},
        }

    def prepare(self, directory: Path) -> None:
        """Make the clips, or look at those given; meanwhile a child decodes what is known."""
        # In a child, because a library that crashes there must not end the rest.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            known = child.submit(truth, self._tiny, TINY_TRUTH if self._tiny else None)
            if self._options.clips:
                self._footage = [given(path) for path in self._options.clips]
            else:
                self._footage = make_all(TINY if self._tiny else MADE, directory, self._cores)
            self.document["clips"] = [asdict(clip) | {"path": None} for clip in self._footage]
            self._into(self.document, "truth", 0, known.result)
        if not self._tiny:
            clocks = self._into(self.document["vendor"], "clocks", 0, video_clocks)
            self._clock = (clocks or {}).get("most_mhz")

    def correctness(self) -> None:
        """The self-test, and the clips that will be measured against PyAV."""
        self._into(self.document, "self_test", 0, partial(self_tested, self._tiny))
        for clip in self._footage:
            work = partial(agreement, clip, self._tiny)
            self._into(self.document["agreement"], clip.name, 5, work, "agreement with PyAV")

    def times(self) -> None:
        """Sessions and the parts of a clip, one stream."""
        self._into(self.document, "sessions", 10, partial(sessions, self._footage, self._tiny))
        for clip in self._footage[:4]:
            work = partial(parts, clip, self._tiny)
            self._into(self.document["parts"], clip.name, 5, work, "parts")

    def rows(self) -> None:
        """Streams: NVDEC by their number, the CPU on one core and all, to the end, in processes."""
        several = min(8, max(self._options.streams))
        for clip in self._footage[:4]:
            for streams in self._options.streams:
                self._row(clip, "nvdec", streams)
            self._row(clip, "pyav", 1, in_processes)
            self._row(clip, "pyav", self._cores, in_processes)
        for clip in self._footage[:2]:
            for kind in ("nvdec-device", "nvdec-host-engine", "nvdec-device-engine"):
                self._row(clip, kind, several)
        for clip in self._footage[4:]:
            self._row(clip, "nvdec", several)
            self._row(clip, "pyav", self._cores, in_processes)
        for clip in self._footage[:2]:
            self._row(clip, "nvdec", several, in_processes)

    def _row(
        self,
        clip: Footage,
        kind: str,
        streams: int,
        how: Callable[..., dict[str, Any]] = in_threads,
    ) -> None:
        where = "processes" if how is in_processes else "threads"
        words = f"{clip.name}, {kind}, {streams} {where}"
        seconds = self._options.seconds
        # A process loads torch and makes a CUDA context of its own.
        ahead = 15 if how is in_processes and kind != "pyav" else 3
        if self._left() < 2 * seconds + ahead:
            self.document["skipped"].append(words)
            return
        seen: dict[str, Any] = {}
        watch = threading.Timer(seconds * 0.6, lambda: seen.update(watched()))
        fps = clip.pictures / clip.seconds
        arguments: list[Any] = [kind, clip.path, streams, seconds, self._tiny, fps]
        if how is in_threads and not self._tiny:
            arguments.append(watch.start)
        row = {"clip": clip.name} | how(*arguments)
        watch.cancel()
        if watch.is_alive():
            watch.join()
        if seen:
            row["watched"] = seen
        self._share(row, clip)
        self.document["rows"].append(row)
        print(json.dumps(row), flush=True)
        self.save()

    def _share(self, row: dict[str, Any], clip: Footage) -> None:
        """Hold NVDEC's pictures a second against a figure."""
        gpu = self.document["machine"].get("gpu", {}).get("name", "")
        if row["kind"] == "pyav" or "failed" in row:
            return
        clock = row.get("watched", {}).get("video_mhz") or self._clock
        figure, of = None, "the vendor's"
        if clock is not None:
            figure = published(gpu, clip.codec, clip.height, clock)
        if figure is not None:
            self.document["vendor"]["figures"][clip.name] = figure
        elif (clip.codec, clip.width, clip.height) == ("h264", 854, 480) and "H200" in gpu:
            figure, of = MEASURED_480P, "8,500 measured before"
        if figure is not None:
            row |= {"share": round(row["pictures_per_s"] / figure, 3), "share_of": of}

    def _into(
        self, place: Any, name: str, seconds: float, work: Callable[[], Any], of: str = ""
    ) -> Any:
        """Put an answer into the document where there is time for it; None where there is none."""
        label = f"{name}, {of}" if of else name
        if self._left() < seconds:
            self.document["skipped"].append(label)
            return None
        try:
            place[name] = work()
        except Exception as error:
            # The end of a step: a machine is lent for minutes, and the others may still answer.
            words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            self.document["failed"][label] = words
            print(f"{label} failed: {words}", flush=True)
            self.save()
            return None
        print(f"{label}: {json.dumps(place[name])}", flush=True)
        self.save()
        return place[name]

    def _left(self) -> float:
        left: float = self._end - time.monotonic()
        return left

    def save(self) -> None:
        """Put what there is on the disk."""
        text = json.dumps(self.document, indent=1)
        self._options.output.write_text(text + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    known = versions()
    found: dict[str, str] = {
        name: known[name] for name in ("python", "torch", "numpy") if name in known
    }
    for name in ("av", "PyNvVideoCodec"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # Carried along without its metadata, or not there.
            try:
                found[name] = str(getattr(import_module(name), "__version__", "unknown"))
            except (ImportError, OSError, RuntimeError):
                continue
    return found


if __name__ == "__main__":
    main()
