"""`python -m benchmarks.online.gpu`: the door in front of a GPU.

Protocol: `reelsight serve` as it is shipped, in one replica (single) or three kinds (split), on one
machine with its clients, over HTTP on loopback. Models have random weights and are packages that
the machine built: AOTInductor, FP16, through the gate. Clients are processes that share the
connections and are let go together; each connection asks again when it is answered, for a while,
and those under way are waited for; a rate is all over the time until the last answer. Images are
what the engine counted. A JPEG is a form to /v1/tags, decoded and tagged; raw frames go to
/v2/models/{model}/infer as bytes of the engine's size. Engine time is from a request's arrival in
the engine's queue to its last embedding, by the histogram of /metrics, interpolated in its buckets;
busy is the engine's share of the time. Clips are asked for by one client at a time. CPU of the
server is of its whole process tree.

    PYTHONPATH=platform:. python -m benchmarks.online.gpu

Writes results/online-h200.json after every point, so that a run that is cut short is kept. --tiny
does the same on the CPU with the shipped model, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engines.machine import machine
from benchmarks.engines.prepare import ROOT
from benchmarks.engines.towers import case_of
from benchmarks.online.client import Order, ask
from benchmarks.online.figures import facts
from benchmarks.online.gpu_points import (
    Kind,
    Uploads,
    asked,
    clip_kinds,
    load_kinds,
    make_uploads,
)
from benchmarks.online.gpu_table import gpu_table
from benchmarks.online.packages import BUCKETS, start_packaging
from benchmarks.online.servers import Server, Tree, door, running
from reelsight.atomic import write_whole
from reelsight.errors import first_line

__all__ = ["main"]

RESULT = ROOT / "benchmarks" / "results" / "online-h200.json"
BATCH = 32
_MINI = {"name": "reelsight-mini", "model": "reelsight-mini", "size": 224}
# A start, with Ray's, torch's and the engine's; an end; and a process's own start beside a point.
_PATIENCE_S = 180.0
_START_S, _END_S, _ASIDE_S, _WARM_S = 60.0, 15.0, 3.0, 1.5
_COMPARED = (32, 256)
_WARMED = 16  # As many as decode at a time.
_CLIPS = 4


def main(arguments: list[str] | None = None) -> None:
    """Make, measure, write the document and print its table."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        run = _Run(options, (options.work or Path(scratch)).absolute())
        run.prepare()
        if not options.prepare_only:
            run.measure()
        run.save()
    if not options.prepare_only:
        print(gpu_table(run.document))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--budget", type=float, default=570.0, help="seconds, for everything")
    parser.add_argument("--work", type=Path, help="where models are kept, as by benchmarks.engines")
    parser.add_argument("--models", nargs="+", default=["vit-b-32", "vit-l-14"])
    parser.add_argument("--topologies", nargs="+", default=["single", "split"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 32, 256])
    parser.add_argument("--processes", type=int, default=6, help="of clients, at most")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each point")
    parser.add_argument("--clip-seconds", type=int, default=60, help="of a clip; frames asked for")
    parser.add_argument("--prepare-only", action="store_true", help="inputs and packages alone")
    parser.add_argument("--tiny", action="store_true", help="the shipped model, on the CPU")
    options = parser.parse_args(arguments)
    if options.tiny and options.output == RESULT:
        parser.error("--tiny shows nothing about a GPU: name another --output")
    if options.tiny:
        options.models, options.clients, options.seconds = ["reelsight-mini"], [2], 0.3
        options.processes, options.clip_seconds = 2, 3
    return options


