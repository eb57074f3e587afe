"""The client: uploads over HTTP/1.1, as fast as answers come or at a rate, in its own process.

`python -m benchmarks.online.client` reads an Order as JSON from stdin and writes what came of every
request to stdout. It speaks raw HTTP over asyncio's streams, because what a client burns is missing
to the server that shares its cores; what it burnt is part of its answer.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.online.form import BOUNDARY, multipart

__all__ = ["Order", "Outcome", "ask", "ask_once", "start", "what_came"]

_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask.

    Attributes:
        port: On loopback.
        path: Of the route.
        files: Uploaded in turn; none for GET.
        seconds: For which requests are begun; those under way are waited for.
        concurrency: Requests at a time, each followed by the next; 0 for a rate.
        rate: Requests a second, at moments of a Poisson process, whatever the answers do.
        max_open: Connections at a time at a rate; a request beyond is not sent, and counted.
        banks: Whether the answers' bank and labels are kept.
        headers: Of every request, where the files are bodies as they are; none for forms.
        held: Whether the client says `ready` and waits for a line before it begins.
    """

    port: int
    path: str
    files: list[str]
    seconds: float
    concurrency: int = 0
    rate: float = 0.0
    max_open: int = 1500
    banks: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    held: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of one request.

    Attributes:
        at: Seconds from the first request to this one.
        took: Seconds until its answer was whole.
        status: Of HTTP; 0 where none came.
        code: Of the problem, or the name of what went wrong with the connection.
        retry: Whether the answer had Retry-After.
        bank: Hash of the bank that answered, where asked for.
        labels: Its labels' names, where asked for.
    """

    at: float
    took: float
    status: int
    code: str = ""
    retry: bool = False
    bank: str = ""
    labels: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def usable(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing()


class _Client:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._idle: list[_Connection] = []
        read = Path.read_bytes if order.headers else multipart
        self._bodies = itertools.cycle([read(Path(f)) for f in order.files] or [b""])
        self._open = 0
        self.outcomes: list[Outcome] = []
        self.unsent = 0
        self.began = self.began_at = 0.0

    @property
    def held(self) -> bool:
        return self._order.held

    async def run(self) -> None:
        self.began, self.began_at = time.perf_counter(), time.time()
        if self._order.concurrency:
            await asyncio.gather(*(self._loop() for _ in range(self._order.concurrency)))
        else:
            await self._at_rate()
        for connection in self._idle:
            connection.writer.close()

    async def _loop(self) -> None:
        while time.perf_counter() - self.began < self._order.seconds:
            await self._one()

    async def _at_rate(self) -> None:
        rng, due, under_way = random.Random(0), 0.0, set()
        while (due := due + rng.expovariate(self._order.rate)) < self._order.seconds:
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - self.began)))
            if self._open >= self._order.max_open:
                self.unsent += 1
                continue
            task = asyncio.ensure_future(self._one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one(self) -> None:
        body, came = next(self._bodies), time.perf_counter()
        outcome = Outcome(came - self.began, 0.0, 0)
        self._open += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._exchange(body, outcome)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            outcome.status, outcome.code = 0, type(error).__name__
        finally:
            self._open -= 1
        outcome.took = time.perf_counter() - came
        self.outcomes.append(outcome)

    async def _exchange(self, body: bytes, outcome: Outcome) -> None:
        link = await self._connected()
        try:
            link.writer.write(self._head(body))
            link.writer.write(body)
            status, headers = await _head_of(link.reader)
            answer = await _body_of(link.reader, headers)
        except BaseException:
            link.writer.close()
            raise
        outcome.status, outcome.code = status, headers.get("reelsight-code", "")
        outcome.retry = "retry-after" in headers
        if self._order.banks and status == 200:
            told = json.loads(answer)
            outcome.bank = told["provenance"]["bank_hash"]
            outcome.labels = [label["name"] for label in told["labels"]]
        if headers.get("connection", "").lower() == "close":
            link.writer.close()
        else:
            self._idle.append(link)

    async def _connected(self) -> _Connection:
        while self._idle:
            link = self._idle.pop()
            if link.usable:
                return link
            link.writer.close()
        return _Connection(*await asyncio.open_connection("127.0.0.1", self._order.port))

    def _head(self, body: bytes) -> bytes:
        method = "POST" if self._order.files else "GET"
        form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body else {}
        kind = "".join(f"{k}: {v}\r\n" for k, v in (self._order.headers or form).items())
        return (
            f"{method} {self._order.path} HTTP/1.1\r\nHost: 127.0.0.1:{self._order.port}\r\n"
            f"{kind}Content-Length: {len(body)}\r\n\r\n"
        ).encode()


async def _head_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {k.lower(): v.strip() for k, _, v in pairs}


async def _body_of(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def start(order: Order) -> subprocess.Popen[str]:
    """A client that has begun, or waits where it is held; read it with `what_came`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.online.client"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(order)) + "\n")
    process.stdin.flush()
    if not order.held:
        process.stdin.close()
        process.stdin = None
    return process


def what_came(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a client.

    Returns:
        `outcomes`; `unsent`, how many were never sent; `began_at` by the clock, seconds;
        `span_s` from the first request to the last answer; `cpu_s` of the client.

    Raises:
        SystemExit: It ended by a fault of its own.
    """
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the client ended with {process.returncode}")
    told: dict[str, Any] = json.loads(said)
    told["outcomes"] = [Outcome(**one) for one in told["outcomes"]]
    return told


def ask(order: Order) -> dict[str, Any]:
    """A client from beginning to end."""
    return what_came(start(order))


def ask_once(
    port: int, method: str, path: str, body: Any = None, *, timeout_s: float
) -> tuple[int, bytes]:
    """Status and body of one request, made here and now.

    Args:
        port: On loopback.
        method: Of HTTP.
        path: Of the route.
        body: A file to upload; or what becomes JSON; nothing where it is None.
        timeout_s: Of each wait for the server.

    Raises:
        OSError: There was no connection, or no answer in time.
        http.client.HTTPException: What came is no answer.
    """
    data: bytes | None
    if isinstance(body, Path):
        data, kind = multipart(body), f"multipart/form-data; boundary={BOUNDARY}"
    else:
        data, kind = None if body is None else json.dumps(body).encode(), "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, data, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _main() -> None:
    client = _Client(Order(**json.loads(sys.stdin.readline())))
    if client.held:
        print("ready", flush=True)
        sys.stdin.readline()
    used = resource.getrusage(resource.RUSAGE_SELF)
    asyncio.run(client.run())
    now = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "outcomes": [asdict(one) for one in client.outcomes],
        "unsent": client.unsent,
        "began_at": client.began_at,
        "span_s": max((one.at + one.took for one in client.outcomes), default=0.0),
        "cpu_s": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    _main()
