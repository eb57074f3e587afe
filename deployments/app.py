"""The Serve application: `serve run deployments.app:app`, or `reelsight serve`.

Two shapes. `single`: HTTP, decoding and the engine in one replica, with no hop between them.
`split`: ingress replicas answer HTTP, media replicas decode, engine replicas embed, each scaled by
its own load.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from deployments.api import make_api
from deployments.assembly import Assembly, OwnEngine
from deployments.banks.live import LiveBanks
from deployments.banks.recent import FrameSample
from deployments.critical import EnginePair, Recheck, critical_recipe
from deployments.engine_door import EngineDoor
from deployments.replicas import EngineReplica, HandleDoor, HandleTagger, MediaReplica
from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan, plan_for
from reelsight.settings import Settings

__all__ = ["build_app", "single_api"]

_ENGINE, _CRITICAL, _MEDIA = "engine", "critical-engine", "media"


def build_app(settings: Settings) -> Application:
    """The application that settings amount to.

    Raises:
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    second = critical_recipe(settings, recipe)
    if settings.serve.topology == "single":
        return _ingress(lambda: single_api(recipe, plan, settings, second)).bind()
    engine = serve.deployment(EngineReplica, name=_ENGINE).bind(recipe, settings)
    critical = None
    if second is not None:
        deployment = serve.deployment(EngineReplica, name=_CRITICAL)
        critical = (deployment.bind(second, settings), second.spec)
    media = serve.deployment(
        MediaReplica, name=_MEDIA, num_replicas=settings.serve.media_replicas
    ).bind(plan, settings, engine, critical)
    # The builder runs where the ingress runs: handles are asked for there, by name.
    return _ingress(lambda: _split_api(recipe, plan, settings)).bind(media)


def single_api(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    second: EngineRecipe | None = None,
) -> FastAPI:
    """The whole in this process; the engine is warm when this returns.

    Args:
        recipe: The engine.
        plan: What is done to a clip.
        settings: Bounds.
        second: The engine that decides critical labels, if one does.
    """
    with ExitStack() as undo:
        engine = OwnEngine(recipe, settings)
        undo.callback(engine.close)
        door: EngineDoor = engine
        recheck = None
        if second is not None:
            critical = OwnEngine(second, settings)
            undo.callback(critical.close)
            recheck = Recheck(critical, second.spec, settings.serve.critical_band)
            door = EnginePair(engine, critical)
        assembly = Assembly(plan, settings, engine, recheck)
        undo.callback(assembly.close)
        service, ring = assembly.service, assembly.recent

        async def recent() -> FrameSample:
            return ring.sample()

        banks = LiveBanks(recipe, plan, settings, engine, use=service.use, recent=recent)
        parts = undo.pop_all()
    return make_api(service, door, banks, settings, lifespan=_running(parts, banks))


def _split_api(recipe: EngineRecipe, plan: TaggingPlan, settings: Settings) -> FastAPI:
    name = serve.get_replica_context().app_name
    engine = HandleDoor(serve.get_deployment_handle(_ENGINE, app_name=name))
    media = serve.get_deployment_handle(_MEDIA, app_name=name)
    tagger = HandleTagger(media, plan, settings.serve.banks.preview_frames)
    banks = LiveBanks(
        recipe,
        plan,
        settings,
        engine,
        use=tagger.use,
        recent=tagger.recent_frames,
        spread=tagger.look_at_banks,
    )
    return make_api(tagger, engine, banks, settings, lifespan=_running(ExitStack(), banks))


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


def _ingress(builder: Callable[[], FastAPI]) -> Any:
    class Ingress:
        """HTTP."""

        def __init__(self, *_: object) -> None:
            """Handles are bound so that Serve starts what is behind them."""

    return serve.deployment(serve.ingress(builder)(Ingress), name="ingress")


def __getattr__(name: str) -> Application:
    """`app`, made when it is asked for: importing this module opens nothing."""
    if name == "app":
        return build_app(Settings.load())
    raise AttributeError(name)
