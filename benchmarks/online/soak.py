"""`python -m benchmarks.online.soak`: replicas are killed and banks are swapped under load.

Protocol: the door in two replicas with the shipped model. Capacity is what 16 clients get answered
in closed loop. First, requests come at 70 % of it at the moments of a Poisson process, and once a
minute one of the replicas gets SIGKILL, by turns; its process id is Serve's own word. Every
request counts. One that was refused with Retry-After (429, 503) or by a closed port may be sent
again by any client; the rest of what failed is an error that a client sees, and is named. Then 4
clients upload in closed loop while 50 banks are put and published, each heard by four answers in a
row before the next: an answer mixes banks when a label of it is not of the bank that it names. The
client shares the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.online.client import Order, Outcome, ask, start, what_came
from benchmarks.online.figures import RESULTS, facts, percentile, save, summary
from benchmarks.online.inputs import BOUNDARY, make_images, multipart
from benchmarks.online.servers import Server, Tree, behind_haproxy, running

_CLOSED, _SHARE, _CLIENTS = 16, 0.7, 4
_LABELS, _NAMES = 5, 4
_HEARD_S = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--capacity-seconds", type=float, default=20.0)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--proxy", choices=("python", "haproxy"), nargs="+", default=["python"])
    parser.add_argument("--work", type=Path, help="where uploads are kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true", help="one kill and three swaps")
    options = parser.parse_args()
    if options.tiny:
        options.minutes, options.kill_every, options.capacity_seconds = 0.25, 12.0, 2.0
        options.swaps = 3
    known = facts()
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        found = {proxy: soak(options, proxy, work) for proxy in options.proxy}
    protocol = " ".join(__doc__.split("Protocol: ")[1].split())
    save(options.results, "soak", known | {"protocol": protocol, "proxies": found})
    print(json.dumps(found, indent=1))


def soak(options: argparse.Namespace, proxy: str, work: Path) -> dict[str, Any]:
    """Both halves, on one door."""
    uploads = make_images(work / "images", 8, (720, 1280))
    files, replicas = [str(path) for path in uploads], work / "replicas.json"
    replicas.unlink(missing_ok=True)
    data = Path(tempfile.mkdtemp(prefix="data-", dir=work))  # Drafts of an earlier run count.
    env = {"REELSIGHT_DATA_DIR": str(data), "REELSIGHT_SERVE__DECODERS": "1"}
    command = (sys.executable, "-m", "benchmarks.online.two_replicas")
    server = Server(
        "two replicas", (*command, "--replicas-file", str(replicas)), "/v1/tags", "/readyz", env
    )
    if proxy == "haproxy":
        server = behind_haproxy(server, work)
    with running(server, work / "logs") as tree:
        ask(Order(tree.port, server.tags, files, 2.0, 4))  # Warm.
        before = tree.cpu_s
        closed = ask(Order(tree.port, server.tags, files, options.capacity_seconds, _CLOSED))
        capacity = summary(closed, tree.cpu_s - before)
        killed = kills(tree, files, replicas, options, capacity["per_s"])
        swapped = swaps(tree, files, options.swaps)
    return {"capacity_per_s": capacity["per_s"], "kills": killed, "swaps": swapped}


def kills(
    tree: Tree, files: list[str], replicas: Path, options: argparse.Namespace, capacity: float
) -> dict[str, Any]:
    """One replica less, again and again."""
    seconds = 60 * options.minutes
    order = Order(tree.port, tree.server.tags, files, seconds, rate=_SHARE * capacity)
    memory, away = [tree.pss_mib], []
    client, began = start(order), time.monotonic()
    for turn in range(int(seconds / options.kill_every)):
        time.sleep(max(0.0, (turn + 0.5) * options.kill_every - (time.monotonic() - began)))
        away.append(_kill_one(replicas, turn, 0.4 * options.kill_every))
        memory.append(tree.pss_mib)
    told = what_came(client)
    outcomes: list[Outcome] = told["outcomes"]
    bad = [one for one in outcomes if one.status != 200]
    refused = [o for o in bad if o.code == "ConnectionRefusedError"]
    told_to_wait = [o for o in bad if o.status in (429, 503) and o.retry]
    errors = len(bad) - len(refused) - len(told_to_wait)
    share = len(bad) / max(1, len(outcomes))
    return {
        "turns": len(away),
        "kills": sum(killed for killed, _ in away),
        "two_again_after_s": [seconds for killed, seconds in away if killed],
        "requests": len(outcomes),
        "unsent": told["unsent"],
        "rate_per_s": round(order.rate, 2),
        "p50_ms": percentile([o.took for o in outcomes if o.status == 200], 0.5),
        "p99_ms": percentile([o.took for o in outcomes if o.status == 200], 0.99),
        "not_answered_share": round(share, 5),
        "told_to_wait": len(told_to_wait),
        "connection_refused": len(refused),
        "other_errors": errors,
        "words": dict(Counter(f"{o.status} {o.code}".strip() for o in bad)),
        "memory_mib": {"start": round(memory[0]), "end": round(memory[-1])},
        "aims": {
            "errors <= 0.1 %": share <= 0.001,
            "every error may be sent again": errors == 0,
        },
    }


def _kill_one(replicas: Path, turn: int, patience_s: float) -> tuple[bool, float | None]:
    """Kill a replica, where two run; seconds until two run again, None where that took too long."""
    before = _running(replicas)
    if len(before) < 2:
        return False, None
    victim = before[turn % len(before)]
    os.kill(victim, signal.SIGKILL)
    at = time.monotonic()
    while time.monotonic() - at < patience_s:
        now = _running(replicas)
        if len(now) == 2 and victim not in now:
            return True, round(time.monotonic() - at, 1)
        time.sleep(0.2)
    return True, None


def _running(replicas: Path) -> list[int]:
    with suppress(FileNotFoundError):
        found = json.loads(replicas.read_text())
        return sorted(one["pid"] for one in found if one["state"] == "RUNNING")
    return []


def swaps(tree: Tree, files: list[str], count: int) -> dict[str, Any]:
    """Banks one after another, while clients upload."""
    over = threading.Event()
    outcomes: list[Outcome] = []

    def load() -> None:
        while not over.is_set():
            order = Order(tree.port, tree.server.tags, files, 10.0, _CLIENTS, banks=True)
            outcomes.extend(ask(order)["outcomes"])

    loading = threading.Thread(target=load)
    prefixes, heard, failed, release = {}, [], 0, _call(tree, "GET", "/v1/labels")[1]["release"]
    loading.start()
    try:
        for number in range(count):
            prefix = f"v{number}_"
            labels = [{"name": f"{prefix}{k}", "threshold": -0.99} for k in range(_LABELS)]
            path = f"/v1/labels/bank{number % _NAMES}"
            status, put = _call(tree, "PUT", path, {"labels": labels})
            asked = {"bank": put.get("ref"), "release": release}
            published, answer = _call(tree, "POST", "/v1/labels/publish", asked)
            if (status, published) != (200, 200):
                failed += 1
                continue
            release = answer["release"]
            prefixes[put["hash"]] = prefix
            heard.append(_heard(tree, Path(files[0]), put["hash"]))
    finally:
        over.set()
        loading.join()
    bad = [one for one in outcomes if one.status != 200]
    mixed = [
        one
        for one in outcomes
        if one.status == 200
        and (
            any(not name.startswith(prefixes[one.bank]) for name in one.labels)
            if one.bank in prefixes
            else any(name.startswith(tuple(prefixes.values())) for name in one.labels)
        )
    ]
    delays = [one for one in heard if one is not None]
    return {
        "swaps": count,
        "swaps_failed": failed,
        "swaps_never_heard": len(heard) - len(delays),
        "heard_after_p50_s": round(sorted(delays)[len(delays) // 2], 3) if delays else None,
        "heard_after_max_s": round(max(delays), 3) if delays else None,
        "requests": len(outcomes),
        "requests_failed": len(bad),
        "words": dict(Counter(f"{o.status} {o.code}".strip() for o in bad)),
        "banks_in_answers": len({one.bank for one in outcomes if one.bank}),
        "answers_that_mix": len(mixed),
        "aims": {
            "0 failed": failed == 0 and not bad,
            "0 answers that mix banks": not mixed,
        },
    }


def _heard(tree: Tree, upload: Path, bank: str) -> float | None:
    """Seconds until four answers in a row name a bank; None where that took too long."""
    began, in_a_row = time.monotonic(), 0
    while time.monotonic() - began < _HEARD_S:
        status, told = _call(tree, "POST", tree.server.tags, upload)
        in_a_row = in_a_row + 1 if status == 200 and told["provenance"]["bank_hash"] == bank else 0
        if in_a_row == _CLIENTS:
            return time.monotonic() - began
    return None


def _call(tree: Tree, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    if isinstance(body, Path):
        kind, data = f"multipart/form-data; boundary={BOUNDARY}", multipart(body)
    else:
        kind, data = "application/json", json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", tree.port, timeout=60)
    try:
        connection.request(method, path, data, {"Content-Type": kind})
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
        return answer.status, told
    finally:
        connection.close()


if __name__ == "__main__":
    main()
