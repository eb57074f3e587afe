from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from reelsight.errors import FetchError
from reelsight.media.fetch import fetch
from reelsight.media.limits import MediaLimits

LIMITS = MediaLimits(max_bytes=1000)


def refusal(uri: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(uri, LIMITS)
    error = caught.value
    assert error.stage == "fetch"
    assert error.code.startswith("fetch.")
    assert error.hint
    return error


def test_reads_paths_and_file_uris(tmp_path: Path) -> None:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(b"x" * 1000)
    assert fetch(str(path), LIMITS) == b"x" * 1000
    assert fetch(path.as_uri(), LIMITS) == b"x" * 1000
    assert "%20" in path.as_uri()


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("http://example.com/a.mp4", "fetch.scheme_refused", "URL fetching is off"),
        ("https://example.com/a.mp4", "fetch.scheme_refused", "URL fetching is off"),
        ("ftp://example.com/a.mp4", "fetch.scheme_refused", "'ftp'"),
        ("concat://a|b", "fetch.scheme_refused", "'concat'"),
        ("file://server/a.mp4", "fetch.bad_uri", "server"),
        ("file://", "fetch.bad_uri", "file"),
        ("a\x00b.mp4", "fetch.bad_uri", "path"),
        ("s3://", "fetch.not_a_file", "s3"),
        ("/no/such/clip.mp4", "fetch.not_found", "/no/such/clip.mp4"),
        ("", "fetch.not_found", "no such file"),
        ("/dev/zero", "fetch.not_a_file", "/dev/zero"),
    ],
)
def test_refusals_are_typed_and_name_the_uri(uri: str, code: str, words: str) -> None:
    error = refusal(uri)
    assert error.code == code
    assert words in str(error)


def test_directory_empty_and_too_large(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)).code == "fetch.not_a_file"
    (tmp_path / "empty.mp4").touch()
    assert refusal(str(tmp_path / "empty.mp4")).code == "fetch.empty"
    (tmp_path / "large.mp4").write_bytes(b"x" * 1001)
    error = refusal(str(tmp_path / "large.mp4"))
    assert error.code == "fetch.too_large"
    assert "1001" in str(error)
    assert "1000" in str(error)
    assert refusal(str(tmp_path / "large.mp4" / "below")).code == "fetch.not_found"


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(str(tmp_path / "pipe.mp4")).code == "fetch.not_a_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    assert refusal(str(path)).code == "fetch.permission_denied"


def test_credentials_never_reach_a_message() -> None:
    error = refusal("http://user:SECRET@example.com/a.mp4?sig=SECRET")
    assert "SECRET" not in str(error)


class _Bucket(BaseHTTPRequestHandler):
    """The two calls of the S3 protocol that reading an object takes."""

    objects: ClassVar = {"/clips/a.mp4": b"0123456789" * 50, "/clips/large.mp4": b"x" * 1001}

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path == "/clips/secret.mp4":
            return self._send(403, b"", body)
        data = self.objects.get(path)
        if data is None:
            empty = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
            listing = "list-type" in self.path
            return self._send(200 if listing else 404, empty if listing else b"", body)
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        return self._send(206 if "Range" in self.headers else 200, part, body)

    def _send(self, status: int, data: bytes, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def bucket() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"?scheme=http&endpoint_override=127.0.0.1:{server.server_port}&region=us-east-1"
    server.shutdown()
    server.server_close()


def test_reads_s3(bucket: str) -> None:
    assert fetch(f"s3://KEY:SECRET@clips/a.mp4{bucket}", LIMITS) == b"0123456789" * 50


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("gone.mp4", "fetch.not_found"),
        ("secret.mp4", "fetch.permission_denied"),
        ("large.mp4", "fetch.too_large"),
    ],
)
def test_s3_refusals(bucket: str, key: str, code: str) -> None:
    error = refusal(f"s3://KEY:SECRET@clips/{key}{bucket}")
    assert error.code == code
    assert "SECRET" not in str(error)
    assert f"s3://clips/{key}" in str(error)
