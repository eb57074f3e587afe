"""/v1/labels: label banks, from a draft to what every replica serves."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ValidationError

from deployments.banks.desk import BankDesk
from deployments.label_schemas import (
    BankBody,
    BankList,
    BankView,
    DraftAnswer,
    PreviewAnswer,
    PublishRequest,
    ReleaseAnswer,
    RollbackRequest,
)
from deployments.problems import PROBLEM
from deployments.small_body import read_small
from reelsight.errors import RequestError
from reelsight.labels import BankDefinition

__all__ = ["label_routes"]

_Model = TypeVar("_Model", bound=BaseModel)
_SMALL_BYTES = 1 << 12
_Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
_Ref = Annotated[str, Path(min_length=1, max_length=128)]


def label_routes(desk: BankDesk, max_bytes: int) -> APIRouter:
    """The routes over a desk.

    Args:
        desk: Reads and changes banks.
        max_bytes: Largest body of a draft.
    """
    router = APIRouter(tags=["labels"], responses=PROBLEM)

    @router.get("/v1/labels")
    async def banks() -> BankList:
        """The banks that can be served here, and which one is."""
        return BankList.of(await desk.listing())

    @router.get("/v1/labels/{ref}")
    async def bank(ref: _Ref) -> BankView:
        """One bank by ref, or by name: its draft, else the current one, else the newest."""
        return BankView.of_kept(await desk.find(ref))

    @router.put("/v1/labels/{name}", openapi_extra=_body(BankBody))
    async def put(name: _Name, request: Request) -> DraftAnswer:
        """Embed a draft. What is served stays until it is published."""
        body = await _read(request, BankBody, max_bytes)
        definition = _fit(BankDefinition, {"name": name, **dict(body)})
        return DraftAnswer.of_put(*await desk.put(definition))

    @router.post("/v1/labels/{ref}/preview")
    async def preview(ref: _Ref) -> PreviewAnswer:
        """What publishing a bank would change, over the frames that were tagged last."""
        return PreviewAnswer.of(*await desk.preview(ref))

    @router.post("/v1/labels/publish", openapi_extra=_body(PublishRequest))
    async def publish(request: Request) -> ReleaseAnswer:
        """Make a bank current. 409 where another has become so since the release you saw."""
        asked = await _read(request, PublishRequest, _SMALL_BYTES)
        return ReleaseAnswer.of(await desk.publish(asked.bank, asked.release))

    @router.post("/v1/labels/rollback", openapi_extra=_body(RollbackRequest))
    async def rollback(request: Request) -> ReleaseAnswer:
        """Make the bank before current again."""
        asked = await _read(request, RollbackRequest, _SMALL_BYTES)
        return ReleaseAnswer.of(await desk.roll_back(asked.release))

    return router


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


async def _read(request: Request, model: type[_Model], max_bytes: int) -> _Model:
    """A JSON body, counted while it comes: it is read whole only where it is small.

    Raises:
        RequestError: It is too large, or does not fit.
    """
    return _fit(model, await read_small(request, max_bytes))


def _fit(model: type[_Model], value: bytes | dict[str, Any]) -> _Model:
    try:
        if isinstance(value, bytes):
            return model.model_validate_json(value)
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found[:8])
        raise RequestError(where, status=422, code="request.schema") from error
