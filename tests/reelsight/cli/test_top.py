"""`reelsight top`: rates and quantiles from two looks, and the command against a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from deployments.meters import Meters, exposition
from reelsight.cli.app import app
from reelsight.cli.readings import Reading, Window
from reelsight.errors import FetchError, FetchInterruptedError


def look(*replicas: Meters) -> Reading:
    return Reading.parse(exposition([each.written() for each in replicas]))


def test_a_window_tells_what_happened_in_it() -> None:
    one, two = Meters("ingress", "a"), Meters("ingress", "b")
    for _ in range(100):
        one.answered("/v1/tags", "POST", 200, 8.0)
    one.ran(1, 4, 0.5)
    before = replace(look(one, two), at=100.0)
    for _ in range(98):
        one.answered("/v1/tags", "POST", 200, 0.15)
        two.answered("/v1/tags", "POST", 200, 0.15)
    for _ in range(4):
        two.answered("/v1/tags", "POST", 503, 0.003)
        two.rejected("engine.overloaded")
    two.ran(30, 32, 0.02)
    two.queued("engine", 0.004)
    two.in_flight.inc(3)
    told = Window(replace(look(one, two), at=110.0), before).told()
    assert told["window_s"] == 10.0
    (route,) = told["routes"]
    assert (route["route"], route["requests"], route["per_s"]) == ("/v1/tags", 200, 20.0)
    assert route["refused"] == 4
    # 4 at or below 5 ms, 196 between 100 and 200 ms.
    assert route["p50_s"] == pytest.approx(0.1 + 0.1 * 96 / 196)
    assert route["p99_s"] == pytest.approx(0.1 + 0.1 * 194 / 196)
    assert route["mean_s"] == pytest.approx((196 * 0.15 + 4 * 0.003) / 200)
    assert (told["frames"], told["frames_per_s"]) == (30, 3.0)
    assert told["batch_fill"] == 30 / 32
    assert told["rejects"] == {"engine.overloaded": 4}
    assert told["in_flight"] == 3
    assert told["replicas"] == {"ingress": 2}
    assert told["queues"]["engine"]["count"] == 1
    assert told["queues"]["decode"] == {"count": 0, "mean_s": None, "p50_s": None, "p99_s": None}
    since_start = Window(look(one, two)).told()
    assert since_start["routes"][0]["requests"] == 300
    assert since_start["routes"][0]["per_s"] is None


def test_a_replica_that_began_anew_counts_from_nothing() -> None:
    old, new = Meters("engine", "a"), Meters("engine", "a")
    old.ran(30, 32, 0.1)
    new.ran(7, 8, 0.1)
    told = Window(look(new), look(old)).told()
    assert told["frames"] == 7


def test_times_beyond_the_last_bucket_are_its_bound() -> None:
    meters = Meters()
    meters.answered("/v1/tags", "POST", 200, 500.0)
    assert Window(look(meters)).told()["routes"][0]["p99_s"] == 60.0


@pytest.mark.parametrize("text", ["", "<html>no</html>", "up 1\n", "reelsight_x{ 1\n"])
def test_what_is_no_reelsight_is_refused(text: str) -> None:
    with pytest.raises(FetchError) as caught:
        Reading.parse(text)
    assert caught.value.code == "fetch.not_metrics"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str | None]]]:
    """A server that always says the same; its URL, and the keys that it was shown."""
    keys: list[str | None] = []

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("Authorization"))
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Same)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", keys
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_command_says_one_table_or_one_object() -> None:
    meters = Meters()
    meters.answered("/v1/tags", "POST", 422, 0.15)
    meters.rejected("media.damaged")
    with answering(200, exposition([meters.written()]).encode()) as (url, keys):
        table = CliRunner().invoke(app, ["top", url])  # No terminal: it does not go on for ever.
        assert table.exit_code == 0, table.output
        assert "/v1/tags" in table.output
        assert "1 x media.damaged" in table.output
        told = CliRunner().invoke(app, ["top", url, "--once", "--json", "--key", "k1"])
        assert json.loads(told.output)["routes"][0]["refused"] == 1
        assert keys == [None, "Bearer k1"]
    gone = CliRunner().invoke(app, ["top", url, "--once"])
    assert isinstance(gone.exception, FetchInterruptedError)
    with answering(401, b"") as (url, _):
        shut = CliRunner().invoke(app, ["top", url, "--once"])
        assert isinstance(shut.exception, FetchError)
        assert "401" in str(shut.exception)
    bad = CliRunner().invoke(app, ["top", "http://[", "--once"])
    assert isinstance(bad.exception, FetchError)
