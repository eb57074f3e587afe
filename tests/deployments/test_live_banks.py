"""Label banks over HTTP in this process: drafts, previews, releases, and who follows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import simplejpeg
from fastapi import FastAPI

from deployments.app import single_api
from deployments.banks.canary import Canary
from deployments.banks.follower import BankFollower
from deployments.banks.live import open_pointer
from deployments.engine_door import HostDoor
from reelsight.engine import EngineHost, EngineRecipe, FakeTextTower
from reelsight.labels import (
    BankDefinition,
    BankRef,
    BankShelf,
    LabelDefinition,
    build_bank,
)
from reelsight.labels.file_pointer import FilePointer
from reelsight.labels.release import change
from reelsight.nouns.label_bank import LabelBank
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings

RAW = {"content-type": "application/octet-stream"}


@dataclass
class Door:
    """One replica's HTTP."""

    api: FastAPI
    client: httpx.AsyncClient

    async def put(self, name: str, *labels: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = await self.client.put(f"/v1/labels/{name}", json={"labels": labels, **more})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def publish(self, bank: str, release: int) -> httpx.Response:
        return await self.client.post("/v1/labels/publish", json={"bank": bank, "release": release})

    async def tag(self, data: bytes) -> dict[str, Any]:
        answer = await self.client.post("/v1/tags", content=data, headers=RAW)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told


@asynccontextmanager
async def replica(
    recipe: EngineRecipe, plan: TaggingPlan, settings: Settings
) -> AsyncIterator[Door]:
    api = single_api(recipe, plan, settings)
    transport = httpx.ASGITransport(api)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://door", timeout=60) as client,
    ):
        yield Door(api, client)


def live_settings(tmp_path: Path, **more: Any) -> Settings:
    flags = {"engine.backend": "fake", "data_dir": str(tmp_path), "serve.decoders": 2}
    return Settings.load(None, flags | more)


@pytest.fixture
def still() -> bytes:
    pixels = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (96, 128, 3), np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels)))


def label(name: str, threshold: float = -0.99, **more: Any) -> dict[str, Any]:
    """One that every frame shows, unless its threshold says otherwise."""
    return {"name": name, "threshold": threshold, **more}


def named(name: str, *labels: str, threshold: float = -0.99) -> LabelBank:
    definition = BankDefinition(
        name=name, labels=tuple(LabelDefinition(name=n, threshold=threshold) for n in labels)
    )
    return build_bank(
        definition, FakeTextTower(), model="fake", logit_scale=10.0, default_threshold=0.2
    )


def with_door(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    ask: Callable[[Door], Awaitable[None]],
) -> None:
    async def whole() -> None:
        async with replica(recipe, plan, settings) as door:
            await ask(door)

    asyncio.run(whole())


def code_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    code: str = answer.json()["code"]
    return code


