"""/v2: the Open Inference Protocol over the engine, so that clients of Triton and KServe work.

A model's one version is the hash of the engine that runs. What the protocol has beside inference
(repositories, shared memory, statistics) is not here, and says so in the protocol's words.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

import reelsight
from deployments.aside import aside
from deployments.engine_door import Embeddings, EngineDoor, Pixels
from deployments.exchange import note
from deployments.problems import PROBLEM
from deployments.routes.health import Health, Vitals
from deployments.routes.tags import while_connected
from deployments.security.quota import charged
from deployments.service import Tagger
from deployments.small_body import read_small
from deployments.tensors import INPUT, OUTPUT, read_infer, write_infer
from reelsight.errors import Overloaded, RequestError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.settings import ServeSettings

__all__ = ["inference_routes"]

_ASIDE_BYTES = 1 << 20
_HEADER = "inference-header-content-length"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class ServerFacts(BaseModel):
    """This server."""

    name: str = "reelsight"
    version: str = reelsight.__version__
    extensions: list[str] = ["binary_tensor_data"]


class TensorFacts(BaseModel):
    """One input or output; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class InferenceModel(BaseModel):
    """A model's inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class OutputTensor(TensorFacts):
    """A tensor of an answer."""

    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferAnswer(BaseModel):
    """Embeddings; as binary data where that was asked for."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def inference_routes(
    engine: EngineDoor, tagger: Tagger, serve: ServeSettings, vitals: Vitals
) -> APIRouter:
    """The routes.

    Args:
        engine: Embeds.
        tagger: Its plan names the engine's spec.
        serve: Bounds.
        vitals: Whether this replica lives and answers.
    """
    # A name may hold slashes, so what is more special is heard first: of stacked decorators the
    # lowest.
    router = APIRouter(prefix="/v2", tags=["inference"], responses=PROBLEM)
    model, version = "/models/{name:path}", "/models/{name:path}/versions/{version}"

    @router.get("/health/live", response_model=Health, response_model_exclude_none=True)
    async def live() -> Health:
        """Whether the engine makes progress with what it has."""
        return await vitals.alive()

    @router.get("/health/ready", response_model=Health, response_model_exclude_none=True)
    async def ready() -> Health:
        """Whether requests are answered."""
        return await vitals.ready()

    @router.get("", response_model=ServerFacts)
    async def server() -> ServerFacts:
        """This server, and what it has beside the protocol's core."""
        return ServerFacts()

    @router.get(f"{model}/ready", response_model=Health, response_model_exclude_none=True)
    @router.get(f"{version}/ready", response_model=Health, response_model_exclude_none=True)
    async def model_ready(name: str, version: str | None = None) -> Health:
        """Whether a model answers."""
        _known(tagger, name, version)
        return await vitals.ready()

    @router.get(model, response_model=InferenceModel)
    @router.get(version, response_model=InferenceModel)
    async def metadata(name: str, version: str | None = None) -> InferenceModel:
        """A model's inputs and outputs."""
        return _facts(_known(tagger, name, version))

    @router.post(f"{model}/infer", response_model=InferAnswer, openapi_extra=_BODY)
    @router.post(f"{version}/infer", response_model=InferAnswer, openapi_extra=_BODY)
    async def infer(
        request: Request,
        name: str,
        version: str | None = None,
        json_bytes: Annotated[int | None, Header(alias=_HEADER, ge=0)] = None,
    ) -> Response:
        """Embeddings of frames that have the engine's size already."""
        came = time.monotonic()
        spec = _known(tagger, name, version)
        most = serve.inference.max_frames * spec.geometry.size**2 * 3
        body = await read_small(
            request,
            most + serve.inference.max_json_bytes,
            "serve.inference.max_frames",
        )
        asked = await aside(
            (json_bytes or len(body)) >= _ASIDE_BYTES,
            read_infer,
            body,
            json_bytes,
            spec,
            serve.inference,
        )
        left = min(serve.timeout_s, asked.timeout_s or serve.timeout_s)
        with charged(request.scope, len(asked.pixels)):
            rows = await while_connected(request, _embedded(engine, asked.pixels, came + left))
        note(frames=len(rows))
        content, head = await aside(rows.nbytes >= _ASIDE_BYTES, write_infer, asked, rows, spec)
        if head is None:
            return Response(content, media_type="application/json")
        return Response(
            content, headers={_HEADER: str(head)}, media_type="application/octet-stream"
        )

    @router.api_route("/{path:path}", methods=["GET", "POST"], include_in_schema=False)
    async def nothing(path: str) -> Response:
        raise RequestError(
            f"/v2/{path} is not served: this is the protocol's health, metadata and inference",
            status=404,
            code="request.no_route",
        )

    return router


async def _embedded(engine: EngineDoor, pixels: Pixels, deadline: float) -> Embeddings:
    """Rows by the deadline: an engine looks at it in its queue alone, and a wedged one never."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await engine.embed(pixels, deadline=deadline)
    except TimeoutError:
        raise Overloaded("the deadline passed", code="request.deadline") from None


def _known(tagger: Tagger, name: str, version: str | None) -> EngineSpec:
    spec = tagger.plan.spec
    if name != spec.model:
        raise _unknown(f"no model {name!r}; there is {spec.model!r}", "request.no_model")
    if version not in (None, spec.hash):
        raise _unknown(
            f"no version {version!r} of {name}; there is {spec.hash!r}", "request.no_version"
        )
    return spec


def _unknown(message: str, code: Literal["request.no_model", "request.no_version"]) -> RequestError:
    return RequestError(message, status=404, code=code, hint="See GET /v1/models.")


def _facts(spec: EngineSpec) -> InferenceModel:
    size = spec.geometry.size
    return InferenceModel(
        name=spec.model,
        versions=[spec.hash],
        platform=f"reelsight_{spec.backend}",
        inputs=[TensorFacts(name=INPUT, datatype="UINT8", shape=[-1, size, size, 3])],
        outputs=[TensorFacts(name=OUTPUT, datatype="FP32", shape=[-1, spec.dim])],
    )
