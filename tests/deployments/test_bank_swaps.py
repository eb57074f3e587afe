"""Swaps of label banks through Ray Serve: one ingress, two replicas that tag, under load."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import simplejpeg

from deployments.banks.live import open_pointer
from deployments.run import serving
from reelsight.engine import FakeTextTower
from reelsight.labels import BankDefinition, BankRef, BankShelf, LabelDefinition, build_bank
from reelsight.labels.release import change
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings

SWAPS, LOADS, LIVE_S = 50, 3, 5.0


def definition(name: str, prefix: str) -> BankDefinition:
    """Five labels that every frame shows."""
    labels = tuple(LabelDefinition(name=f"{prefix}{k}", threshold=-0.99) for k in range(5))
    return BankDefinition(name=name, labels=labels)


class Crowd:
    """Clients that tag the same still, and what they were answered.

    Args:
        url: The door.
        own: The bank of the settings.
    """

    def __init__(self, url: str, own: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        pixels = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (96, 128, 3), np.uint8)
        self._still = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels))
        self.prefixes = {own: "fake_"}
        self.answers: list[httpx.Response] = []
        self.over = threading.Event()

    def tag(self) -> httpx.Response:
        raw = {"content-type": "image/jpeg"}
        return self.client.post("/v1/tags", content=self._still, headers=raw)

    def load(self) -> None:
        while not self.over.is_set():
            self.answers.append(self.tag())

    def put(self, name: str, prefix: str) -> str:
        body = definition(name, prefix).model_dump(mode="json", exclude={"name"})
        answer = self.client.put(f"/v1/labels/{name}", json=body)
        assert answer.status_code == 200, answer.text
        self.prefixes[answer.json()["hash"]] = prefix
        return str(answer.json()["ref"])

    def publish(self, ref: str, release: int) -> str:
        asked = {"bank": ref, "release": release}
        answer = self.client.post("/v1/labels/publish", json=asked)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["bank"]["hash"])

    def live_after(self, bank: str, times: int) -> float:
        """Seconds until so many answers in a row name a bank."""
        started, in_a_row = time.monotonic(), 0
        while in_a_row < times:
            in_a_row = in_a_row + 1 if bank_of(self.tag()) == bank else 0
            assert time.monotonic() < started + LIVE_S
        return time.monotonic() - started

    def check(self) -> None:
        """No answer failed, and every answer's labels are those of the bank that it names."""
        for answer in self.answers:
            prefix = self.prefixes[bank_of(answer)]
            names = [item["name"] for item in answer.json()["labels"]]
            assert all(name.startswith(prefix) for name in names), (prefix, names)
            assert len(names) == 5 or prefix == "fake_"


def bank_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["provenance"]["bank_hash"])


def released_elsewhere(settings: Settings, plan: TaggingPlan) -> BankRef:
    """A release of which no replica is told: they look by themselves."""
    bank = build_bank(
        definition("outside", "out_"),
        FakeTextTower(),
        model="fake",
        logit_scale=10.0,
        default_threshold=0.2,
    )
    ref = BankRef.of(bank)
    BankShelf(settings.banks_dir).put(bank)
    change(open_pointer(settings, plan), lambda now: now.published(ref, now.release, 0.0))
    return ref


@pytest.mark.usefixtures("ray_cluster")
def test_fifty_swaps_on_two_replicas_fail_nothing_and_mix_nothing(
    tmp_path: Path, fake_plan: TaggingPlan
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {
        "engine.backend": "fake",
        "data_dir": str(tmp_path),
        "serve.topology": "split",
        "serve.media_replicas": 2,
        "serve.port": port,
        "serve.decoders": 1,
    }
    settings = Settings.load(None, flags)
    with serving(settings) as url, ThreadPoolExecutor(LOADS) as threads:
        crowd = Crowd(url, fake_plan.bank.hash)
        loads = [threads.submit(crowd.load) for _ in range(LOADS)]
        try:
            slowest = 0.0
            for i in range(SWAPS):
                bank = crowd.publish(crowd.put(f"bank{i % 4}", f"v{i}_"), i)
                slowest = max(slowest, crowd.live_after(bank, 4))
            outside = released_elsewhere(settings, fake_plan)
            crowd.prefixes[outside.hash] = "out_"
            polled = crowd.live_after(outside.hash, 12)
            preview = crowd.client.post("/v1/labels/bank1/preview").json()
            assert preview["frames"] == preview["clips"] > 0
            assert {item["lost"] for item in preview["labels"]} == {0, preview["frames"]}
        finally:
            crowd.over.set()
        for running in loads:
            running.result()
        crowd.client.close()
    crowd.check()
    assert len({bank_of(answer) for answer in crowd.answers}) > SWAPS // 2
    print(f"{len(crowd.answers)} answers, {SWAPS} swaps, live in {slowest:.2f} s, {polled:.2f} s")
