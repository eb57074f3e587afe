"""The HTTP application over a tagger and an engine. Where these run is not its business."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import reelsight
from deployments.admission import Admission, Room
from deployments.banks.live import LiveBanks
from deployments.body_cap import BodyCap
from deployments.drain import Drain, DrainGate
from deployments.engine_door import EngineDoor
from deployments.jobs.answer import JobRequest
from deployments.jobs.desk import JobDesk
from deployments.jobs.webhook import Webhooks
from deployments.label_schemas import BankBody, PublishRequest, RollbackRequest
from deployments.problems import Problem, answer_with_problems
from deployments.request_id import RequestId
from deployments.routes.health import health_routes
from deployments.routes.jobs import job_routes
from deployments.routes.labels import label_routes
from deployments.routes.models import model_routes
from deployments.routes.tags import tag_routes
from deployments.schemas import UriRequest
from deployments.security.gate import KeyFile, KeyGate
from deployments.security.scopes import add_keys
from deployments.security.web_fetch import WebFetch
from deployments.service import Tagger
from reelsight.settings import Settings

__all__ = ["make_api"]

# Beside the file, a form holds names and boundaries.
_FORM_BYTES = 1 << 16


def make_api(
    tagger: Tagger,
    engine: EngineDoor,
    banks: LiveBanks,
    settings: Settings,
    lifespan: Any = None,
    webhooks: Webhooks | None = None,
    *,
    drain: Drain | None = None,
    web: WebFetch | None = None,
) -> FastAPI:
    """Routes, middleware and the answers to errors.

    Args:
        tagger: Tags.
        engine: Embeds; its progress is life.
        banks: Label banks that change; started and stopped by the lifespan.
        settings: Bounds.
        lifespan: What is closed when the application ends, as FastAPI takes it.
        webhooks: Posts results of jobs; those of the settings when None.
        drain: Whether the door is closing; one of its own when None.
        web: Fetches what requests name by uri; as the settings say when None.

    Raises:
        ConfigError: The keys file cannot be read.
    """
    serve = settings.serve
    desk = JobDesk(settings, tagger, webhooks)
    drain = drain or Drain()
    web = web or WebFetch(serve.fetch, settings.media.limits.max_bytes)
    named = serve.keys_file is not None or settings.keys_file.exists()
    keys = KeyFile(settings.keys_file) if named else None
    room = Room(serve.max_requests, serve.max_body_bytes, lambda: tagger.full)
    api = FastAPI(
        title="Reelsight",
        version=reelsight.__version__,
        description="Labels and times of short videos.",
        docs_url=None,
        redoc_url=None,
        lifespan=_with_jobs(desk, lifespan),
    )
    api.state.room, api.state.drain = room, drain
    api.include_router(tag_routes(tagger, serve.timeout_s, desk, web, serve.reserve_frames))
    api.include_router(job_routes(desk, web))
    api.include_router(model_routes(tagger))
    api.include_router(label_routes(banks.desk, serve.banks.max_bytes))
    api.include_router(health_routes(engine, serve.stall_s, banks.follower, drain))
    answer_with_problems(api)
    # The last added is the outermost: a body that is refused has a name, too.
    api.add_middleware(Admission, room=room)
    api.add_middleware(
        BodyCap,
        max_bytes=settings.media.limits.max_bytes + _FORM_BYTES,
        timeout_s=serve.body_timeout_s,
    )
    api.add_middleware(KeyGate, keys=keys, frames_per_minute=serve.frames_per_minute)
    api.add_middleware(DrainGate, drain=drain)
    api.add_middleware(RequestId)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]
    return api


def _with_jobs(desk: JobDesk, lifespan: Any) -> Callable[[FastAPI], Any]:
    """Jobs begin last and stop first: what runs them is there for as long as they are."""

    @asynccontextmanager
    async def both(api: FastAPI) -> AsyncIterator[None]:
        async with lifespan(api) if lifespan else nullcontext(), desk:
            yield

    return both


def _described(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that only bodies and problems name."""
    if api.openapi_schema is None:
        document = get_openapi(
            title=api.title, version=api.version, description=api.description, routes=api.routes
        )
        add_keys(document)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        bodies = (Problem, UriRequest, JobRequest, BankBody, PublishRequest, RollbackRequest)
        for model in bodies:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        api.openapi_schema = document
    return api.openapi_schema
