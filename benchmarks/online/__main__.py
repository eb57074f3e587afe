"""`make bench-online`: the door beside FastAPI, LitServe and Ray Serve's tutorial, on the CPU.

Protocol: one machine, one run, ViT-B/32 with the same random weights in all of them (ours from the
ONNX file that the project exports, the peers' in torch), the same labels, the same uploads as
forms, the same number of threads for the model. The servers are run one at a time and in turn,
round by round, each started anew and warmed up in every round. A client in a process of its own
keeps C requests going for a while and then waits for those under way; a rate is all answers over
that whole time. CPU time is of the server's whole process tree, Ray's daemons included, an answer;
the client's own is given beside it, because it is missing to the server. `no-op` is the server's
health route through the same ingress. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.online.client import Order, ask
from benchmarks.online.contenders import FASTAPI, LITSERVE, OURS, contenders, int8_registry
from benchmarks.online.figures import RESULTS, facts, medians, save, summary
from benchmarks.online.inputs import make_clips, make_images
from benchmarks.online.servers import Tree, running

_AIMS = {FASTAPI: 3.0, LITSERVE: 1.5}
_JUDGED = "image at 32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--clip-concurrency", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="where models and uploads are kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", help="names of contenders begin with one of these")
    parser.add_argument("--no-int8", action="store_true", help="build no INT8 package")
    parser.add_argument("--tiny", action="store_true", help="everything once, for a moment")
    options = parser.parse_args()
    if options.tiny:
        options.rounds, options.seconds, options.no_int8 = 1, 1.0, True
        options.concurrency, options.clip_concurrency = [2], [1]
    with tempfile.TemporaryDirectory(prefix="bench-online-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        found = compare(options, work)
    print(json.dumps({k: found[k] for k in ("servers", "aims")}, indent=1))


def compare(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Every contender in turn, round by round."""
    from benchmarks.pipeline.cases import CASES

    size = (360, 640) if options.tiny else (720, 1280)
    images = make_images(work / "images", 2 if options.tiny else 8)
    clips = make_clips(work / "clips", 2, size, seconds=2 if options.tiny else 10)
    case = CASES["mini" if options.tiny else "vit-b-32"](work)
    registry, why = None, "not asked for"
    if not options.no_int8:
        registry, why = int8_registry(case, work, options.threads)
    known = facts() | {
        "protocol": " ".join(__doc__.split("Protocol: ")[1].split()),
        "model": case.name,
        "uploads": {
            "image": f"JPEG 1920x1080, {_mean_kb(images)} KB",
            "clip": f"H.264 {size[1]}x{size[0]}, {_mean_kb(clips)} KB, one frame a second",
        },
        "int8": why or "package int8-fp32, gated",
    }
    servers = [
        server
        for server in contenders(case, work, options.threads, registry)
        if not options.only or server.name.startswith(tuple(options.only))
    ]
    rounds: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    for number in range(options.rounds):
        for server in servers:
            with running(server, work / "logs") as tree:
                one = measure(tree, options, images, clips)
            rounds[server.name].append(one)
            print(number, server.name, json.dumps(one), flush=True)
        # Whole rounds are kept, should a later one fail.
        settings = {"threads": options.threads, "rounds": number + 1, "seconds": options.seconds}
        told = together(rounds)
        found = known | {"settings": settings, "servers": told, "aims": aims(told)}
        save(options.results, "compared", found)
    return found


def together(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Of each server and kind of request, the medians."""
    return {
        name: {what: medians([one[what] for one in ones]) for what in ones[0]}
        for name, ones in rounds.items()
    }


def measure(
    tree: Tree, options: argparse.Namespace, images: list[Path], clips: list[Path]
) -> dict[str, Any]:
    """One round of one server that has just started."""
    found: dict[str, Any] = {}
    pictures, films = [str(p) for p in images], [str(p) for p in clips]
    ask(Order(tree.port, tree.server.tags, pictures, 2.0, 4))  # Warm.
    for count in options.concurrency:
        found[f"image at {count}"] = counted(tree, pictures, options.seconds, count)
    for count in options.clip_concurrency:
        found[f"clip at {count}"] = counted(tree, films, options.seconds, count)
    found["no-op at 8"] = counted(tree, [], min(5.0, options.seconds), 8)
    return found


def counted(tree: Tree, files: list[str], seconds: float, concurrency: int) -> dict[str, Any]:
    """Requests of one kind for a while, and what they cost."""
    path = tree.server.tags if files else tree.server.health
    before = tree.cpu_s
    told = ask(Order(tree.port, path, files, seconds, concurrency))
    return summary(told, tree.cpu_s - before)


def aims(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours over the peers, where they are asked most at a time."""
    found = []
    for ours in OURS:
        for peer, aim in _AIMS.items():
            mine, theirs = (told.get(name, {}).get(_JUDGED) for name in (ours, peer))
            if not mine or not theirs or not theirs["per_s"]:
                continue
            ratio = mine["per_s"] / theirs["per_s"]
            cpu = theirs["server_cpu_ms"] / mine["server_cpu_ms"]
            tail = mine["p99_ms"] / theirs["p99_ms"]
            found.append(
                {
                    "ours": ours,
                    "peer": peer,
                    "aim": aim,
                    "requests_per_s": round(ratio, 2),
                    "p99": round(tail, 2),
                    "requests_per_cpu_s": round(cpu, 2),
                    "met": ratio >= aim and tail <= 1.0,
                }
            )
    return found


def _mean_kb(paths: list[Path]) -> int:
    return round(sum(path.stat().st_size for path in paths) / len(paths) / 1000)


if __name__ == "__main__":
    main()
