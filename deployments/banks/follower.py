"""BankFollower: keeps one replica on the bank that the pointer names.

States of a replica:
    unsure     the pointer was never read; it serves the bank of the settings and is not ready
    following  it serves what the pointer names
    behind     the pointer names a bank that is not here yet, or cannot be read now, or the engine
               is too busy for the canary; it serves what it served, and looks again
    refusing   the canary refused what the pointer names; it serves what it served until another
               release is current

A swap is one assignment between two requests: those under way keep the plan that they began with.
Ways to end: killed between any two steps, it starts unsure and looks before the first request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from deployments.banks.canary import BankRefused, Canary
from reelsight.errors import BankError, ReelsightError
from reelsight.labels import BankPointer, BankRef, BankShelf, BankState
from reelsight.plan import TaggingPlan

__all__ = ["BankFollower", "Following"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Following:
    """Where a replica stands.

    Attributes:
        state: As above.
        release: The release that is served; 0 for the bank of the settings.
        bank: Name of the bank that is served.
        bank_hash: Its sha256 (hex).
        swaps: Banks that were swapped in since the replica started.
        problem: Why it is not following, else None.
        code: Of the problem.
    """

    state: Literal["unsure", "following", "behind", "refusing"]
    release: int
    bank: str
    bank_hash: str
    swaps: int = 0
    problem: str | None = None
    code: str | None = None


class BankFollower:
    """Follows a pointer. It belongs to one event loop.

    Args:
        pointer: Names the bank.
        shelf: Holds it.
        base: The plan with the bank of the settings.
        canary: Checks it.
        use: Takes the plan with it.
        poll_s: Seconds between two looks.
    """

    def __init__(
        self,
        pointer: BankPointer,
        shelf: BankShelf,
        base: TaggingPlan,
        canary: Canary,
        use: Callable[[TaggingPlan], None],
        poll_s: float,
    ) -> None:
        self._pointer, self._shelf, self._base = pointer, shelf, base
        self._canary, self._use, self._poll_s = canary, use, poll_s
        self._looking = asyncio.Lock()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._refused: int | None = None
        self._served: BankRef | None = None
        self._own = BankRef(base.bank.name, base.provenance.bank_hash)
        self.following = Following("unsure", 0, self._own.name, self._own.hash)

    def start(self) -> None:
        """Look now and from time to time, until `stop`; called within the loop."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def looked(self) -> None:
        """Wait until the pointer was looked at once, whatever came of it."""
        await self._looked.wait()

    async def look(self) -> Following:
        """Look now; what is named is served when this returns, or `following` says why not."""
        async with self._looking:
            try:
                state = await asyncio.to_thread(self._pointer.read)
                if state.release != self._refused:
                    await self._move_to(state)
            except BankRefused as error:
                self._refused = state.release
                self._say("refusing", error)
            except ReelsightError as error:
                self._fall_behind(error)
            finally:
                self._looked.set()
        return self.following

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # Boundary: a replica that follows no more must not be.
                _log.exception("a look at the banks met a bug")
                self._fall_behind(BankError(repr(error), code="internal.unexpected"))
            await asyncio.sleep(self._poll_s)

    async def _move_to(self, state: BankState) -> None:
        ref, swaps = state.current, self.following.swaps
        if self.following.release and not state.release:
            # An empty pointer is no order to serve what was served long ago, nor is one that has
            # been empty and has got a draft since.
            raise BankError("the pointer has lost its state", code="bank.pointer_lost")
        if ref != self._served:
            plan = self._base
            if ref is not None:
                await self._canary.warm(self._base)
                bank = await asyncio.to_thread(self._shelf.get, ref)
                plan = await asyncio.to_thread(self._canary.check, self._base, bank)
            self._use(plan)
            self._served = ref
            swaps += 1
            _log.info("release %d: bank %s", state.release, ref or self._own)
        self._refused = None
        served = ref or self._own
        self.following = Following("following", state.release, served.name, served.hash, swaps)

    def _fall_behind(self, error: ReelsightError) -> None:
        """Go on with what is served; a replica that never knew what to serve is none the wiser."""
        self._say("unsure" if self.following.state == "unsure" else "behind", error)

    def _say(self, state: Literal["unsure", "behind", "refusing"], error: ReelsightError) -> None:
        told = replace(self.following, state=state, problem=error.message, code=error.code)
        if told != self.following:
            _log.warning("bank not followed: %s: %s", error.code, error.message)
        self.following = told
