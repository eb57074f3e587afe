"""Fetching from a real server on loopback, which only these tests let through."""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
import time
from collections.abc import Awaitable, Callable

import httpcore
import pytest

from deployments.security.web_fetch import WebFetch
from reelsight.errors import FetchError, Overloaded
from reelsight.settings import FetchSettings

BODY = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 16
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MAX = 1 << 16


class Visit:
    """What one fetch came to: its bytes or its refusal, and what the server was asked."""

    def __init__(self) -> None:
        self.data = b""
        self.error: FetchError | None = None
        self.asked: list[bytes] = []
        self.names: list[str] = []
        self.seconds = 0.0


def visit(
    answer: Answer, *, timeout_s: float = 20.0, slowest: int = 1024, uri: str | None = None
) -> Visit:
    told = Visit()
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            told.asked.append(head)
            await answer(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def resolve(host: str, port: int) -> list[str]:
        told.names.append(host)
        return ["127.0.0.1"]

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = FetchSettings(
            hosts=("clips.example.com",),
            ports=(port,),
            timeout_s=timeout_s,
            min_bytes_per_s=slowest,
        )
        web = WebFetch(settings, MAX, resolve, public=lambda a: a == "127.0.0.1")
        started = time.monotonic()
        try:
            told.data = await web.fetch(
                (uri or "http://clips.example.com:PORT/a.mp4").replace("PORT", str(port))
            )
        except FetchError as error:
            told.error = error
        told.seconds = time.monotonic() - started
        server.close()
        # The client has hung up: whatever still writes, or waits for it, meets that.
        await asyncio.wait_for(asyncio.gather(*handling), 20)
        assert web.under_way == 0

    asyncio.run(run())
    return told


def whole(head: bytes, body: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)

    return answer


OK = b"HTTP/1.1 200 OK\nContent-Length: %d" % len(BODY)


def test_the_bytes_are_those_of_the_server_and_the_host_is_the_name() -> None:
    told = visit(whole(OK, BODY))
    assert told.data == BODY
    (head,) = told.asked
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /a.mp4 HTTP/1.1"
    assert lines[1].startswith("Host: clips.example.com:")
    assert "Accept-Encoding: identity" in lines
    assert not [line for line in lines if line.lower().startswith(("cookie", "authorization"))]
    assert told.names == ["clips.example.com"]


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert visit(whole(OK, BODY)).data == BODY


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 301 Moved\nLocation: http://169.254.169.254/\nContent-Length: 0", b""),
        (b"HTTP/1.1 302 Found\nLocation: /b.mp4\nContent-Length: 0", b""),
        (b"HTTP/1.1 307 Temporary\nLocation: http://clips.example.com/\nContent-Length: 0", b""),
        (b"HTTP/1.1 206 Partial\nContent-Length: 4", b"abcd"),
        (b"HTTP/1.1 404 Not Found\nContent-Length: 4", b"abcd"),
        (b"HTTP/1.1 500 Oops\nContent-Length: 4", b"abcd"),
        (b"HTTP/1.1 204 No Content", b""),
        (b"HTTP/1.1 200 OK\nContent-Length: 0", b""),
        (b"HTTP/1.1 200 OK\nContent-Length: 10", b"abcd"),
        (b"HTTP/1.1 200 OK\nContent-Length: 99999999999", b"abcd"),
        (b"HTTP/1.1 200 OK\nContent-Length: -4", b"abcd"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0x4", b"abcd"),
        (b"HTTP/1.1 200 OK\nContent-Length: 4\nContent-Length: 5", b"abcde"),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"5\r\nabcde\r\n"),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\nabcde\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\nContent-Encoding: gzip\nConnection: close",
            gzip.compress(bytes(1 << 20)),
        ),
        (b"HTTP/1.1 200 OK\nContent-Encoding: br\nContent-Length: 4", b"abcd"),
        (b"HTTP/1.1 200 OK\nContent-Encoding: identity, gzip\nContent-Length: 4", b"abcd"),
        (b"HTTP/1.1 200 OK\nX: " + b"a" * (1 << 18), b""),
        (b"HTTP/1.1 200 OK\n" + b"\n".join(b"X%d: a" % n for n in range(30_000)), b""),
        (b"HTTP/1.1 2000 OK\nContent-Length: 4", b"abcd"),
        (b"220 smtp.example.com ESMTP", b""),
        (b"\x16\x03\x01", b"\x00" * 64),
        (b"", b""),
    ],
    ids=range(25),
)
def test_every_other_answer_is_the_same_refusal(
    head: bytes, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        told = visit(whole(head, body))
    assert told.error is not None
    assert (told.error.code, told.error.message) == ("fetch.refused", "the uri cannot be fetched")
    assert len(told.asked) == 1
    assert "a uri was not fetched" in caplog.text


def test_an_endless_body_ends_at_the_cap() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while sent < 1 << 28:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    told = visit(endless)
    assert told.error is not None
    # What the sockets' buffers hold beside the cap is the kernel's.
    assert sent < 1 << 26


def test_a_body_that_drips_ends_before_the_deadline() -> None:
    gone = False

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal gone
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            gone = True

    told = visit(drip, timeout_s=60.0, slowest=10_000)
    assert told.error is not None
    assert told.seconds < 30
    assert gone


def silent() -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return answer


def half_closed() -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\nabc")
        writer.write_eof()
        await asyncio.sleep(0)

    return answer


def headers_that_drip() -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


def endless_hints() -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 64)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


@pytest.mark.parametrize(
    "answer", [silent(), half_closed(), headers_that_drip(), endless_hints()], ids=range(4)
)
def test_a_server_that_never_ends_its_answer_costs_the_deadline_at_most(answer: Answer) -> None:
    told = visit(answer, timeout_s=0.5)
    assert told.error is not None
    assert told.error.code == "fetch.refused"
    assert told.seconds < 20


def test_tls_is_spoken_where_it_is_asked_for() -> None:
    told = visit(whole(OK, BODY), uri="https://clips.example.com:PORT/a.mp4", timeout_s=2.0)
    assert told.error is not None
    assert not told.asked


def test_a_fetch_that_finds_no_place_is_refused_at_once() -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def resolve(host: str, port: int) -> list[str]:
            await release.wait()
            return []

        web = WebFetch(FetchSettings(hosts=("a.example",), at_once=1), MAX, resolve)
        first = asyncio.ensure_future(web.fetch("http://a.example/"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await web.fetch("http://a.example/")
        assert refused.value.code == "fetch.overloaded"
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert web.under_way == 0

    asyncio.run(run())


def test_the_systems_trust_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ssl.create_default_context
    read = 0

    def counted() -> ssl.SSLContext:
        nonlocal read
        read += 1
        return made()

    monkeypatch.setattr(ssl, "create_default_context", counted)

    async def nowhere(host: str, port: int) -> list[str]:
        return ["1.1.1.1"]

    async def run() -> None:
        settings = FetchSettings(hosts=("clips.example.com",), timeout_s=0.01)
        web = WebFetch(settings, MAX, nowhere, public=lambda a: a != "")
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", refuse)
        for _ in range(3):
            with pytest.raises(FetchError):
                await web.fetch("https://clips.example.com/a.mp4")

    async def refuse(*_: object, **__: object) -> None:
        raise httpcore.ConnectError

    asyncio.run(run())
    assert read == 1
    WebFetch(FetchSettings(), MAX)
    assert read == 1, "a door that fetches nothing needs none"
