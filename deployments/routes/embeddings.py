"""POST /v1/embeddings: texts and pictures to vectors, in the words of OpenAI's API.

Beside OpenAI's strings an input may be a picture: a data URL, or {"image": base64}. The answer's
vectors of both can be compared with each other.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from deployments.aside import aside
from deployments.embedding import EmbedAnswer, Embedder, EmbedJob
from deployments.exchange import note
from deployments.problems import PROBLEM
from deployments.routes.tags import while_connected
from deployments.security.quota import charged
from deployments.service import Tagger
from deployments.small_body import read_small
from reelsight.errors import FetchError, RequestError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.settings import EmbeddingSettings

__all__ = ["EmbeddingRequest", "embedding_routes"]

_DATA_URL = re.compile(r"data:[\w.+-]*(/[\w.+-]+)?(;[\w.=+-]+)*;base64,", re.ASCII)
# An input may be megabytes, the head of a data URL is short.
_HEAD = 128
_SHOWN_ERRORS = 3
_ASIDE_BYTES = 1 << 16


class Picture(BaseModel, extra="forbid"):
    """A picture file."""

    image: str = Field(description="Base64 of a JPEG, PNG or WebP, or a data URL of one.")


class Text(BaseModel, extra="forbid"):
    """A text, where pictures are beside it."""

    text: str


class EmbeddingRequest(BaseModel, extra="forbid"):
    """What to embed. Token ids are not taken."""

    model: str = Field(max_length=512, description="As GET /v1/models names it.")
    input: str | Picture | Text | list[str | Picture | Text] = Field(
        description="A string that is a data URL (;base64,) counts as a picture."
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64 is of little-endian float32."
    )
    dimensions: int | None = Field(default=None, description="The model's own, or absent.")
    user: str | None = Field(default=None, max_length=512, description="Not looked at.")


class Embedding(BaseModel):
    """One vector, of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What was read."""

    prompt_tokens: int = Field(description="Tokens of text; pictures have none.")
    total_tokens: int
    pictures: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: Usage


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/EmbeddingRequest"}}
        },
    }
}


def embedding_routes(
    embedder: Embedder, tagger: Tagger, timeout_s: float, limits: EmbeddingSettings
) -> APIRouter:
    """The route.

    Args:
        embedder: Embeds.
        tagger: Names the model.
        timeout_s: Seconds for a request.
        limits: Of one request.
    """
    router = APIRouter(tags=["embeddings"])

    @router.post(
        "/v1/embeddings",
        summary="Embed texts and pictures",
        response_model=EmbeddingList,
        responses=PROBLEM,
        openapi_extra=_BODY,
    )
    async def embeddings(request: Request) -> Response:
        """Vectors of texts and pictures, which can be compared with each other."""
        deadline = time.monotonic() + timeout_s
        body = await read_small(request, limits.max_body_bytes, "serve.embeddings.max_body_bytes")
        spec = tagger.plan.spec
        asked, inputs = await aside(len(body) >= _ASIDE_BYTES, _read, body, spec, limits)
        pictures = sum(isinstance(each, bytes) for each in inputs)
        with charged(request.scope, pictures):
            answer = await while_connected(request, embedder.embed(EmbedJob(inputs, deadline)))
        note(frames=answer.pictures)
        content = await aside(
            answer.rows.nbytes >= _ASIDE_BYTES, _written, answer, spec.model, asked.encoding_format
        )
        headers = {"reelsight-engine": spec.hash}
        return Response(content, headers=headers, media_type="application/json")

    return router


def _read(
    body: bytes, spec: EngineSpec, limits: EmbeddingSettings
) -> tuple[EmbeddingRequest, tuple[str | bytes, ...]]:
    asked = _parsed(body)
    if asked.model != spec.model:
        raise RequestError(
            f"no model {asked.model!r}; there is {spec.model!r}",
            status=404,
            code="request.no_model",
            hint="See GET /v1/models.",
        )
    if asked.dimensions not in (None, spec.dim):
        raise RequestError(
            f"embeddings of {spec.model} have {spec.dim} dimensions, not {asked.dimensions}",
            status=422,
            code="request.dimensions",
            hint="Leave `dimensions` out: a part of a vector is no embedding of this model.",
        )
    listed = asked.input if isinstance(asked.input, list) else [asked.input]
    if not 1 <= len(listed) <= limits.max_inputs:
        raise RequestError(
            f"{len(listed)} inputs, 1 to {limits.max_inputs} are taken",
            status=422,
            code="request.inputs",
            hint="Send more in several requests, or raise serve.embeddings.max_inputs.",
        )
    return asked, tuple(_one(i, each, limits.max_chars) for i, each in enumerate(listed))


def _parsed(body: bytes) -> EmbeddingRequest:
    try:
        return EmbeddingRequest.model_validate_json(body)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False)[:_SHOWN_ERRORS]
        ]
        raise RequestError("; ".join(told), status=422, code="request.schema") from error


def _one(index: int, given: str | Picture | Text, max_chars: int) -> str | bytes:
    """A text, or a picture's bytes."""
    if isinstance(given, Picture):
        return _picture(index, given.image)
    text = given.text if isinstance(given, Text) else given
    if isinstance(given, str) and _DATA_URL.match(text, 0, _HEAD):
        return _picture(index, text)
    if not text.strip() or len(text) > max_chars:
        raise RequestError(
            f"input {index} has {len(text)} characters, 1 to {max_chars} are taken",
            status=422,
            code="request.text",
            hint="A text is not blank; long ones are cut to the model's context anyway.",
        )
    return text


def _picture(index: int, image: str) -> bytes:
    if "://" in image[:16]:
        raise FetchError(
            f"input {index} is a location, and this route fetches nothing",
            code="fetch.scheme_refused",
            hint="Send the picture itself, as base64.",
        )
    head = _DATA_URL.match(image, 0, _HEAD)
    try:
        data = base64.b64decode(image[head.end() :] if head else image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            f"input {index} is not base64: {error}", status=422, code="request.base64"
        ) from None
    if not data:
        raise RequestError(f"input {index} is empty", status=422, code="request.empty")
    return data


def _written(answer: EmbedAnswer, model: str, encoding: str) -> bytes:
    usage = {
        "prompt_tokens": answer.tokens,
        "total_tokens": answer.tokens,
        "pictures": answer.pictures,
    }
    data = [
        {"object": "embedding", "index": i, "embedding": _vector(row, encoding)}
        for i, row in enumerate(answer.rows)
    ]
    told = {"object": "list", "model": model, "data": data, "usage": usage}
    return json.dumps(told, separators=(",", ":")).encode()


def _vector(row: npt.NDArray[np.float32], encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    values: list[float] = row.tolist()
    return values
