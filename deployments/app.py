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
from ray.serve.handle import DeploymentHandle

from deployments.api import Wire, make_api
from deployments.assembly import Assembly, OwnEngine
from deployments.logs import log_as_json
from deployments.meters import Gather, Meters, Numbers, gather_own, plan_facts
from deployments.replicas import (
    EngineReplica,
    HandleDoor,
    HandleEmbedder,
    HandleTagger,
    MediaReplica,
    gather_all,
    own_meters,
)
from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan, plan_for
from reelsight.settings import Settings

__all__ = ["build_app", "single_api"]

_INGRESS, _MEDIA, _ENGINE = "ingress", "media", "engine"


def build_app(settings: Settings) -> Application:
    """The application that settings amount to.

    Raises:
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    if settings.serve.topology == "single":
        return _ingress(lambda: _served_single(recipe, plan, settings)).bind()
    engine = serve.deployment(EngineReplica, name=_ENGINE).bind(recipe, settings)
    media = serve.deployment(MediaReplica, name=_MEDIA).bind(
        plan, settings, engine, recipe.open_text
    )
    # The builder runs where the ingress runs: handles are asked for there, by name.
    return _ingress(lambda: _split_api(plan, settings)).bind(media)


def single_api(
    recipe: EngineRecipe,
    plan: TaggingPlan,
    settings: Settings,
    meters: Meters | None = None,
    gather: Gather | None = None,
) -> FastAPI:
    """The whole in this process; the engine is warm when this returns."""
    meters = meters or Meters()
    with ExitStack() as undo:
        engine = OwnEngine(recipe, settings, meters)
        undo.callback(engine.close)
        assembly = Assembly(plan, settings, engine, recipe.open_text, meters)
        undo.callback(assembly.close)
        parts = undo.pop_all()
    meters.collect_from(plan_facts(lambda: assembly.service.plan))
    wire = Wire(assembly.embedding, meters, gather or gather_own(meters))
    return make_api(assembly.service, engine, settings, wire, lifespan=_closing(parts))


def _served_single(recipe: EngineRecipe, plan: TaggingPlan, settings: Settings) -> FastAPI:
    log_as_json(settings.serve.log_level)
    meters = own_meters()
    gather = gather_all(meters, [_handle(_INGRESS)], settings.serve.metrics_timeout_s)
    return single_api(recipe, plan, settings, meters, gather)


def _split_api(plan: TaggingPlan, settings: Settings) -> FastAPI:
    log_as_json(settings.serve.log_level)
    meters = own_meters()
    engine, media = _handle(_ENGINE), _handle(_MEDIA)
    tagger = HandleTagger(media, plan)
    meters.collect_from(plan_facts(lambda: tagger.plan))
    replicas = [_handle(_INGRESS), media, engine]
    gather = gather_all(meters, replicas, settings.serve.metrics_timeout_s)
    wire = Wire(HandleEmbedder(media), meters, gather)
    return make_api(tagger, HandleDoor(engine), settings, wire)


def _handle(deployment: str) -> DeploymentHandle:
    return serve.get_deployment_handle(deployment, app_name=serve.get_replica_context().app_name)


def _closing(parts: ExitStack) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with parts:
            yield

    return lifespan


def _ingress(builder: Callable[[], FastAPI]) -> Any:
    class Ingress:
        """HTTP."""

        def __init__(self, *_: object) -> None:
            """Handles are bound so that Serve starts what is behind them."""

        async def numbers(self) -> Numbers:
            """What this replica has counted."""
            meters: Meters = self.app.state.meters  # type: ignore[attr-defined]
            return await meters.numbers()

    return serve.deployment(serve.ingress(builder)(Ingress), name=_INGRESS)


def __getattr__(name: str) -> Application:
    """`app`, made when it is asked for: importing this module opens nothing."""
    if name == "app":
        return build_app(Settings.load())
    raise AttributeError(name)
