"""Swaps of label banks through Ray Serve: one ingress, two replicas that tag, under load."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


@pytest.mark.usefixtures("ray_cluster")
def test_fifty_swaps_on_two_replicas_fail_nothing_and_mix_nothing(
    tmp_path: Path, fake_plan: TaggingPlan
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings.load(
        None,
        {
            "engine.backend": "fake",
            "data_dir": str(tmp_path),
            "serve.topology": "split",
            "serve.media_replicas": 2,
            "serve.port": port,
            "serve.decoders": 1,
        },
    )
    pixels = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (96, 128, 3), np.uint8)
    still = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels))
    prefixes = {fake_plan.bank.hash: "fake_"}
    answers: list[httpx.Response] = []
    over = threading.Event()

    def tag(client: httpx.Client) -> httpx.Response:
        raw = {"content-type": "image/jpeg"}
        return client.post("/v1/tags", content=still, headers=raw)

    def load(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.is_set():
                answers.append(tag(client))

    def bank_of(answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        told: str = answer.json()["provenance"]["bank_hash"]
        return told

    def put(client: httpx.Client, name: str, prefix: str) -> dict[str, Any]:
        body = definition(name, prefix).model_dump(mode="json", exclude={"name"})
        answer = client.put(f"/v1/labels/{name}", json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        prefixes[told["hash"]] = prefix
        return told

    with (
        serving(settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(LOADS) as threads,
    ):
        loads = [threads.submit(load, url) for _ in range(LOADS)]
        try:
            slowest = 0.0
            for i in range(SWAPS):
                told = put(client, f"bank{i % 4}", f"v{i}_")
                asked = {"bank": told["ref"], "release": i}
                answer = client.post("/v1/labels/publish", json=asked)
                published = time.monotonic()
                assert answer.status_code == 200, answer.text
                # Both replicas were told before the publisher was answered.
                in_a_row = 0
                while in_a_row < 4:
                    in_a_row = in_a_row + 1 if bank_of(tag(client)) == told["hash"] else 0
                    assert time.monotonic() < published + LIVE_S
                slowest = max(slowest, time.monotonic() - published)
            # Somebody else's release, of which no replica is told: they look by themselves.
            bank = build_bank(
                definition("outside", "out_"),
                FakeTextTower(),
                model="fake",
                logit_scale=10.0,
                default_threshold=0.2,
            )
            ref = BankRef.of(bank)
            prefixes[ref.hash] = "out_"
            BankShelf(settings.banks_dir).put(bank)
            change(
                open_pointer(settings, fake_plan), lambda now: now.published(ref, now.release, 0.0)
            )
            published, in_a_row = time.monotonic(), 0
            while in_a_row < 12:
                in_a_row = in_a_row + 1 if bank_of(tag(client)) == ref.hash else 0
                assert time.monotonic() < published + LIVE_S
            while client.get("/v1/models").json()["data"][0]["bank_hash"] != ref.hash:
                assert time.monotonic() < published + LIVE_S
            preview = client.post("/v1/labels/bank1/preview").json()
            assert preview["frames"] == preview["clips"] > 0
            assert {item["lost"] for item in preview["labels"]} == {0, preview["frames"]}
        finally:
            over.set()
        for running in loads:
            running.result()
    failed = [answer.text for answer in answers if answer.status_code != 200]
    assert not failed
    for answer in answers:
        prefix = prefixes[bank_of(answer)]
        names = [item["name"] for item in answer.json()["labels"]]
        assert all(name.startswith(prefix) for name in names), (prefix, names)
        assert len(names) == 5 or prefix == "fake_"
    assert len({bank_of(answer) for answer in answers}) > SWAPS // 2
    print(f"{len(answers)} answers over {SWAPS} swaps, the slowest live after {slowest:.2f} s")
