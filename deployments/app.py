"""The Serve application: `serve run deployments.app:app`, or `reelsight serve`.

Two shapes. `single`: HTTP, decoding and the engine in one replica, with no hop between them.
`split`: ingress replicas answer HTTP, media replicas decode, engine replicas embed, each scaled by
its own load.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from deployments.api import Wire, make_api
from deployments.assembly import Assembly, OwnEngine, opened_once
from deployments.banks.live import LiveBanks
from deployments.critical import EnginePair, Recheck, critical_recipe
from deployments.drain import Drain, process_drain
from deployments.engine_door import EngineDoor
from deployments.handles import HandleDoor, HandleEmbedder, HandleMarkReader, HandleTagger
from deployments.jobs.stream import STREAMS
from deployments.logs import log_as_json
from deployments.marks.parts import MarkParts, mark_parts, opened_desk
from deployments.meters import Gather, Meters, Numbers, gather_own, plan_facts
from deployments.own_port import listening
from deployments.replicas import EngineReplica, MediaReplica, gather_all, own_meters
from deployments.routes.marks import MarkDoor
from deployments.security.listening import require_keys_beyond_loopback
from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan, plan_for
from reelsight.settings import Settings

__all__ = ["build_app", "single_api"]

INGRESS, _ENGINE, _CRITICAL, _MEDIA = "ingress", "engine", "critical-engine", "media"
_EXTRACTOR = "mark-engine"
# Health, models and metrics are asked for beside what Admission counts.
_BESIDE = 32
_FRAME_JOBS_AT_ONCE = 512
_DECODERS = 8
# A replica that is gone is missed this soon, and one that does not answer for so long is replaced.
_HEALTH = {"health_check_period_s": 2.0, "health_check_timeout_s": 15.0}


def build_app(settings: Settings, *, own_port: bool = False) -> Application:
    """The application that settings amount to.

    Args:
        settings: All of it.
        own_port: Whether the one ingress replica listens by itself, where Serve has no proxy.

    Raises:
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    marks = mark_parts(settings)
    settings = settings.for_workers()
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    second = critical_recipe(settings, recipe)
    if settings.serve.topology == "single":
        single = _ingress(
            lambda: _served_single(recipe, plan, settings, second, marks),
            settings,
            own_port,
            whole=True,
        )
        return single.bind()
    # What a replica cannot hold it refuses itself, at once; Serve's queues would keep it waiting.
    waiting = settings.serve.max_waiting_clips
    engines = {"max_ongoing_requests": _FRAME_JOBS_AT_ONCE, **_HEALTH}
    engine = serve.deployment(EngineReplica, name=_ENGINE, **engines).bind(recipe, settings)
    critical = None
    if second is not None:
        deployment = serve.deployment(EngineReplica, name=_CRITICAL, **engines)
        critical = (deployment.bind(second, settings), second.spec)
    extractor = None
    if marks is not None:
        # It gets frames and gives soft bits; no key comes near it.
        deployment = serve.deployment(EngineReplica, name=_EXTRACTOR, **engines)
        extractor = (deployment.bind(marks.recipe, settings), marks.plan)
    media = serve.deployment(
        MediaReplica,
        name=_MEDIA,
        num_replicas=settings.serve.media_replicas,
        # Texts take no decoder, and wait in a lane of their own.
        max_ongoing_requests=waiting
        + (settings.serve.decoders or _DECODERS)
        + settings.serve.max_requests,
        max_queued_requests=waiting,
        **_HEALTH,
    ).bind(plan, settings, engine, recipe.open_text, critical, extractor)
    parts = [INGRESS, _MEDIA, _ENGINE]
    parts += [_CRITICAL] if second is not None else []
    parts += [_EXTRACTOR] if marks is not None else []
    # The builder runs where the ingress runs: handles are asked for there, by name.
    ingress = _ingress(lambda: _split_api(recipe, plan, settings, parts, marks), settings, own_port)
    return ingress.bind(media)


def single_api(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    second: EngineRecipe | None = None,
    drain: Drain | None = None,
    *,
    meters: Meters | None = None,
    gather: Gather | None = None,
    marks: MarkParts | None = None,
) -> FastAPI:
    """The whole in this process; the engine is warm when this returns.

    Args:
        recipe: The engine.
        plan: What is done to a clip.
        settings: Bounds.
        second: The engine that decides critical labels, if one does.
        drain: Whether the door is closing; one of its own when None.
        meters: Count; of their own when None.
        gather: The numbers of every replica; of these meters alone when None.
        marks: What reads and compares marks, if anything does.
    """
    meters = meters or Meters()
    # Requests embed texts and so do drafts of banks: the tower is in memory once.
    recipe = replace(recipe, open_text=opened_once(recipe.open_text))
    with ExitStack() as undo:
        engine = OwnEngine(recipe, settings, meters)
        undo.callback(engine.close)
        door: EngineDoor = engine
        recheck = None
        if second is not None:
            critical = OwnEngine(second, settings, meters.beside(_CRITICAL))
            undo.callback(critical.close)
            recheck = Recheck(critical, second.spec, settings.serve.critical_band)
            door = EnginePair(engine, critical)
        assembly = Assembly(plan, settings, engine, recipe.open_text, meters, recheck)
        undo.callback(assembly.close)
        banks = assembly.banks(recipe)
        traced = None
        if marks is not None:
            extractor = OwnEngine(marks.recipe, settings, meters.beside(_EXTRACTOR))
            undo.callback(extractor.close)
            traced = MarkDoor(assembly.mark_reader(marks.plan, extractor), opened_desk(marks, undo))
        parts = undo.pop_all()
    service = assembly.service
    meters.collect_from(plan_facts(lambda: service.plan))
    wire = Wire(assembly.embedding, meters, gather or gather_own(meters))
    lifespan = _running(parts, banks)
    return make_api(
        service, door, banks, settings, wire, lifespan=lifespan, drain=drain, marks=traced
    )


