"""Tensors of the Open Inference Protocol: bytes to pixels, and embeddings to bytes.

A request is JSON, and behind it the tensors that its inputs say are binary
(`Inference-Header-Content-Length` says where the JSON ends). The engine has one input, `pixels`
UINT8 [N, S, S, 3], and one output, `embeddings` FP32 [N, D]. Knows no HTTP.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from reelsight.errors import RequestError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.settings import InferenceSettings

__all__ = ["INPUT", "OUTPUT", "Asked", "InferRequest", "read_infer", "write_infer"]

INPUT, OUTPUT = "pixels", "embeddings"
_SHOWN_ERRORS = 3


class InputParameters(BaseModel):
    """How a tensor comes."""

    binary_data_size: int | None = Field(default=None, ge=0)
    shared_memory_region: str | None = None


class InputTensor(BaseModel):
    """A tensor of a request."""

    name: str = Field(max_length=256)
    shape: list[int] = Field(max_length=16)
    datatype: str = Field(max_length=16)
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description="Row-major, flat or nested; absent where the tensor is binary."
    )


class OutputParameters(BaseModel):
    """How a tensor is wanted."""

    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class WantedOutput(BaseModel):
    """A tensor that is asked for."""

    name: str = Field(max_length=256)
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """Of a whole request."""

    binary_data_output: bool = False
    timeout: int | None = Field(default=None, ge=1, description="Microseconds.")


class InferRequest(BaseModel):
    """POST /v2/models/{name}/infer."""

    id: str = Field(default="", max_length=256)
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor] = Field(max_length=16)
    outputs: list[WantedOutput] | None = Field(default=None, max_length=16)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants.

    Attributes:
        id: Its own name, given back.
        pixels: uint8 [N, S, S, 3].
        binary: Whether the embeddings go back as bytes behind the JSON.
        timeout_s: Seconds that the client waits; None when it did not say.
    """

    id: str
    pixels: npt.NDArray[np.uint8]
    binary: bool
    timeout_s: float | None


def read_infer(
    body: bytes, json_bytes: int | None, spec: EngineSpec, limits: InferenceSettings
) -> Asked:
    """A request's tensor.

    Args:
        body: The whole of it.
        json_bytes: How much of it is JSON; None for all.
        spec: The engine.
        limits: Of a request.

    Raises:
        RequestError: It is none; the message says what is expected.
    """
    head = body if json_bytes is None else body[:json_bytes]
    if json_bytes is not None and json_bytes > len(body):
        raise _bad(f"the JSON is said to have {json_bytes} bytes, the body has {len(body)}")
    if len(head) > limits.max_json_bytes:
        raise RequestError(
            f"{len(head)} bytes of JSON, at most {limits.max_json_bytes} are taken",
            status=413,
            code="request.too_large",
            hint="Send the tensor as binary data.",
        )
    try:
        request = InferRequest.model_validate_json(head)
    except ValidationError as error:
        told = error.errors(include_input=False, include_url=False)[:_SHOWN_ERRORS]
        where = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in told]
        raise _bad("; ".join(where), code="request.schema") from error
    tensor = _only_input(request)
    _check(tensor, spec, limits)
    pixels = _pixels(tensor, memoryview(body)[len(head) :])
    timeout = request.parameters.timeout
    return Asked(
        request.id, pixels, _wants_binary(request), None if timeout is None else timeout / 1e6
    )


def write_infer(
    asked: Asked, embeddings: npt.NDArray[np.float32], spec: EngineSpec
) -> tuple[bytes, int | None]:
    """The answer's body, and how much of it is JSON; None for all."""
    output: dict[str, Any] = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": list(embeddings.shape),
    }
    raw = b""
    if asked.binary:
        raw = embeddings.astype("<f4").tobytes()
        output["parameters"] = {"binary_data_size": len(raw)}
    else:
        output["data"] = embeddings.ravel().tolist()
    told = {"model_name": spec.model, "model_version": spec.hash, "outputs": [output]}
    if asked.id:
        told["id"] = asked.id
    head = json.dumps(told, separators=(",", ":")).encode()
    return head + raw, len(head) if asked.binary else None


