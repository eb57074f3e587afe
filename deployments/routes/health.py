"""Whether this replica lives, and whether it can answer: two questions."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.banks.follower import BankFollower, Following
from deployments.drain import Drain, Draining
from deployments.engine_door import EngineDoor
from deployments.problems import PROBLEM
from reelsight.errors import BankError, EngineError

__all__ = ["health_routes"]


class Health(BaseModel):
    """It is well; what is not, but does not keep it from answering, is said beside."""

    status: str = "ok"
    banks: Following | None = None


class Wedged(EngineError):
    """The engine has work and finishes none of it."""

    code = "engine.wedged"
    http_status = 503
    retryable = True
    hint = "The replica is replaced; try again."


class BankUnknown(BankError):
    """This replica has not been able to find out which bank is current."""

    code = "bank.unknown"
    http_status = 503
    retryable = True
    hint = "It looks again by itself; check the path or the Redis of serve.bank_pointer."


def health_routes(
    engine: EngineDoor, stall_s: float, banks: BankFollower, drain: Drain | None = None
) -> APIRouter:
    """The routes over an engine.

    Args:
        engine: Whose progress is life.
        stall_s: Seconds without any that it may take.
        banks: Says where it stands when it does not follow.
        drain: Whether the door is closing.
    """
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz", response_model=Health, response_model_exclude_none=True, responses=PROBLEM
    )
    async def healthz() -> Health:
        """Whether the engine makes progress with what it has."""
        stalled = await engine.stalled_s()
        if stalled > stall_s:
            raise Wedged(f"the engine has finished nothing for {stalled:.0f} s")
        now = banks.following
        return Health(banks=None if now.state == "following" else now)

    @router.get(
        "/readyz", response_model=Health, response_model_exclude_none=True, responses=PROBLEM
    )
    async def readyz() -> Health:
        """Whether requests are answered: the engine is warm before the first of them is heard."""
        if drain is not None and drain.begun:
            raise Draining("this replica is closing")
        if banks.following.state == "unsure":
            raise BankUnknown(banks.following.problem or "the pointer was not read yet")
        return await healthz()

    return router