@pytest.mark.parametrize("where", ["file", "redis"])
def test_a_draft_is_put_seen_published_and_rolled_back(
    where: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    still: bytes,
) -> None:
    more = {}
    if where == "redis":
        more = {"serve.bank_pointer": f"{request.getfixturevalue('redis_url')}?db=1"}
    settings = live_settings(tmp_path, **more)

    async def ask(door: Door) -> None:
        own = (await door.client.get("/v1/labels")).json()
        assert own["release"] == 0
        assert [b["hash"] for b in own["released"]] == [fake_plan.bank.hash]
        draft = await door.put("shop", label("price_tag", aliases={"en": ["price tag"]}))
        assert (draft["state"], draft["release"], draft["labels"]) == ("draft", 0, 1)
        # A draft changes no answer.
        assert (await door.tag(still))["provenance"]["bank_hash"] == fake_plan.bank.hash
        listed = (await door.client.get("/v1/labels")).json()
        assert [b["ref"] for b in listed["drafts"]] == [draft["ref"]]
        assert draft["ref"] not in [b["ref"] for b in listed["released"]]
        seen = (await door.client.get("/v1/labels/shop")).json()
        assert (seen["state"], seen["hash"]) == ("draft", draft["hash"])
        assert seen["labels"][0]["aliases"] == {"en": ["price tag"]}

        answer = await door.publish("shop", 0)
        assert answer.status_code == 200, answer.text
        assert answer.json()["bank"]["hash"] == draft["hash"]
        tagged = await door.tag(still)
        assert tagged["provenance"]["bank"] == "shop"
        assert tagged["provenance"]["bank_hash"] == draft["hash"]
        assert [lab["name"] for lab in tagged["labels"]] == ["price_tag"]
        listed = (await door.client.get("/v1/labels")).json()
        assert (listed["current"]["ref"], listed["drafts"]) == (draft["ref"], [])
        (model,) = (await door.client.get("/v1/models")).json()["data"]
        assert (model["bank"], model["labels"]) == ("shop", 1)

        # The same name is the next release, and the old one can be had again.
        second = await door.put("shop", label("price_tag"), label("shelf"))
        assert (await door.publish(second["ref"], 1)).json()["release"] == 2
        assert len((await door.tag(still))["labels"]) == 2
        back = await door.client.post("/v1/labels/rollback", json={"release": 2})
        assert (back.json()["release"], back.json()["bank"]["hash"]) == (3, draft["hash"])
        assert (await door.tag(still))["provenance"]["bank_hash"] == draft["hash"]
        own_again = await door.client.post("/v1/labels/rollback", json={"release": 3})
        assert own_again.json() == {"release": 4, "bank": None}
        assert (await door.tag(still))["provenance"]["bank_hash"] == fake_plan.bank.hash
        assert (await door.client.get("/healthz")).json() == {"status": "ok"}
        actions = [
            item["action"] for item in (await door.client.get("/v1/labels")).json()["history"]
        ]
        assert actions == ["publish", "publish", "rollback", "rollback"]

    with_door(fake_recipe, fake_plan, settings, ask)


def test_who_publishes_over_another_is_told(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan
) -> None:
    async def ask(door: Door) -> None:
        first = await door.put("first", label("a"))
        second = await door.put("second", label("b"))
        # A draft that somebody put meanwhile is no release.
        assert (first["release"], second["release"]) == (0, 0)
        assert (await door.publish("first", 0)).status_code == 200
        assert code_of(await door.publish("second", 0), 409) == "bank.conflict"
        late = await door.client.post("/v1/labels/rollback", json={"release": 0})
        assert code_of(late, 409) == "bank.conflict"
        # Whose answer was lost asks again, and is not told of a conflict with itself.
        again = await door.publish(first["ref"], 0)
        assert (again.status_code, again.json()["release"]) == (200, 1)
        both = await asyncio.gather(door.publish("second", 1), door.publish("fake", 1))
        assert sorted(answer.status_code for answer in both) == [200, 409]

    with_door(fake_recipe, fake_plan, live_settings(tmp_path), ask)


