"""Webhooks: signed as their specification says, posted where it is allowed, again until taken."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import standardwebhooks
from pydantic import ValidationError

from deployments.jobs.errors import WebhookRefused
from deployments.jobs.webhook import Webhooks, WebhookUndelivered, resolve, signed
from reelsight.samples.clips import SampleClip
from reelsight.settings import JobSettings
from tests.deployments.jobs.conftest import Door

Opened = Callable[..., None]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
RAW = {"content-type": "video/mp4"}


class Receiver:
    """A real server on loopback that answers each post with the next of its statuses."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.taken: Future[None] = Future()
        self.port = 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {key.lower(): value for key, value in self.headers.items()}
            told.got.append((self.path, headers, body))
            status = told.statuses.pop(0) if told.statuses else 204
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"http://127.0.0.1:{told.port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()
            if status < 300 and not told.taken.done():
                told.taken.set_result(None)

        def log_message(self, *_: Any) -> None:
            pass

    with served(Handler) as port:
        told.port = port
        yield told


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def loopback(url: str) -> str:
    del url
    return "127.0.0.1"


def webhooks_to(receiver: Receiver, **options: Any) -> Webhooks:
    return Webhooks(
        (f"hooks.test:{receiver.port}",),
        SECRET,
        resolve=loopback,
        permitted=lambda address: address == "127.0.0.1",
        **options,
    )


def test_a_result_is_posted_again_until_it_is_taken_and_its_signature_is_right(
    opened: Opened, receiver: Receiver, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.jobs.desk._POST_IDLE_S", 0.02)
    receiver.statuses = [500, 302, 404]
    clip = samples[0].path.read_bytes()
    where: list[str] = []

    async def test(door: Door) -> None:
        url = f"http://hooks.test:{receiver.port}/done?a=b"
        told = await door.client.post(
            "/v1/jobs", files={"file": clip}, data={"webhook": url, "clip_id": "c"}
        )
        assert told.status_code == 202, told.text
        where.append(told.json()["id"])
        await asyncio.wait_for(asyncio.wrap_future(receiver.taken), 30)
        while True:
            job = (await door.client.get(told.headers["location"])).json()
            if job["webhook"]["state"] != "pending":
                break
            await asyncio.sleep(0.01)
        assert job["webhook"] == {"state": "delivered", "attempts": 4}
        assert {path for path, _, _ in receiver.got} == {"/done?a=b"}
        assert {headers["webhook-id"] for _, headers, _ in receiver.got} == {where[0]}
        assert len({body for _, _, body in receiver.got}) == 1
        checks = standardwebhooks.Webhook(SECRET)
        for _, headers, body in receiver.got:
            assert headers["host"] == f"hooks.test:{receiver.port}"
            message: Any = checks.verify(body, headers)
            assert message["type"] == "job.done"
            job.pop("webhook", None)
            assert message["data"] == job
            with pytest.raises(standardwebhooks.WebhookVerificationError):
                checks.verify(body.replace(b"done", b"gone"), headers)

    opened(test, webhooks=webhooks_to(receiver), webhook_backoff_s=0.01, webhook_attempts=5)


def test_a_failure_is_posted_and_a_receiver_that_never_takes_it_is_given_up(
    opened: Opened, receiver: Receiver, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.jobs.desk._POST_IDLE_S", 0.02)
    receiver.statuses = [503] * 10
    clip = samples[0].path.read_bytes()[:300]

    async def test(door: Door) -> None:
        told = await door.client.post(
            f"/v1/jobs?webhook=http://hooks.test:{receiver.port}/", content=clip, headers=RAW
        )
        while True:
            job = (await door.client.get(told.headers["location"])).json()
            if job["webhook"]["state"] != "pending" and job["state"] == "failed":
                break
            await asyncio.sleep(0.01)
        assert job["webhook"] == {"state": "given_up", "attempts": 2}
        assert len(receiver.got) == 2
        assert json.loads(receiver.got[0][2])["type"] == "job.failed"

    opened(test, webhooks=webhooks_to(receiver), webhook_backoff_s=0.01, webhook_attempts=2)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks reference tests."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/",
        "https://hooks.test.other.test/",
        "https://xhooks.test/",
        "https://hooks.test:8443/",
        "https://user@hooks.test/",
        "https://other.test@hooks.test/",
        "https://hooks.test@other.test/",
        "https://hooks.test\\@other.test/",
        "https://hooks.test /",
        "https://hooks.test\t/",
        "https://hooks.test:99999/",
        "https://[hooks.test/",
        "https://h\u043eoks.test/",
        "ftp://hooks.test/",
        "file:///etc/passwd",
        "//hooks.test/",
        "hooks.test",
        "",
        "https://",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://hooks.test/" + "a" * 2048,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        Webhooks(("hooks.test",), SECRET).check(url)


@pytest.mark.parametrize(
    "url",
    ["https://hooks.test/a?b", "https://HOOKS.test", "http://hooks.test:80/", "https://p.test:81/"],
)
def test_urls_that_are_taken(url: str) -> None:
    assert Webhooks(("hooks.test", "p.test:81"), SECRET).check(url) == url


def test_nothing_is_allowed_unless_it_is_set() -> None:
    with pytest.raises(WebhookRefused):
        Webhooks((), None).check("https://hooks.test/")


INNER = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "::1",
    "168.63.129.16",
    "192.88.99.1",
    "64:ff9b::101:101",
    "2606:4700::5efe:7f00:1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", INNER)
def test_addresses_that_are_not_the_internets_are_never_reached(address: str) -> None:
    async def inner(url: str) -> str:
        del url
        return address

    hooks = Webhooks(("hooks.test",), SECRET, resolve=inner)
    with pytest.raises(WebhookRefused, match="cannot be reached"):
        asyncio.run(hooks.post("https://hooks.test/", "id", 1, b"{}"))


def test_a_host_with_one_inner_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole(addresses: list[str]) -> str:
        async def found(*_: Any, **__: Any) -> list[Any]:
            return [(2, 1, 6, "", (address, 0)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        return await resolve("https://hooks.test/")

    assert asyncio.run(whole(["1.1.1.1", "1.0.0.1"])) == "1.1.1.1"
    with pytest.raises(WebhookRefused):
        asyncio.run(whole(["1.1.1.1", "10.0.0.1"]))


def test_a_receiver_that_is_slow_or_not_there_is_undelivered(receiver: Receiver) -> None:
    never = Future[None]()

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            never.result(30)

    with served(Silent) as port:
        slow = Receiver()
        slow.port = port
        url = f"http://hooks.test:{port}/"
        with pytest.raises(WebhookUndelivered, match="Timeout"):
            asyncio.run(webhooks_to(slow, timeout_s=0.2).post(url, "id", 1, b"{}"))
        never.set_result(None)
    with pytest.raises(WebhookUndelivered, match="ConnectError"):
        asyncio.run(webhooks_to(slow).post(url, "id", 1, b"{}"))


def test_secrets_are_needed_checked_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="webhook_secret"):
        JobSettings(webhook_hosts=("hooks.test",))
    for secret in ("secret", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%%", SECRET[6:]):
        with pytest.raises(ValidationError, match="24 to 64 bytes"):
            JobSettings.model_validate({"webhook_secret": secret})
    settings = JobSettings.model_validate({"webhook_secret": SECRET})
    assert SECRET not in repr(settings) + settings.model_dump_json()