def _served_single(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    second: EngineRecipe | None,
    marks: MarkParts | None,
) -> FastAPI:
    log_as_json(settings.serve.log_level)
    meters = own_meters()
    gather = gather_all(meters, [_handle(INGRESS)], settings.serve.metrics_timeout_s)
    drain = process_drain()
    return single_api(
        recipe, plan, settings, second, drain, meters=meters, gather=gather, marks=marks
    )


def _split_api(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    parts: list[str],
    marks: MarkParts | None,
) -> FastAPI:
    log_as_json(settings.serve.log_level)
    meters = own_meters()
    wait_s, media = settings.serve.replica_wait_s, _handle(_MEDIA)
    engine = HandleDoor(_handle(_ENGINE), wait_s, meters)
    tagger = HandleTagger(media, plan, settings.serve.banks.preview_frames, wait_s, meters)
    banks = LiveBanks(
        recipe,
        plan,
        settings,
        engine,
        use=tagger.use,
        recent=tagger.recent_frames,
        spread=tagger.look_at_banks,
    )
    meters.collect_from(plan_facts(lambda: tagger.plan))
    gather = gather_all(meters, [_handle(p) for p in parts], settings.serve.metrics_timeout_s)
    undo, traced = ExitStack(), None
    if marks is not None:
        # Keys are opened here, in the ingress, and nowhere else.
        reader = HandleMarkReader(media, marks.plan, wait_s, meters)
        traced = MarkDoor(reader, opened_desk(marks, undo))
    return make_api(
        tagger,
        engine,
        banks,
        settings,
        Wire(HandleEmbedder(media, wait_s, meters), meters, gather),
        lifespan=_running(undo, banks),
        drain=process_drain(),
        marks=traced,
    )


def _handle(deployment: str) -> DeploymentHandle:
    return serve.get_deployment_handle(deployment, app_name=serve.get_replica_context().app_name)


def _running(parts: ExitStack, banks: LiveBanks) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with parts:
            await banks.start()
            try:
                yield
            finally:
                await banks.stop()

    return lifespan


def _ingress(
    builder: Callable[[], FastAPI], settings: Settings, own_port: bool, *, whole: bool = False
) -> Any:
    """The deployment that answers HTTP.

    Args:
        builder: Makes its application, where it runs.
        settings: Bounds.
        own_port: Whether it listens by itself.
        whole: Whether the engine is in it, so that its life is the replica's.
    """
    host, port = settings.serve.host, settings.serve.port

    def checked() -> FastAPI:
        # Where this replica's proxy listens is Serve's to say, not the settings'.
        reached = host if own_port else _get_global_client().http_config.host
        require_keys_beyond_loopback(settings, reached)
        return listening(builder(), host, port) if own_port else builder()

    class Ingress:
        """HTTP."""

        app: FastAPI

        def __init__(self, *_: object) -> None:
            """Handles are bound so that Serve starts what is behind them."""

        async def drain(self, timeout_s: float) -> bool:
            """Refuse what comes; whether all that was under way has ended in that time."""
            process_drain().begin()
            return await process_drain().idle(timeout_s)

        async def numbers(self) -> Numbers:
            """What this replica has counted."""
            meters: Meters = self.app.state.meters
            return await meters.numbers()

        async def check_health(self) -> None:
            """Life is progress: Serve replaces a replica whose own engine makes none."""
            if whole:
                await self.app.state.vitals.alive()

    at_once = settings.serve.max_requests
    return serve.deployment(
        serve.ingress(checked)(Ingress),
        name=INGRESS,
        # Serve's own queue would hold what Admission refuses at once. Who listens to jobs takes a
        # place here for minutes, and must not take that of a request.
        max_ongoing_requests=at_once + STREAMS + _BESIDE,
        max_queued_requests=at_once,
        **_HEALTH,
    )


def __getattr__(name: str) -> Application:
    """`app`, made when it is asked for: importing this module opens nothing."""
    if name == "app":
        return build_app(Settings.load())
    raise AttributeError(name)