def test_drafts_that_do_not_fit_are_problems(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan
) -> None:
    settings = live_settings(
        tmp_path,
        **{
            "serve.banks.labels": 3,
            "serve.banks.phrases": 6,
            "serve.banks.max_bytes": 4096,
            "serve.banks.drafts": 1,
        },
    )

    async def ask(door: Door) -> None:
        async def put(body: Any, name: str = "x") -> httpx.Response:
            if isinstance(body, bytes):
                return await door.client.put(f"/v1/labels/{name}", content=body)
            return await door.client.put(f"/v1/labels/{name}", json=body)

        four = {"labels": [{"name": f"l{i}"} for i in range(4)]}
        assert code_of(await put(four), 422) == "bank.too_large"
        many = {"labels": [{"name": "l", "prompts": ["a", "b"]}], "templates": ["{}"] * 4}
        assert code_of(await put(many), 422) == "bank.too_large"
        assert code_of(await put(b"[" * 5000), 413) == "request.too_large"
        for body in (b"", b"{", b"[" * 4000, b'{"labels": []}', b'{"labels": [{"name": ""}]}'):
            assert code_of(await put(body), 422) == "request.schema"
        for threshold in ("NaN", "Infinity", "1", "-1", '"x"'):
            text = f'{{"labels": [{{"name": "l", "threshold": {threshold}}}]}}'
            assert code_of(await put(text.encode()), 422) == "request.schema"
        twice = {"labels": [{"name": "l"}, {"name": "l"}]}
        assert code_of(await put(twice), 422) == "bank.duplicate_label"
        bad_template = {"labels": [{"name": "l"}], "templates": ["none"]}
        assert code_of(await put(bad_template), 422) == "request.schema"
        for name in ("..", "a%2Fb", "-x", "a" * 65, "a%00"):
            answer = await put({"labels": [{"name": "l"}]}, name)
            assert answer.status_code in (404, 405, 422), (name, answer.text)
        assert (await put({"labels": [{"name": "l"}]}, "one")).status_code == 200
        assert (await put({"labels": [{"name": "k"}]}, "one")).status_code == 200
        assert code_of(await put({"labels": [{"name": "l"}]}, "two"), 409) == "bank.too_many_drafts"
        assert code_of(await door.client.get("/v1/labels/nothing"), 404) == "bank.missing"
        assert code_of(await door.publish("nothing", 0), 404) == "bank.missing"
        preview = await door.client.post("/v1/labels/nothing/preview")
        assert code_of(preview, 404) == "bank.missing"
        first = await door.client.post("/v1/labels/rollback", json={"release": 0})
        assert code_of(first, 409) == "bank.nothing_before"
        bad = await door.client.post("/v1/labels/publish", json={"bank": "one"})
        assert code_of(bad, 422) == "request.schema"

    with_door(fake_recipe, fake_plan, settings, ask)


def test_a_preview_says_what_would_change_over_recent_frames(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan, still: bytes
) -> None:
    async def ask(door: Door) -> None:
        base = await door.put(
            "base", label("kept"), label("gone"), label("tuned", -0.99), label("quiet", 0.99)
        )
        assert (await door.publish(base["ref"], 0)).status_code == 200
        await door.put(
            "next",
            label("kept"),
            label("tuned", -0.5),
            label("quiet", -0.99),
            label("new"),
            label("off", 0.99),
        )
        empty = (await door.client.post("/v1/labels/next/preview")).json()
        assert (empty["frames"], empty["clips"], empty["unchanged"]) == (0, 0, 1)
        frames = [len((await door.tag(still))["frames"]) for _ in range(2)]
        told = (await door.client.post("/v1/labels/next/preview")).json()
        n = sum(frames)
        assert (told["frames"], told["clips"], told["unchanged"]) == (n, 2, 1)
        by_name = {item.pop("name"): item for item in told["labels"]}
        assert by_name["gone"]["change"] == "removed"
        assert (by_name["gone"]["lost"], by_name["gone"]["clips_lost"]) == (n, 2)
        assert (by_name["new"]["gained"], by_name["new"]["frames_before"]) == (n, 0)
        assert by_name["quiet"] | {"change": "changed", "gained": n} == by_name["quiet"]
        # By another threshold every frame still shows it, with another confidence.
        tuned = by_name["tuned"]
        assert (tuned["moved"] + tuned["lost"], tuned["gained"]) == (n, 0)
        assert set(by_name["off"].values()) == {"added", 0}
        assert [item for item in by_name if item == "kept"] == []
        # What it foretold is what happens.
        assert (await door.publish("next", 1)).status_code == 200
        shown = {lab["name"] for lab in (await door.tag(still))["labels"]}
        assert {"kept", "quiet", "new"} <= shown
        assert not {"gone", "off"} & shown

    with_door(fake_recipe, fake_plan, live_settings(tmp_path), ask)


