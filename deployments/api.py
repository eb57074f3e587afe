"""The HTTP application over a tagger and an engine. Where these run is not its business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import reelsight
from deployments.body_cap import BodyCap
from deployments.embedding import Embedder
from deployments.engine_door import EngineDoor
from deployments.exchange import Observed
from deployments.meters import Gather, Meters
from deployments.problems import Problem, answer_with_problems
from deployments.request_id import RequestId
from deployments.routes.embeddings import EmbeddingRequest, embedding_routes
from deployments.routes.health import health_routes
from deployments.routes.inference import inference_routes
from deployments.routes.metrics import metric_routes
from deployments.routes.models import model_routes
from deployments.routes.tags import tag_routes
from deployments.schemas import UriRequest
from deployments.service import Tagger
from deployments.tensors import InferRequest
from reelsight.settings import Settings

__all__ = ["Wire", "make_api"]

# Beside the file, a form holds names and boundaries.
_FORM_BYTES = 1 << 16


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
    tagger: Tagger, engine: EngineDoor, settings: Settings, wire: Wire, lifespan: Any = None
) -> FastAPI:
    """Routes, middleware and the answers to errors.

    Args:
        tagger: Tags.
        engine: Embeds; its progress is life.
        settings: Bounds.
        wire: What the other routes are made of.
        lifespan: What is closed when the application ends, as FastAPI takes it.
    """
    serve = settings.serve
    api = FastAPI(
        title="Reelsight",
        version=reelsight.__version__,
        description="Labels and times of short videos.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    api.include_router(tag_routes(tagger, serve.timeout_s))
    api.include_router(model_routes(tagger))
    api.include_router(health_routes(engine, serve.stall_s))
    api.include_router(embedding_routes(wire.embedder, tagger, serve.timeout_s, serve.embeddings))
    api.include_router(inference_routes(engine, tagger, serve))
    api.include_router(metric_routes(wire.gather))
    api.state.meters = wire.meters
    answer_with_problems(api)
    # The last added is the outermost: a body that is refused has a name, too.
    api.add_middleware(
        BodyCap,
        max_bytes=settings.media.limits.max_bytes + _FORM_BYTES,
        timeout_s=serve.body_timeout_s,
    )
    api.add_middleware(Observed, meters=wire.meters)
    api.add_middleware(RequestId)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]
    return api


def _described(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that only bodies and problems name."""
    if api.openapi_schema is None:
        document = get_openapi(
            title=api.title, version=api.version, description=api.description, routes=api.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, UriRequest, EmbeddingRequest, InferRequest):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        api.openapi_schema = document
    return api.openapi_schema