def _only_input(request: InferRequest) -> InputTensor:
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT]:
        raise _bad(f"the inputs are {names}, expected [{INPUT!r}]")
    wanted = [output.name for output in request.outputs or []]
    if set(wanted) - {OUTPUT} or len(wanted) > 1:
        raise _bad(f"the outputs wanted are {wanted}, there is [{OUTPUT!r}]")
    for output in request.outputs or []:
        if output.parameters.classification or output.parameters.shared_memory_region:
            raise _bad("outputs are given neither as classes nor in shared memory")
    return request.inputs[0]


def _check(tensor: InputTensor, spec: EngineSpec, limits: InferenceSettings) -> None:
    size = spec.geometry.size
    if tensor.datatype != "UINT8":
        raise _bad(f"input {INPUT!r} is {tensor.datatype!r}, expected 'UINT8'")
    if len(tensor.shape) != 4 or tensor.shape[1:] != [size, size, 3] or tensor.shape[0] < 1:
        raise _bad(
            f"input {INPUT!r} has shape {tensor.shape}, expected [N, {size}, {size}, 3], N >= 1"
        )
    if tensor.shape[0] > limits.max_frames:
        raise RequestError(
            f"{tensor.shape[0]} frames, at most {limits.max_frames} are taken",
            status=413,
            code="request.too_large",
            hint="Send them in several requests, or raise serve.inference.max_frames.",
        )
    if tensor.parameters.shared_memory_region is not None:
        raise _bad("tensors are not read from shared memory")


def _pixels(tensor: InputTensor, rest: memoryview) -> npt.NDArray[np.uint8]:
    expected = math.prod(tensor.shape)
    size = tensor.parameters.binary_data_size
    if size is None:
        if rest:
            raise _bad(f"{len(rest)} bytes follow the JSON, no input says they are its own")
        return _numbers(tensor, expected)
    if tensor.data is not None:
        raise _bad(f"input {INPUT!r} comes twice, as numbers and as bytes")
    if size != expected or size != len(rest):
        raise _bad(
            f"input {INPUT!r} of shape {tensor.shape} has {expected} bytes, {size} are announced "
            f"and {len(rest)} came"
        )
    return np.frombuffer(rest, np.uint8).reshape(tensor.shape)


def _numbers(tensor: InputTensor, expected: int) -> npt.NDArray[np.uint8]:
    if tensor.data is None:
        raise _bad(f"input {INPUT!r} has no data")
    try:
        found = np.asarray(tensor.data)
    except (ValueError, OverflowError) as error:
        raise _bad(f"input {INPUT!r} is no tensor: {error}") from None
    if found.size != expected or found.ndim not in (1, 4):
        raise _bad(f"input {INPUT!r} has {found.size} numbers, its shape {tensor.shape} {expected}")
    if found.ndim == 4 and list(found.shape) != tensor.shape:
        raise _bad(f"input {INPUT!r} is nested as {list(found.shape)}, its shape {tensor.shape}")
    if found.dtype.kind not in "iu" or found.min() < 0 or found.max() > 255:
        raise _bad(f"input {INPUT!r} holds other than whole numbers 0 to 255")
    return np.ascontiguousarray(found.astype(np.uint8).reshape(tensor.shape))


def _wants_binary(request: InferRequest) -> bool:
    said = [output.parameters.binary_data for output in request.outputs or []]
    if said and said[0] is not None:
        return said[0]
    return request.parameters.binary_data_output


def _bad(
    message: str, code: Literal["request.tensor", "request.schema"] = "request.tensor"
) -> RequestError:
    return RequestError(
        message,
        code=code,
        hint="The model's inputs and outputs are at GET /v2/models/{name}.",
    )