def test_fifty_swaps_under_load_fail_nothing_and_mix_nothing(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan, still: bytes
) -> None:
    answers: list[dict[str, Any]] = []

    async def ask(door: Door) -> None:
        swapping = True

        async def load() -> None:
            while swapping:
                answers.append(await door.tag(still))

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        hashes = {fake_plan.bank.hash: "fake_"}
        for i in range(50):
            put = await door.put(f"bank{i % 3}", *(label(f"v{i}_{k}") for k in range(5)))
            hashes[put["hash"]] = f"v{i}_"
            before = len(answers)
            answer = await door.publish(put["ref"], i)
            assert answer.status_code == 200, answer.text
            # It is live when the publisher is answered.
            mine = await door.tag(still)
            assert mine["provenance"]["bank_hash"] == put["hash"]
            while len(answers) == before:
                await asyncio.wait(loads, timeout=0.01, return_when=asyncio.FIRST_EXCEPTION)
                assert not any(task.done() for task in loads)
        swapping = False
        await asyncio.gather(*loads)
        for told in answers:
            prefix = hashes[told["provenance"]["bank_hash"]]
            assert all(lab["name"].startswith(prefix) for lab in told["labels"])
            assert told["labels"] or prefix == "fake_"
        assert len({told["provenance"]["bank_hash"] for told in answers}) > 25

    with_door(fake_recipe, fake_plan, live_settings(tmp_path), ask)
    assert len(answers) >= 50


def test_a_late_replica_starts_with_what_is_current_and_others_follow_by_polling(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan, still: bytes
) -> None:
    settings = live_settings(tmp_path, **{"serve.banks.poll_s": 0.02})

    async def ask(door: Door) -> None:
        put = await door.put("shop", label("a"))
        assert (await door.publish("shop", 0)).status_code == 200
        async with replica(fake_recipe, fake_plan, settings) as late:
            assert (await late.tag(still))["provenance"]["bank_hash"] == put["hash"]
            second = await door.put("shop", label("b"))
            assert (await door.publish("shop", 1)).status_code == 200
            # The other replica hears nothing; it looks.
            async with asyncio.timeout(5):
                while (await late.tag(still))["provenance"]["bank_hash"] != second["hash"]:
                    pass

    with_door(fake_recipe, fake_plan, settings, ask)


class Followed:
    """A follower over a fake engine, with what it would use."""

    def __init__(self, tmp_path: Path, recipe: EngineRecipe, plan: TaggingPlan) -> None:
        self.host = EngineHost(recipe.open_engine())
        self.shelf = BankShelf(tmp_path)
        self.pointer = FilePointer(tmp_path / "current.json")
        self.used: list[str] = []
        self.follower = BankFollower(
            self.pointer,
            self.shelf,
            plan,
            Canary(HostDoor(self.host)),
            lambda used: self.used.append(used.bank.hash),
            60.0,
        )

    def release(self, bank: LabelBank, *, put: bool = True) -> BankRef:
        ref = BankRef.of(bank)
        if put:
            self.shelf.put(bank)
        change(self.pointer, lambda now: now.published(ref, now.release, 0.0))
        return ref


