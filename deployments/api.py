"""The HTTP application over a tagger and an engine. Where these run is not its business."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import reelsight
from deployments.admission import Admission, Room
from deployments.banks.live import LiveBanks
from deployments.body_cap import BodyCap
from deployments.drain import Drain, DrainGate
from deployments.embedding import Embedder
from deployments.engine_door import EngineDoor
from deployments.exchange import Observed
from deployments.jobs.answer import JobRequest
from deployments.jobs.desk import JobDesk
from deployments.jobs.stream import JobStreams
from deployments.jobs.webhook import Webhooks
from deployments.label_schemas import BankBody, PublishRequest, RollbackRequest
from deployments.meters import Gather, Meters
from deployments.problems import Problem, answer_with_problems
from deployments.request_id import RequestId
from deployments.routes.embeddings import EmbeddingRequest, embedding_routes
from deployments.routes.health import Vitals, health_routes
from deployments.routes.inference import inference_routes
from deployments.routes.jobs import job_routes
from deployments.routes.labels import label_routes
from deployments.routes.marks import MarkDoor, mark_routes
from deployments.routes.metrics import metric_routes
from deployments.routes.models import model_routes
from deployments.routes.tags import tag_routes
from deployments.schemas import UriRequest
from deployments.security.gate import KeyFile, KeyGate
from deployments.security.scopes import add_keys
from deployments.security.web_fetch import WebFetch
from deployments.service import Tagger
from deployments.tensors import InferRequest
from reelsight.settings import Settings

__all__ = ["Wire", "make_api"]

# Beside the file, a form holds names and boundaries.
_FORM_BYTES = 1 << 16
# Named by bodies and problems alone, so that FastAPI does not describe them by itself.
_BODIES = (
    Problem,
    UriRequest,
    JobRequest,
    BankBody,
    PublishRequest,
    RollbackRequest,
    EmbeddingRequest,
    InferRequest,
)


@dataclass(frozen=True, slots=True)
class Wire:
    """What the routes beside tagging are made of.

    Attributes:
        embedder: Embeds texts and pictures.
        meters: Count.
        gather: The numbers of every replica.
    """

    embedder: Embedder
    meters: Meters
    gather: Gather


def make_api(
    tagger: Tagger,
    engine: EngineDoor,
    banks: LiveBanks,
    settings: Settings,
    wire: Wire,
    lifespan: Any = None,
    webhooks: Webhooks | None = None,
    *,
    drain: Drain | None = None,
    web: WebFetch | None = None,
    marks: MarkDoor | None = None,
) -> FastAPI:
    """Routes, middleware and the answers to errors.

    Args:
        tagger: Tags.
        engine: Embeds; its progress is life.
        banks: Label banks that change; started and stopped by the lifespan.
        settings: Bounds.
        wire: What the other routes are made of.
        lifespan: What is closed when the application ends, as FastAPI takes it.
        webhooks: Posts results of jobs; those of the settings when None.
        drain: Whether the door is closing; one of its own when None.
        web: Fetches what requests name by uri; as the settings say when None.
        marks: Reads and compares marks; None where no pair is set.

    Raises:
        ConfigError: The keys file cannot be read.
    """
    serve = settings.serve
    desk = JobDesk(settings, tagger, webhooks)
    drain = drain or Drain()
    web = web or WebFetch(serve.fetch, settings.media.limits.max_bytes)
    named = serve.keys_file is not None or settings.keys_file.exists()
    keys = KeyFile(settings.keys_file) if named else None
    vitals = Vitals(engine, serve.stall_s, banks.follower, drain)
    room = Room(serve.max_requests, serve.max_body_bytes, lambda: tagger.full)
    api = FastAPI(
        title="Reelsight",
        version=reelsight.__version__,
        description="Labels and times of short videos, and whose copies they are.",
        docs_url=None,
        redoc_url=None,
        lifespan=_with_jobs(desk, lifespan),
    )
    api.state.room, api.state.drain, api.state.vitals = room, drain, vitals
    api.include_router(tag_routes(tagger, serve.timeout_s, desk, web, serve.reserve_frames))
    streams = JobStreams(desk, closing=lambda: drain.begun)
    api.include_router(job_routes(desk, tagger, web, streams, serve.reserve_frames))
    asked = (wire.meters, serve.timeout_s, web, serve.reserve_frames)
    api.include_router(mark_routes(marks, *asked))
    api.include_router(model_routes(tagger, marks))
    api.include_router(label_routes(banks.desk, serve.banks.max_bytes))
    api.include_router(health_routes(vitals))
    api.include_router(embedding_routes(wire.embedder, tagger, serve.timeout_s, serve.embeddings))
    api.include_router(inference_routes(engine, tagger, serve, vitals))
    api.include_router(metric_routes(wire.gather))
    api.state.meters = wire.meters
    answer_with_problems(api)
    _guard(api, settings, room, keys, drain, wire.meters)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]
    return api


def _guard(
    api: FastAPI, settings: Settings, room: Room, keys: KeyFile | None, drain: Drain, meters: Meters
) -> None:
    """What a request meets before its route, from the innermost on."""
    # The last added is the outermost: a body that is refused has a name, too.
    api.add_middleware(Admission, room=room)
    api.add_middleware(
        BodyCap,
        max_bytes=settings.media.limits.max_bytes + _FORM_BYTES,
        timeout_s=settings.serve.body_timeout_s,
    )
    api.add_middleware(KeyGate, keys=keys, frames_per_minute=settings.serve.frames_per_minute)
    api.add_middleware(DrainGate, drain=drain)
    # What any of them refuses is counted, and is a line of the log.
    api.add_middleware(Observed, meters=meters)
    api.add_middleware(RequestId)


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
        for model in _BODIES:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        api.openapi_schema = document
    return api.openapi_schema
