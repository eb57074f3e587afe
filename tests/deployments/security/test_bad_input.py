"""What clients send by mistake or on purpose: each is a typed problem, none is a 5xx."""

from __future__ import annotations

import asyncio
import gzip
import struct
import zlib
from typing import Any

import pytest

from deployments.security.web_fetch import WebFetch
from reelsight.samples.clips import SampleClip
from reelsight.settings import FetchSettings

MP4 = "video/mp4"
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"


def part(name: str, data: bytes, more: bytes = b"") -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n' % (name.encode(), more)
    return head + data + b"\r\n"


FILE = b'; filename="a.mp4"'
END = b"--b--\r\n"


def png(width: int, height: int) -> bytes:
    """A picture that says its size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


BODIES: dict[str, tuple[str | None, bytes, int, str]] = {
    "nothing": (MP4, b"", 422, "request.empty"),
    "no type": (None, b"abc", 415, "request.content_type"),
    "text": ("text/plain", b"abc", 415, "request.content_type"),
    "urlencoded": ("application/x-www-form-urlencoded", b"a=1", 415, "request.content_type"),
    "type of junk": ("\x7f/;;;=", b"abc", 415, "request.content_type"),
    "script": (MP4, b"#!/bin/sh\n", 422, "media.unrecognised_container"),
    "playlist": (MP4, b"#EXTM3U\nfile:///etc/passwd\n", 422, "media.unrecognised_container"),
    "html": ("image/png", b"<html>", 422, "media.unrecognised_container"),
    "svg": ("image/svg+xml", b"<svg/>", 422, "media.unrecognised_container"),
    "gif": ("image/gif", b"GIF89a" + bytes(32), 422, "media.unrecognised_container"),
    "zip": (MP4, b"PK\x03\x04" + bytes(64), 422, "media.unrecognised_container"),
    "gzip": (MP4, gzip.compress(bytes(1 << 20)), 422, "media.unrecognised_container"),
    "zeros": (MP4, bytes(4096), 422, "media."),
    "a lone box": (MP4, b"\x00\x00\x00\x18ftypmp42" + bytes(12), 422, "media."),
    "a box of 2^63": (MP4, b"\x00\x00\x00\x01ftypmp42" + b"\xff" * 24, 422, "media."),
    "a wide bomb": ("image/png", png(60_000, 60_000), 422, "media.over_limit"),
    "a long bomb": ("image/png", png(1, 100_000), 422, "media.over_limit"),
    "a cut png": ("image/png", png(640, 480)[:60], 422, "media."),
    "a png without pixels": ("image/png", png(0, 0), 422, "media."),
    "jpeg of noise": ("image/jpeg", b"\xff\xd8\xff\xe0" + b"\x5a" * 512, 422, "media."),
    "json: none": (JSON, b"", 422, "request.schema"),
    "json: cut": (JSON, b'{"uri": "http', 422, "request.schema"),
    "json: list": (JSON, b"[]", 422, "request.schema"),
    "json: null": (JSON, b"null", 422, "request.schema"),
    "json: number": (JSON, b'{"uri": 3}', 422, "request.schema"),
    "json: deep": (JSON, b"[" * 30_000, 422, "request.schema"),
    "json: nan": (JSON, b'{"uri": NaN}', 422, "request.schema"),
    "json: no utf-8": (JSON, b'{"uri": "\xff\xfe"}', 422, "request.schema"),
    "json: surrogate": (JSON, b'{"uri": "http://\\ud800/"}', 422, "request.schema"),
    "json: twice": (JSON, b'{"uri": "a", "uri": "file:///etc/passwd"}', 422, "fetch.refused"),
    "json: strange": (JSON, b'{"uri": "a", "admin": true}', 422, "request.schema"),
    "json: large": (JSON, b'{"uri": "' + b"a" * 70_000 + b'"}', 413, "request.too_large"),
    "json: long uri": (JSON, b'{"uri": "' + b"a" * 5000 + b'"}', 422, "request.schema"),
    "json: empty uri": (JSON, b'{"uri": ""}', 422, "fetch.refused"),
    "json: metadata": (JSON, b'{"uri": "http://169.254.169.254/"}', 422, "fetch.refused"),
    "form: no boundary": ("multipart/form-data", b"abc", 400, "request.form"),
    "form: nothing": (FORM, b"", 422, "request.no_file"),
    "form: no end": (FORM, part("file", b"abc", FILE), 422, "request.no_file"),
    "form: junk": (FORM, b"\x00" * 64, 400, "request.form"),
    "form: other boundary": (FORM, b"--c\r\n\r\nabc\r\n--c--\r\n", 400, "request.form"),
    "form: no name": (FORM, b"--b\r\n\r\nabc\r\n" + END, 400, "request.form"),
    "form: no file": (FORM, part("clip_id", b"a") + END, 422, "request.no_file"),
    "form: file as text": (FORM, part("file", b"abc") + END, 422, "request.no_file"),
    "form: empty file": (FORM, part("file", b"", FILE) + END, 422, "request.empty"),
    "form: two files": (FORM, part("file", b"a", FILE) * 2 + END, 400, "request.form"),
    "form: many fields": (FORM, part("clip_id", b"a") * 50 + END, 400, "request.form"),
    "form: large field": (FORM, part("clip_id", b"a" * 9000) + END, 400, "request.form"),
    "form: long id": (
        FORM,
        part("clip_id", b"a" * 300) + part("file", b"abc", FILE) + END,
        422,
        "request.schema",
    ),
    "form: bad sampling": (
        FORM,
        part("sampling", b"often") + part("file", b"abc", FILE) + END,
        400,
        "config.invalid",
    ),
    "form: traversal": (
        FORM,
        part("file", b"abc", b'; filename="../../etc/passwd"') + END,
        422,
        "media.unrecognised_container",
    ),
    "form: file and sampling are files": (
        FORM,
        part("sampling", b"rate:1", FILE) + END,
        422,
        "request.no_file",
    ),
}


def checked(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "hint",
        "retryable",
        "request_id",
    }
    assert body["code"].startswith(code), body
    assert body["hint"]
    assert "Traceback" not in answer.text


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError(f"{host}:{port}")


# Starlette lets go of the file of a part that never ends, and its deletion says so.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
def test_every_bad_body_is_a_typed_problem(opened: Any) -> None:
    async def run() -> None:
        web = WebFetch(FetchSettings(hosts=("clips.example.com",)), 1 << 20, nowhere)
        async with opened(web=web) as door:
            wrong = []
            for name, (kind, body, status, code) in BODIES.items():
                headers = {} if kind is None else {"content-type": kind}
                answer = await door.client.post("/v1/tags", content=body, headers=headers)
                try:
                    checked(answer, status, code)
                except AssertionError as error:
                    wrong.append(f"{name}: {answer.status_code} {answer.text[:300]} {error}"[:400])
            assert not wrong, "\n".join(wrong)
            assert door.api.state.room.requests == 0

    asyncio.run(run())


def test_a_cut_or_damaged_clip_is_a_problem_or_a_partial_answer(
    opened: Any, samples: list[SampleClip]
) -> None:
    data = samples[0].path.read_bytes()

    async def run() -> None:
        async with opened() as door:
            for cut in (1, 7, 64, len(data) // 2, len(data) - 1):
                answer = await door.client.post(
                    "/v1/tags", content=data[:cut], headers={"content-type": MP4}
                )
                if answer.status_code == 200:
                    assert cut == len(data) - 1 or answer.json()["sampled"]["partial"], cut
                else:
                    checked(answer, 422, "media.")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("sampling=often", 400, "config.invalid"),
        ("sampling=rate:nan", 400, "config.invalid"),
        ("sampling=rate:inf", 400, "config.invalid"),
        ("sampling=rate:1e300", 422, "media."),
        ("sampling=rate:0", 400, "config.invalid"),
        ("sampling=count:-1", 400, "config.invalid"),
        ("sampling=count:99999999999999999999", 422, "media."),
        ("sampling=" + "a" * 100, 422, "request.schema"),
        ("timeout_ms=0", 422, "request.schema"),
        ("timeout_ms=-1", 422, "request.schema"),
        ("timeout_ms=nan", 422, "request.schema"),
        ("timeout_ms=99999999999999999999", 422, "request.schema"),
        ("clip_id=", 422, "request.schema"),
        ("clip_id=" + "a" * 300, 422, "request.schema"),
    ],
)
def test_a_bad_query(
    opened: Any, samples: list[SampleClip], query: str, status: int, code: str
) -> None:
    async def run() -> None:
        async with opened() as door:
            answer = await door.client.post(
                f"/v1/tags?{query}",
                content=samples[0].path.read_bytes(),
                headers={"content-type": MP4},
            )
            checked(answer, status, code)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-length": "-1"}, 413, "request.too_large"),
        ({"content-length": "1e3"}, 413, "request.too_large"),
        ({"content-length": str(1 << 62)}, 413, "request.too_large"),
        ({"content-length": "9" * 5000}, 413, "request.too_large"),
        ({"content-encoding": "gzip"}, 415, "request.encoding"),
        ({"content-encoding": "identity, br"}, 415, "request.encoding"),
    ],
)
def test_a_bad_header(
    opened: Any, grey: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async def run() -> None:
        async with opened() as door:
            answer = await door.client.post(
                "/v1/tags", content=grey, headers={"content-type": "image/png", **headers}
            )
            checked(answer, status, code)

    asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_a_method_that_a_route_does_not_have(opened: Any, method: str) -> None:
    async def run() -> None:
        async with opened() as door:
            answer = await door.client.request(method, "/v1/tags")
            assert answer.status_code == 405
            if method != "HEAD":
                checked(answer, 405, "request.method")

    asyncio.run(run())


def test_a_uri_is_fetched_and_tagged_where_that_is_on(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(grey)}\r\n\r\n"
            writer.write(head.encode() + grey)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        web = WebFetch(
            FetchSettings(hosts=("clips.example.com",), ports=(port,)),
            1 << 20,
            resolve,
            lambda _: True,
        )
        async with opened(web=web) as door:
            asked = {
                "uri": f"http://clips.example.com:{port}/a.png",
                "clip_id": "mine",
                "sampling": "count:1",
            }
            answer = await door.client.post("/v1/tags", json=asked)
            assert answer.status_code == 200, answer.text
            assert answer.json()["clip"]["clip_id"] == "mine"
            sent = await door.client.post(
                "/v1/tags?sampling=count:1", content=grey, headers={"content-type": "image/png"}
            )
            assert sent.json()["labels"] == answer.json()["labels"]
        server.close()

    asyncio.run(run())
