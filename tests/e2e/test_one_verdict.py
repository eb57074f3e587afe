"""One clip through every door for marks: one verdict, one p-value, the same soft bits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import cloudpickle
from typer.testing import CliRunner

from deployments.app import build_app, single_api
from deployments.marks.desk import desk_plan
from deployments.marks.parts import MarkParts, mark_parts
from deployments.run import serving
from engines.catalog import recipe_for
from jobs.backfill import backfill
from reelsight.cli.app import app
from reelsight.errors import ConfigError
from reelsight.keyring import add_key
from reelsight.marks.evidence import parse_trace
from reelsight.marks.keys import Keyring, generate_tenant_key
from reelsight.marks.ledger import Ledger, Order, open_store
from reelsight.nouns.mark import Identity
from reelsight.nouns.mark_trace import Trace
from reelsight.plan import plan_for
from reelsight.settings import Settings
from reelsight.store.manifest import write_manifest
from reelsight.watchlist import match_run
from tests.deployments.doors import Ask, asking, free_port
from tests.marked_world import ASSET, MarkedWorld


def asked(settings: Settings, ask: Ask, marks: MarkParts | None) -> None:
    """Questions to a door in this process."""
    recipe = recipe_for(settings)

    async def whole() -> None:
        api = single_api(recipe, plan_for(recipe, settings), settings, marks=marks)
        async with asking(api) as client:
            await ask(client)

    asyncio.run(whole())


def by_command(clip: Path, world: MarkedWorld, monkeypatch: pytest.MonkeyPatch) -> Trace:
    for name, value in world.flags().items():
        monkeypatch.setenv(f"REELSIGHT_{name.upper().replace('.', '__')}", str(value))
    done = CliRunner().invoke(app, ["mark", "trace", str(clip), "--json"])
    assert done.exit_code == 0, done.output
    return parse_trace(done.stdout.encode())


def essence(trace: Trace) -> dict[str, Any]:
    """What has to be equal: all but names, times and pictures."""
    return {
        "verdict": trace.verdict,
        "accused": [(a.source.serial, a.log10_p, a.log10_p_adjusted) for a in trace.accused],
        "pooled": trace.pooled,
        "frames": [(f.pts, f.weight, f.presence, f.agreement) for f in trace.frames],
        "windows": trace.windows,
        "trials": trace.trials,
        "presence": trace.presence,
        "view": trace.view,
        "sha256": trace.suspect.sha256,
        "models": trace.models,
        "power": trace.power,
    }


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("which", ["leak", "clean"])
def test_every_door_says_the_same(
    which: str, marked_world: MarkedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, settings = marked_world.home / f"{which}.mp4", marked_world.settings()
    told = by_command(clip, marked_world, monkeypatch)
    assert told.verdict == {"leak": "IDENTIFIED", "clean": "NO_EVIDENCE"}[which]

    manifest = write_manifest(tmp_path / "m.parquet", [{"clip_id": which, "uri": str(clip)}])
    backfill(manifest, tmp_path / "out", settings, marks="alone")
    matched: list[Trace] = []
    match_run(tmp_path / "out", settings, told=matched.append)
    (scanned,) = matched

    answers: list[Trace] = []

    async def ask(client: httpx.AsyncClient) -> None:
        for body in ({"files": {"file": clip.read_bytes()}}, {"content": clip.read_bytes()}):
            typed = {"content-type": "video/mp4"} if "content" in body else None
            answer = await client.post("/v1/marks?clip_id=c", headers=typed, **body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store"
            answers.append(parse_trace(answer.content))

    asked(settings, ask, mark_parts(settings))
    assert essence(scanned) == essence(told)
    assert [essence(answer) for answer in answers] == [essence(told)] * 2
    assert answers[0].suspect.name == "c"
    assert sum(frame.thumbnail is not None for frame in answers[0].frames) == 12


@pytest.mark.usefixtures("ray_cluster")
def test_split_reads_elsewhere_and_compares_in_the_ingress(marked_world: MarkedWorld) -> None:
    port, more = free_port(), {"serve.topology": "split", "serve.decoders": 1}
    settings = marked_world.settings(**more, **{"serve.port": port})
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        answer = client.post("/v1/marks", files={"file": marked_world.leak.read_bytes()})
        assert answer.status_code == 200, answer.text
        trace = parse_trace(answer.content)
        assert [a.source.recipient for a in trace.accused] == ["anna"]
        broken = client.post("/v1/marks", files={"file": b"nothing"})
        assert (broken.status_code, broken.json()["code"]) == (422, "media.unrecognised_container")
        numbers = client.get("/metrics").text
        assert 'reelsight_frames_total{deployment="mark-engine"' in numbers
        assert 'reelsight_mark_verdicts_total{deployment="ingress"' in numbers
        assert len(client.get("/v1/models").json()["data"]) == 2


@pytest.mark.parametrize("topology", ["single", "split"])
def test_nothing_that_is_sent_to_replicas_holds_a_key(
    topology: str, marked_world: MarkedWorld
) -> None:
    key = (marked_world.home / "tenant.key").read_text().strip()
    told = marked_world.settings(**{"serve.topology": topology})
    sent = cloudpickle.dumps(build_app(told))
    assert b"tenant.key" in sent
    assert key.encode() not in sent
    own = generate_tenant_key()
    flags = marked_world.flags(**{"serve.topology": topology, "marks.key": own})
    del flags["marks.key_file"]
    named = Settings.load(None, {"engine.backend": "fake"} | flags)
    assert own.encode() not in cloudpickle.dumps(build_app(named))


def test_a_ledger_whose_url_holds_a_password_is_not_sent(
    marked_world: MarkedWorld, tmp_path: Path
) -> None:
    parts = mark_parts(marked_world.settings())
    assert parts is not None
    secret = marked_world.settings(**{"marks.ledger": "postgresql://max:hidden@db/marks"})
    key_file = tmp_path / "tenant.key"
    with pytest.raises(ConfigError) as told:
        desk_plan(secret, key_file, parts.plan.marks)
    assert told.value.code == "config.mark_secret"
    assert "hidden" not in str(told.value)
    plain = marked_world.settings(**{"marks.ledger": "postgresql://max@db/marks"})
    assert desk_plan(plain, key_file, parts.plan.marks).marking.key_file == key_file


def test_what_is_refused(marked_world: MarkedWorld, tmp_path: Path) -> None:
    settings = marked_world.settings()
    clip = marked_world.leak.read_bytes()
    parts = mark_parts(settings)
    assert parts is not None

    async def without(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/marks", files={"file": clip})
        assert (answer.status_code, answer.json()["code"]) == (404, "marks.not_served")
        assert "marks.key_file" in answer.json()["hint"]

    assert mark_parts(settings.for_workers()) is None
    asked(settings.for_workers(), without, None)

    keys = tmp_path / "keys.yaml"
    tags_only, _ = add_key(keys, "tags", ("tags",))
    marks_too, _ = add_key(keys, "marks", ("marks",), frames_per_minute=30)
    keyed = marked_world.settings(**{"serve.keys_file": str(keys)})

    async def guarded(client: httpx.AsyncClient) -> None:
        for key, expected in ((tags_only, 403), (marks_too, 200), (marks_too, 429)):
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post("/v1/marks", files={"file": clip}, headers=headers)
            assert answer.status_code == expected, answer.text
        models = await client.get("/v1/models", headers={"x-api-key": tags_only})
        assert [model["reads"] for model in models.json()["data"]] == ["tags", "marks"]

    asked(keyed, guarded, mark_parts(keyed))

    async def odd(client: httpx.AsyncClient) -> None:
        for query, code in (
            ("sampling=often", "config.invalid"),
            ("tried_before=-1", "request.schema"),
            ("timeout_ms=1", "request.deadline"),
        ):
            answer = await client.post(f"/v1/marks?{query}", files={"file": clip})
            assert answer.json()["code"] in (code, "decode.deadline"), answer.text
        far = await client.post("/v1/marks", json={"uri": "https://clips.example.com/a.mp4"})
        assert far.json()["code"].startswith("fetch.")
        other = await client.post("/v1/marks?asset=other&search=true", files={"file": clip})
        trace = json.loads(other.text)
        assert (trace["accused"], trace["trials"]["attempts"]) == ([], 10)

    asked(settings, odd, parts)


def test_a_copy_that_is_issued_while_the_door_is_open_can_be_found_in_later_clips(
    marked_world: MarkedWorld, tmp_path: Path
) -> None:
    ledger = tmp_path / "marks.ledger"
    settings = marked_world.settings(**{"marks.ledger": str(ledger)})
    parts = mark_parts(settings)
    assert parts is not None
    keyring = Keyring.load(settings.marks)

    def issue(name: str) -> None:
        with open_store(str(ledger), create=True) as store:
            order = Order(Identity("film", name), ASSET, "file", parts.plan.marks.carrier)
            Ledger(store, keyring).issue(order, "max")

    async def ask(client: httpx.AsyncClient) -> None:
        clip = marked_world.leak.read_bytes()
        answer = await client.post("/v1/marks", files={"file": clip})
        assert answer.json()["code"] == "ledger.missing"
        issue("eve")
        found = (await client.post("/v1/marks", files={"file": clip})).json()
        assert (found["trials"]["rows"], found["accused"]) == (1, [])
        issue("anna")
        found = (await client.post("/v1/marks", files={"file": clip})).json()
        assert found["trials"]["rows"] == 2
        assert [one["source"]["recipient"] for one in found["accused"]] == ["anna"]

    asked(settings, ask, parts)