class _Run:
    """One run: the document, and the time that is left."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options, self._work, self._tiny = options, work, bool(options.tiny)
        self._end = time.monotonic() + options.budget
        self._cores = len(os.sched_getaffinity(0))
        self._uploads: Uploads | None = None
        self._made: dict[str, dict[str, Any]] = {}
        found = facts()
        if not self._tiny:
            found["machine"] |= machine("cuda")
        known = ("clients", "processes", "seconds", "clip_seconds")
        self.document: dict[str, Any] = {
            "benchmark": "online-h200",
            "protocol": " ".join(__doc__.split("Protocol: ")[1].split("\n\n")[0].split()),
            **found,
            "tiny": self._tiny,
            "settings": {name: getattr(options, name) for name in known},
            "door": _settings(self._cores),
            "uploads": {},
            "models": {},
            "rows": [],
            "skipped": [],
            "failed": {},
            "took_s": {},
        }

    def prepare(self) -> None:
        """Packages of all models at a time, and meanwhile what is sent."""
        names = [] if self._tiny else list(self._options.models)
        cases = [case_of(name, BUCKETS) for name in names]
        jobs, threads = max(1, len(cases)), max(1, self._cores // max(1, len(cases)))
        began = time.monotonic()
        packagings = [start_packaging(case, self._work, "cuda", jobs, threads) for case in cases]
        self._part("uploads", self._make_uploads)
        if self._tiny:
            self._made["reelsight-mini"] = _MINI
        for packaging in packagings:
            made = self._part(f"{packaging.case.key}, package", partial(packaging.wait, self._left))
            if made is None:
                continue
            self.document["models"][packaging.case.key] = made
            self._made[packaging.case.key] = {
                "name": packaging.case.key,
                "model": made["model"],
                "size": made["size"],
                "settings": {
                    "model": packaging.files.model,
                    "bank": packaging.bank,
                    "engine.registry": packaging.registry,
                    "engine.backend": "aotinductor",
                    "engine.precision": made["precision"],
                },
            }
        self._took("prepare", began)

    def measure(self) -> None:
        """The first model in every topology, then the others in the one that answered most."""
        uploads, models = self._uploads, list(self._made.values())
        if uploads is None or not models:
            return
        first, *others = models
        topologies: list[str] = self._options.topologies
        self._door(first, topologies[0], uploads, whole=True)
        for topology in topologies[1:]:
            self._door(first, topology, uploads, whole=self._tiny, reserve=self._needs(others))
        best = self._best(first["name"])
        self.document["best"] = best
        for model in others:
            self._door(model, best, uploads, whole=True)
        if best != topologies[0] and not self._tiny:
            self._door(first, best, uploads, whole=True, again=True)

    def save(self) -> None:
        """Put what there is on the disk."""
        self._options.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.document, indent=1) + "\n"
        write_whole(self._options.output, text.encode())

    def _make_uploads(self) -> dict[str, str]:
        small, wide = ((240, 320), (240, 428)) if self._tiny else ((480, 640), (480, 854))
        self._uploads = make_uploads(self._work, self._options.clip_seconds, small, wide)
        self.document["uploads"] = self._uploads.words
        return self._uploads.words

    def _door(
        self,
        model: dict[str, Any],
        topology: str,
        uploads: Uploads,
        *,
        whole: bool,
        again: bool = False,
        reserve: float = 0.0,
    ) -> None:
        """Start a door and ask of it all, or what tells topologies apart.

        Args:
            model: What it serves.
            topology: Its shape.
            uploads: What is sent.
            whole: Whether all is asked.
            again: Whether this door was there before, and told what it was asked then.
            reserve: Seconds that others are to have.
        """
        label = f"{model['name']}, {topology}{', the rest' if again else ''}"
        if not self._tiny and self._left < 2 * _START_S + reserve:
            self.document["skipped"].append(label)
            return

        def all_points() -> int:
            points = self._points(model, uploads, whole=whole, again=again)
            server, began = self._server(model, topology), time.monotonic()
            with running(
                server, self._logs, timeout_s=min(_PATIENCE_S, max(30.0, self._left))
            ) as tree:
                self._took(f"{label}, start", began)
                self._warm(tree, points)
                for kind, clients in points:
                    self._point(tree, model["name"], topology, kind, clients)
            return len(points)

        self._part(label, all_points)

    def _points(
        self, model: dict[str, Any], uploads: Uploads, *, whole: bool, again: bool
    ) -> list[tuple[Kind, int]]:
        loads = load_kinds(
            uploads, self._work, model["model"], model["size"], 4 if self._tiny else BATCH
        )
        points = [(kind, n) for kind in loads for n in self._options.clients]
        if not whole:
            return [(kind, n) for kind, n in points if n in _COMPARED]
        points = [(kind, n) for kind, n in points if not (again and n in _COMPARED)]
        clips = clip_kinds(uploads, self._work, model["model"], model["size"])
        return [*points, *((kind, 1) for kind in clips)]

    def _warm(self, tree: Tree, points: list[tuple[Kind, int]]) -> None:
        for kind in {kind.name: kind for kind, _ in points}.values():
            seconds = min(_WARM_S, self._options.seconds / 3)
            ask(Order(tree.port, kind.path, kind.files, seconds, _WARMED, headers=kind.headers))

    def _point(self, tree: Tree, name: str, topology: str, kind: Kind, clients: int) -> None:
        label = f"{name}, {topology}, {kind.name}, {clients} at a time"
        if self._left < self._options.seconds + _ASIDE_S:
            self.document["skipped"].append(label)
            return
        how = (self._options.seconds, self._options.processes)
        row = self._part(label, lambda: asked(tree, kind, clients, *how))
        if row is not None:
            self.document["rows"].append({"model": name, "topology": topology, **row})
            self.save()

    def _server(self, model: dict[str, Any], topology: str) -> Server:
        settings = self.document["door"] | {
            "data_dir": self._work / "data",
            "cache_dir": self._work / "cache",
            "serve.topology": topology,
            **model.get("settings", {}),
        }
        if topology == "split":
            replicas = max(1, self._cores // 4)
            settings["serve.media_replicas"] = replicas
            settings["serve.decoders"] = max(1, self._cores // replicas)
        return door(settings, f"{model['name']} {topology}")

    def _best(self, name: str) -> str:
        """The topology that answered most of the first kind, by the most clients all were asked."""
        first = self.document["rows"][0]["asked"] if self.document["rows"] else ""
        rows = [r for r in self.document["rows"] if (r["model"], r["asked"]) == (name, first)]
        rates: dict[str, float] = {}
        for row in rows:
            if row["clients"] in _COMPARED:
                rates[row["topology"]] = max(rates.get(row["topology"], 0.0), row["per_s"])
        fallback: str = self._options.topologies[0]
        return max(rates, key=lambda topology: rates[topology], default=fallback)

    def _needs(self, models: list[dict[str, Any]]) -> float:
        points = 2 * len(self._options.clients) + _CLIPS
        one = _START_S + _END_S + points * (self._options.seconds + _ASIDE_S)
        return float(len(models) * one)

    def _part(self, name: str, work: Callable[[], Any]) -> Any:
        """What a part answers; None where it fails, which is told and ends nothing else."""
        try:
            done = work()
        except (Exception, SystemExit) as error:
            # The end of a part: a machine is lent for minutes, and the others may still answer.
            words = f"{type(error).__name__}: {first_line(error)}{self._last_words(error)}"
            self.document["failed"][name] = words
            print(f"{name} failed: {words}", flush=True)
            self.save()
            return None
        print(f"{name}: {json.dumps(done)}", flush=True)
        self.save()
        return done

    def _last_words(self, error: BaseException) -> str:
        """What a door that did not come up said last; nothing where it is not a door's end."""
        path = next((p for p in self._logs.glob("*.log") if str(p) in str(error)), None)
        if path is None:
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def _took(self, name: str, began: float) -> None:
        self.document["took_s"][name] = round(time.monotonic() - began, 1)

    @property
    def _left(self) -> float:
        return float(self._end - time.monotonic())

    @property
    def _logs(self) -> Path:
        # Beside the document, so that they are kept with it.
        output: Path = self._options.output.absolute()
        return output.parent / f"{output.stem}-logs"


def _settings(cores: int) -> dict[str, object]:
    """What differs from the defaults: room for as many clients as ask, and no text tower."""
    return {
        "engine.threads": min(8, cores),
        "engine.max_queued_frames": 16_384,
        "serve.max_requests": 512,
        "serve.max_waiting_clips": 512,
        "serve.embeddings.text": False,
    }


if __name__ == "__main__":
    main()