@pytest.fixture
def followed(tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Any:
    made = Followed(tmp_path, fake_recipe, fake_plan)
    yield made
    made.host.close()


def broken_banks() -> dict[str, LabelBank]:
    good = named("broken", "a", "b")
    nan = replace(good, labels=tuple(replace(x, threshold=float("nan")) for x in good.labels))
    wide = np.full((2, 7), 7**-0.5, dtype=np.float32)
    return {
        "bank.refused": nan,
        "bank.other_model": replace(good, model_hash="e" * 64),
        "wide": replace(good, matrix=wide),
        "scale": replace(good, logit_scale=float("nan")),
    }


@pytest.mark.parametrize("kind", ["bank.refused", "bank.other_model", "wide", "scale"])
def test_a_bank_that_fails_its_canary_is_refused_and_the_old_one_stays(
    kind: str, followed: Followed
) -> None:
    async def ask() -> None:
        good = followed.release(named("good", "x"))
        assert (await followed.follower.look()).bank_hash == good.hash
        followed.release(broken_banks()[kind])
        for _ in range(3):
            told = await followed.follower.look()
            assert (told.state, told.bank_hash, told.release) == ("refusing", good.hash, 1)
            assert told.code == (kind if kind.startswith("bank.") else "bank.refused")
            assert told.problem
        assert followed.used == [good.hash]
        better = followed.release(named("better", "y"))
        told = await followed.follower.look()
        assert (told.state, told.bank_hash, told.swaps, told.problem) == (
            "following",
            better.hash,
            2,
            None,
        )

    asyncio.run(ask())


def test_a_bank_that_is_not_here_yet_is_waited_for(followed: Followed) -> None:
    async def ask() -> None:
        bank = named("late", "x")
        ref = followed.release(bank, put=False)
        told = await followed.follower.look()
        assert (told.state, told.code, followed.used) == ("unsure", "bank.missing", [])
        path = followed.shelf.put(bank)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert (await followed.follower.look()).code == "bank.invalid"
        path.write_bytes(followed.shelf.put(named("other", "x")).read_bytes())
        assert (await followed.follower.look()).code == "bank.damaged"
        path.write_bytes(whole)
        told = await followed.follower.look()
        assert (told.state, told.bank_hash) == ("following", ref.hash)

    asyncio.run(ask())


def test_a_pointer_that_is_damaged_or_lost_changes_nothing(followed: Followed) -> None:
    async def ask() -> None:
        ref = followed.release(named("good", "x"))
        await followed.follower.look()
        path = followed.pointer.path
        whole = path.read_bytes()
        path.write_bytes(whole[:20])
        told = await followed.follower.look()
        assert (told.state, told.code) == ("behind", "bank.pointer_damaged")
        path.unlink()
        told = await followed.follower.look()
        assert (told.state, told.code) == ("behind", "bank.pointer_lost")
        # A draft that is put meanwhile makes a new state, in which nothing was ever released.
        draft = BankRef.of(named("draft", "x"))
        change(followed.pointer, lambda now: now.with_draft(draft, 8))
        told = await followed.follower.look()
        assert (told.state, told.code) == ("behind", "bank.pointer_lost")
        path.write_bytes(whole)
        told = await followed.follower.look()
        assert (told.state, told.problem, told.bank_hash) == ("following", None, ref.hash)
        assert followed.used == [ref.hash]

    asyncio.run(ask())


def test_a_bug_in_the_first_look_leaves_it_unsure(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(followed.follower, "_poll_s", 60.0)
    monkeypatch.setattr(followed.pointer, "read", bug)

    async def ask() -> None:
        followed.follower.start()
        await asyncio.wait_for(followed.follower.looked(), 10)
        async with asyncio.timeout(10):
            while followed.follower.following.problem is None:
                await asyncio.sleep(0)
        await followed.follower.stop()
        told = followed.follower.following
        assert (told.state, told.code) == ("unsure", "internal.unexpected")

    asyncio.run(ask())


def test_a_replica_that_cannot_know_the_bank_is_not_ready(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan, still: bytes
) -> None:
    settings = live_settings(tmp_path, **{"serve.banks.poll_s": 0.02})
    path = open_pointer(settings, fake_plan)
    assert isinstance(path, FilePointer)
    path.path.parent.mkdir(parents=True)
    path.path.write_bytes(b"{")

    async def ask(door: Door) -> None:
        assert code_of(await door.client.get("/readyz"), 503) == "bank.unknown"
        alive = (await door.client.get("/healthz")).json()
        assert (alive["status"], alive["banks"]["code"]) == ("ok", "bank.pointer_damaged")
        path.path.unlink()
        async with asyncio.timeout(5):
            while (await door.client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0)
        assert (await door.tag(still))["provenance"]["bank_hash"] == fake_plan.bank.hash

    with_door(fake_recipe, fake_plan, settings, ask)
