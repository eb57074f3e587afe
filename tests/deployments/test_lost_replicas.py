"""Replicas in `split` that are killed with a request in flight: what whoever asked is answered.

The replicas are Serve's, the kills are SIGKILL. Engines stop before a batch where a test says so,
and say who they are.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.handles import HandleDoor, HandleTagger
from deployments.lost import NoReplica, ReplicaLost
from deployments.meters import Meters
from deployments.replicas import EngineReplica, MediaReplica
from deployments.service import TagJob
from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.engine.fake import FakeEngine
from reelsight.errors import Overloaded
from reelsight.plan import TaggingPlan, plan_for
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), np.uint8)
PATIENCE_S = 60.0
_WORD = 16


class Gates:
    """Where replicas say what they do, and are held: pipes with names, and files as signs.

    Args:
        home: Of the pipes.
    """

    PIPES = ("opened", "begun", "tagging", "go", "open")

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in self.PIPES:
            os.mkfifo(home / name)
        # Open at both ends, so that nobody waits for the other end.
        self._ends = {name: os.open(home / name, os.O_RDWR) for name in self.PIPES}

    def close(self) -> None:
        for end in self._ends.values():
            os.close(end)

    def sign(self, name: str, *, up: bool) -> None:
        """`hold`: engines stop before a batch. `shut`: new ones stop before they open."""
        if up:
            self._drain("go", 1)  # Of one that was let go, and had died.
            (self.home / name).touch()
        else:
            (self.home / name).unlink(missing_ok=True)

    def said(self, name: str) -> int:
        """The next process that has come to that point; waits for it."""
        assert select.select([self._ends[name]], [], [], PATIENCE_S)[0], f"nobody has {name}"
        return int(os.read(self._ends[name], _WORD))

    def let(self, name: str) -> None:
        """Let one that is held there go on."""
        os.write(self._ends[name], b".")

    def forget(self) -> None:
        """Nobody is held, and what was said is of no interest."""
        for name in ("hold", "shut"):
            self.sign(name, up=False)
        self.let("go")
        for name in ("begun", "tagging"):
            self._drain(name, _WORD)

    def _drain(self, name: str, size: int) -> None:
        while select.select([self._ends[name]], [], [], 0)[0]:
            os.read(self._ends[name], size)


class Fleet:
    """Two media and two engine replicas, asked from here as an ingress asks them."""

    def __init__(self, gates: Gates, recipe: EngineRecipe, plan: TaggingPlan) -> None:
        self.gates, self.recipe, self.plan = gates, recipe, plan
        self.meters = Meters("ingress", "test")
        self.away = 0  # Engines whose successors have not opened.

    @property
    def media(self) -> DeploymentHandle:
        return serve.get_deployment_handle("media", app_name="fleet")

    @property
    def tagger(self) -> HandleTagger:
        return HandleTagger(self.media, self.plan, 0, PATIENCE_S, self.meters)

    @property
    def engine(self) -> DeploymentHandle:
        return serve.get_deployment_handle("engine", app_name="fleet")

    def door(self, wait_s: float = PATIENCE_S) -> HandleDoor:
        return HandleDoor(self.engine, wait_s, self.meters)

    async def kill(self, pid: int, handle: DeploymentHandle) -> None:
        """Kill a replica that has a call of this process, once that is known here.

        Who dies before, Serve asks another one for by itself. What a replica says later than that
        it has taken the call is heard later.
        """
        told = handle.broadcast("numbers")
        await told.results_async(timeout_s=PATIENCE_S, return_exceptions=True)
        os.kill(pid, signal.SIGKILL)

    def asked_again(self, hop: str) -> float:
        return retries(self.meters.written().families["reelsight_replica_retries"].samples, hop)


def retries(samples: str, hop: str) -> float:
    found = [line for line in samples.splitlines() if f'hop="{hop}"' in line]
    return sum(float(line.split()[-1]) for line in found)


def gated(home: Path, recipe: EngineRecipe) -> tuple[EngineRecipe, type]:
    """The recipe and the media replica with gates; made here, so that they travel by value."""

    def say(name: str) -> None:
        end = os.open(home / name, os.O_WRONLY)
        os.write(end, f"{os.getpid():<16}".encode())
        os.close(end)

    def stop(name: str) -> None:
        end = os.open(home / name, os.O_RDONLY)
        os.read(end, 1)
        os.close(end)

    class Gated(FakeEngine):
        def run(self, pixels: Any) -> Any:
            if (home / "hold").exists():
                say("begun")
                stop("go")
            return super().run(pixels)

    def open_engine() -> Gated:
        if (home / "shut").exists():
            stop("open")
        say("opened")
        return Gated()

    class Telling(MediaReplica):
        async def tag(self, job: TagJob, left_s: float) -> Any:
            if (home / "hold").exists():
                say("tagging")
            return await super().tag(job, left_s)

    return replace(recipe, open_engine=open_engine), Telling


@pytest.fixture(scope="module")
def running(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = Settings.load(
        None,
        {
            "engine.backend": "fake",
            "serve.decoders": 1,
            "serve.replica_wait_s": PATIENCE_S,
            "data_dir": str(tmp_path_factory.mktemp("fleet-data")),
        },
    )
    gates = Gates(tmp_path_factory.mktemp("gates"))
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    with_gates, telling = gated(gates.home, recipe)
    two = {
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 0},
        "health_check_period_s": 0.5,
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": 1.0,
    }
    engine = serve.deployment(EngineReplica, name="engine", **two).bind(with_gates, settings)
    media = serve.deployment(telling, name="media", **two)
    serve.start(proxy_location="Disabled")
    try:
        bound = media.bind(plan, settings, engine, recipe.open_text)
        serve.run(bound, name="fleet", route_prefix=None)
        for _ in range(2):
            gates.said("opened")
        yield Fleet(gates, recipe, plan)
    finally:
        serve.shutdown()
        gates.close()


@pytest.fixture
def fleet(running: Fleet) -> Iterator[Fleet]:
    running.meters = Meters("ingress", "test")
    yield running
    running.gates.forget()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(2 * PATIENCE_S):
            await story()

    asyncio.run(told())


def job_of(sample: SampleClip) -> TagJob:
    return TagJob(sample.clip_id, sample.path.read_bytes(), time.monotonic() + PATIENCE_S)


def test_a_media_replica_that_dies_costs_no_answer(fleet: Fleet, samples: list[SampleClip]) -> None:
    gates = fleet.gates

    async def story() -> None:
        expected = await fleet.tagger.tag(job_of(samples[0]))
        gates.sign("hold", up=True)
        asked = asyncio.ensure_future(fleet.tagger.tag(job_of(samples[0])))
        media = await asyncio.to_thread(gates.said, "tagging")
        await asyncio.to_thread(gates.said, "begun")
        gates.sign("hold", up=False)
        await fleet.kill(media, fleet.media)
        gates.let("go")
        report = await asked
        assert report.tags
        assert report.tags == expected.tags
        assert fleet.asked_again("media") == 1

    run(story)


def test_an_engine_replica_that_dies_costs_no_answer(
    fleet: Fleet, samples: list[SampleClip]
) -> None:
    gates = fleet.gates

    async def story() -> None:
        expected = await fleet.tagger.tag(job_of(samples[0]))
        gates.sign("hold", up=True)
        asked = asyncio.ensure_future(fleet.tagger.tag(job_of(samples[0])))
        engine = await asyncio.to_thread(gates.said, "begun")
        gates.sign("hold", up=False)
        os.kill(engine, signal.SIGKILL)
        fleet.away += 1
        report = await asked
        assert report.tags == expected.tags
        # The media replica saw to it: its clip was not sent, nor decoded, once more.
        assert fleet.asked_again("media") == 0

    run(story)


def test_who_loses_two_engines_asks_no_third_and_the_next_is_waited_for(
    fleet: Fleet,
) -> None:
    gates = fleet.gates

    async def story() -> None:
        for _ in range(fleet.away):
            await asyncio.to_thread(gates.said, "opened")
        fleet.away = 0
        gates.sign("shut", up=True)
        gates.sign("hold", up=True)
        forever = time.monotonic() + PATIENCE_S
        asked = asyncio.ensure_future(fleet.door().embed(PIXELS, deadline=forever))
        for _ in range(2):
            await fleet.kill(await asyncio.to_thread(gates.said, "begun"), fleet.engine)
        with pytest.raises(ReplicaLost) as error:
            await asked
        assert (error.value.http_status, error.value.code) == (503, "serve.replica_lost")
        assert fleet.asked_again("engine") == 1
        gates.sign("hold", up=False)
        # None lives now: the wait for one is bounded, but for those who are patient.
        with pytest.raises(NoReplica) as none:
            await fleet.door(wait_s=0.3).embed(PIXELS, deadline=forever)
        assert (none.value.http_status, none.value.code) == (503, "serve.no_replica")
        short = fleet.door(wait_s=0.3).embed(PIXELS, deadline=forever, patient=True)
        waiting = [asyncio.ensure_future(short)]
        waiting.append(asyncio.ensure_future(fleet.door().embed(PIXELS, deadline=forever)))
        assert not (await asyncio.wait(waiting, timeout=0.5))[0]
        gates.sign("shut", up=False)
        for _ in range(2):
            gates.let("open")
        for rows in await asyncio.gather(*waiting):
            np.testing.assert_array_equal(rows, fleet.recipe.open_engine().run(PIXELS))

    run(story)


def test_a_deadline_shorter_than_the_second_answer_is_a_refusal(fleet: Fleet) -> None:
    gates = fleet.gates

    async def story() -> None:
        gates.sign("hold", up=True)
        deadline = time.monotonic() + 2
        asked = asyncio.ensure_future(fleet.door().embed(PIXELS, deadline=deadline))
        os.kill(await asyncio.to_thread(gates.said, "begun"), signal.SIGKILL)
        with pytest.raises(Overloaded) as error:
            await asked
        # The second, where the machine is so slow that the loss was not heard of in time.
        assert error.value.code in ("serve.replica_lost", "request.deadline")
        assert (error.value.http_status, error.value.retryable) == (503, True)

    run(story)
