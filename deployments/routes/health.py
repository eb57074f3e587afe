"""Whether this replica lives, and whether it can answer: two questions."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.engine_door import EngineDoor
from deployments.problems import PROBLEM
from reelsight.errors import EngineError

__all__ = ["Health", "engine_alive", "health_routes"]


class Health(BaseModel):
    """It is well."""

    status: str = "ok"


class Wedged(EngineError):
    """The engine has work and finishes none of it."""

    code = "engine.wedged"
    http_status = 503
    retryable = True
    hint = "The replica is replaced; try again."


async def engine_alive(engine: EngineDoor, stall_s: float) -> Health:
    """That an engine makes progress with what it has.

    Raises:
        Wedged: It does not.
    """
    stalled = await engine.stalled_s()
    if stalled > stall_s:
        raise Wedged(f"the engine has finished nothing for {stalled:.0f} s")
    return Health()


def health_routes(engine: EngineDoor, stall_s: float) -> APIRouter:
    """The routes over an engine.

    Args:
        engine: Whose progress is life.
        stall_s: Seconds without any that it may take.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=Health, responses=PROBLEM)
    async def healthz() -> Health:
        """Whether the engine makes progress with what it has."""
        return await engine_alive(engine, stall_s)

    @router.get("/readyz", response_model=Health, responses=PROBLEM)
    async def readyz() -> Health:
        """Whether requests are answered: the engine is warm before the first of them is heard."""
        return await healthz()

    return router
