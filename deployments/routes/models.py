"""GET /v1/models: which engine answers, and with which labels."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.problems import PROBLEM
from deployments.routes.marks import MarkDoor
from deployments.schemas import ModelFacts
from deployments.service import Tagger
from reelsight.errors import RequestError
from reelsight.plan import ScanPlan, TaggingPlan

__all__ = ["model_routes"]


class ModelList(BaseModel):
    """Every model that answers here."""

    object: Literal["list"] = "list"
    data: list[ModelFacts]


def model_routes(tagger: Tagger, marks: MarkDoor | None = None) -> APIRouter:
    """The routes over a tagger, and over what reads marks."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", response_model=ModelList, responses=PROBLEM)
    async def models() -> ModelList:
        """The models that answer here."""
        return ModelList(data=listed())

    @router.get("/v1/models/{model_id:path}", response_model=ModelFacts, responses=PROBLEM)
    async def model(model_id: str) -> ModelFacts:
        """One of them."""
        there = listed()
        for found in there:
            if model_id == found.id:
                return found
        raise RequestError(
            f"no model {model_id!r}; there is {' and '.join(repr(f.id) for f in there)}",
            status=404,
            code="request.no_model",
            hint="See GET /v1/models.",
        )

    def listed() -> list[ModelFacts]:
        own = [facts(tagger.plan)]
        return own if marks is None else [*own, _mark_facts(marks.reader.plan)]

    return router


def _mark_facts(plan: ScanPlan) -> ModelFacts:
    spec = plan.marks.spec
    return ModelFacts(
        id=spec.model,
        model_hash=spec.model_hash,
        engine=plan.marks.engine,
        engine_hash=spec.hash,
        precision=spec.precision,
        dim=spec.dim,
        size=spec.geometry.size,
        buckets=list(spec.buckets),
        bank="",
        bank_hash="",
        labels=0,
        reads="marks",
    )


def facts(plan: TaggingPlan) -> ModelFacts:
    """What a plan says of its model."""
    spec, made = plan.spec, plan.provenance
    return ModelFacts(
        id=spec.model,
        model_hash=spec.model_hash,
        engine=made.engine,
        engine_hash=spec.hash,
        precision=spec.precision,
        dim=spec.dim,
        size=spec.geometry.size,
        buckets=list(spec.buckets),
        bank=made.bank,
        bank_hash=made.bank_hash,
        labels=len(plan.bank),
    )
