"""Whether this replica lives, and whether it can answer: two questions."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.banks.follower import BankFollower, Following
from deployments.drain import Drain, Draining
from deployments.engine_door import EngineDoor
from deployments.problems import PROBLEM
from reelsight.errors import BankError, EngineError

__all__ = ["Health", "Vitals", "health_routes"]


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


class Vitals:
    """What every door's health routes say of this replica.

    Args:
        engine: Whose progress is life.
        stall_s: Seconds without any that it may take.
        banks: Says where it stands when it does not follow.
        drain: Whether the door is closing.
    """

    def __init__(
        self, engine: EngineDoor, stall_s: float, banks: BankFollower, drain: Drain
    ) -> None:
        self._engine, self._stall_s = engine, stall_s
        self._banks, self._drain = banks, drain

    async def alive(self) -> Health:
        """That the engine makes progress with what it has.

        Raises:
            Wedged: It does not.
        """
        stalled = await self._engine.stalled_s()
        if stalled > self._stall_s:
            raise Wedged(f"the engine has finished nothing for {stalled:.0f} s")
        now = self._banks.following
        return Health(banks=None if now.state == "following" else now)

    async def ready(self) -> Health:
        """That requests are answered.

        Raises:
            Draining: The door is closing.
            BankUnknown: It is not known which bank is current.
            Wedged: As in `alive`.
        """
        if self._drain.begun:
            raise Draining("this replica is closing")
        if self._banks.following.state == "unsure":
            raise BankUnknown(self._banks.following.problem or "the pointer was not read yet")
        return await self.alive()


def health_routes(vitals: Vitals) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz", response_model=Health, response_model_exclude_none=True, responses=PROBLEM
    )
    async def healthz() -> Health:
        """Whether the engine makes progress with what it has."""
        return await vitals.alive()

    @router.get(
        "/readyz", response_model=Health, response_model_exclude_none=True, responses=PROBLEM
    )
    async def readyz() -> Health:
        """Whether requests are answered: the engine is warm before the first of them is heard."""
        return await vitals.ready()

    return router
