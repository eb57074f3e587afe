"""`python -m benchmarks.online.overload`: what becomes of the door when three times as much comes.

Protocol: `reelsight serve` as it is shipped, with the shipped model, and the same behind HAProxy.
Capacity is what 16 clients get answered in closed loop. Then requests come at three times that
rate, at the moments of a Poisson process whether or not earlier ones are answered. Goodput is
answers of 200 a second from the first request to the last one's beginning. A reject is an answer
of 429 or 503. Memory is the proportional set size of the whole process tree, Ray's daemons
included. When the load ends, single requests are sent one after another: the door has recovered
with the first that takes at most three times what one took before the load. The client shares the
machine with the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.online.client import Order, Outcome, ask, start, what_came
from benchmarks.online.figures import RESULTS, facts, percentile, save, summary
from benchmarks.online.inputs import BOUNDARY, make_clips, make_images, multipart
from benchmarks.online.servers import Tree, behind_haproxy, door, running

TIMES = 3
_CLOSED = 16
_SAMPLE_S, _PROBE_S, _PROBES_S = 2.0, 0.1, 40.0
_REJECTS = (429, 503)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--capacity-seconds", type=float, default=20.0)
    parser.add_argument("--input", choices=("image", "clip"), nargs="+", default=["image", "clip"])
    parser.add_argument(
        "--proxy", choices=("python", "haproxy"), nargs="+", default=["python", "haproxy"]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where uploads are kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true", help="images alone, for a moment")
    options = parser.parse_args()
    if options.tiny:
        options.seconds, options.capacity_seconds = 4.0, 2.0
        options.input, options.proxy = ["image"], ["python"]
    known = facts()
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        found = {}
        for kind in options.input:
            for proxy in options.proxy:
                name = kind if proxy == "python" else f"{kind}, HAProxy"
                found[name] = overload(kind, proxy, options, work)
                print(name, json.dumps(found[name]), flush=True)
    protocol = " ".join(__doc__.split("Protocol: ")[1].split())
    settings = {"seconds": options.seconds, "times": TIMES, "threads": options.threads}
    told = {"protocol": protocol, "settings": settings, "kinds": found}
    save(options.results, "overload", known | told)


def overload(kind: str, proxy: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One kind of upload, by a door of its own."""
    if kind == "image":
        uploads = make_images(work / "images", 8, (720, 1280))
    else:
        uploads = make_clips(work / "clips", 2, (360, 640))
    files = [str(path) for path in uploads]
    settings = {"data_dir": work / "data", "engine.threads": options.threads}
    server = door(settings, f"overload {kind} {proxy}")
    if proxy == "haproxy":
        server = behind_haproxy(server, work)
    with running(server, work / "logs") as tree:
        ask(Order(tree.port, server.tags, files, 2.0, 4))  # Warm.
        before = tree.cpu_s
        closed = ask(Order(tree.port, server.tags, files, options.capacity_seconds, _CLOSED))
        capacity = summary(closed, tree.cpu_s - before)
        calm = median(_probe(tree, uploads[0])[1] for _ in range(5))
        order = Order(
            tree.port, server.tags, files, options.seconds, rate=TIMES * capacity["per_s"]
        )
        memory, probes, told = watched(tree, order, uploads[0])
    return judged(capacity, calm, order, memory, probes, told) | {
        "upload": f"{round(uploads[0].stat().st_size / 1000)} KB"
    }


def watched(
    tree: Tree, order: Order, upload: Path
) -> tuple[list[float], list[tuple[float, float, int]], dict[str, Any]]:
    """The load; memory meanwhile, MiB; and after it probes: when (clock), seconds, status."""
    memory, probes = [tree.pss_mib], []
    client, began = start(order), time.monotonic()
    while time.monotonic() - began < order.seconds:
        time.sleep(min(_SAMPLE_S, order.seconds))
        memory.append(tree.pss_mib)
    over = time.monotonic()
    calm = 0
    while time.monotonic() - over < _PROBES_S and (client.poll() is None or calm < 10):
        at = time.time()
        status, took = _probe(tree, upload)
        probes.append((at, took, status))
        calm = calm + 1 if status == 200 else 0
        time.sleep(_PROBE_S)
    told = what_came(client)
    memory.append(tree.pss_mib)
    return memory, probes, told


def judged(
    capacity: dict[str, Any],
    calm_s: float,
    order: Order,
    memory: list[float],
    probes: list[tuple[float, float, int]],
    told: dict[str, Any],
) -> dict[str, Any]:
    """What it amounts to, and which aims are met."""
    outcomes: list[Outcome] = told["outcomes"]
    good = [one for one in outcomes if one.status == 200]
    rejects = [one for one in outcomes if one.status in _REJECTS]
    in_time = [one for one in good if one.at + one.took <= order.seconds]
    goodput = len(in_time) / order.seconds
    ended = told["began_at"] + order.seconds
    back = [at - ended for at, took, status in probes if status == 200 and took <= 3 * calm_s]
    recovered = next((round(max(0.0, at), 2) for at in back if at >= 0), None)
    share = goodput / capacity["per_s"] if capacity["per_s"] else 0.0
    p99 = percentile([one.took for one in rejects], 0.99)
    return {
        "capacity_per_s": capacity["per_s"],
        "capacity_p99_ms": capacity["p99_ms"],
        "server_cpu_ms": capacity["server_cpu_ms"],
        "offered_per_s": round(len(outcomes) / order.seconds, 1),
        "unsent": told["unsent"],
        "goodput_per_s": round(goodput, 2),
        "goodput_share": round(share, 3),
        "good_p50_ms": percentile([one.took for one in good], 0.5),
        "good_p99_ms": percentile([one.took for one in good], 0.99),
        "rejects": len(rejects),
        "rejects_with_retry_after": sum(one.retry for one in rejects),
        "reject_p50_ms": percentile([one.took for one in rejects], 0.5),
        "reject_p99_ms": p99,
        "neither": len(outcomes) - len(good) - len(rejects),
        "neither_are": sorted(
            {f"{o.status} {o.code}" for o in outcomes if o.status != 200}
            - {f"{o.status} {o.code}" for o in rejects}
        ),
        "memory_mib": {
            "start": round(memory[0]),
            "peak": round(max(memory)),
            "end": round(memory[-1]),
        },
        "recovered_s": recovered,
        "client_cpu_s_per_s": round(told["cpu_s"] / max(told["span_s"], 1e-9), 2),
        "aims": {
            "goodput >= 90 % of capacity": share >= 0.9,
            "rejects p99 < 50 ms": p99 is not None and p99 < 50,
            "recovered < 5 s": recovered is not None and recovered < 5,
        },
    }


def _probe(tree: Tree, upload: Path) -> tuple[int, float]:
    """Status, 0 where there is no answer, and seconds of one request."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", tree.port, timeout=30)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    try:
        connection.request("POST", tree.server.tags, multipart(upload), kind)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return status, time.perf_counter() - began


if __name__ == "__main__":
    main()
