"""How many frames a caller may have looked at: token buckets, in frames.

A clip's number of frames is known once it is decoded, so a guess is taken before and settled after.
States of a charge: reserved -> settled | refunded | kept (its request ended without a word).
A bucket may be left in debt by a clip that was larger than the guess: nothing more is let in until
it is paid. A process that dies forgets its buckets, which then begin full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import Scope

from reelsight.errors import Overloaded, RequestError
from reelsight.keyring import ApiKey

__all__ = ["CALLER", "Bill", "Caller", "TokenBucket", "TooManyFrames", "charged"]

CALLER = "reelsight.caller"


class TooManyFrames(RequestError):
    """A caller, or all of them together, had more frames looked at than is agreed.

    Args:
        wait_s: Seconds until as many are there.
    """

    retryable = True

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"the frames of this minute are used up; there are more in {wait_s:.1f} s",
            status=429,
            code="quota.frames",
            hint="Wait for Retry-After seconds, sample fewer frames, or ask for a larger quota.",
        )
        self.retry_after_s = wait_s


class TokenBucket:
    """Fills evenly up to one minute's worth. It belongs to one event loop.

    Args:
        per_minute: Tokens.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock, self._at = clock, clock()
        self._tokens = float(per_minute)

    def wait_s(self, tokens: int) -> float:
        """Seconds until so many are there, 0 where they are; a full bucket lets anything in."""
        now = self._clock()
        filled = self._tokens + (now - self._at) * self.per_minute / 60
        self._tokens, self._at = min(float(self.per_minute), filled), now
        return max(0.0, (min(tokens, self.per_minute) - self._tokens) * 60 / self.per_minute)

    def take(self, tokens: int) -> None:
        """Take tokens, into debt where they are not there; a negative number gives back."""
        self.wait_s(0)
        self._tokens = min(float(self.per_minute), self._tokens - tokens)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        key: Its entry; None where no keys are asked for.
        buckets: What its frames are taken from.
    """

    key: ApiKey | None
    buckets: tuple[TokenBucket, ...] = ()

    def require(self, frames: int) -> None:
        """Raises TooManyFrames where a bucket does not hold as many."""
        wait = max((bucket.wait_s(frames) for bucket in self.buckets), default=0.0)
        if wait > 0:
            raise TooManyFrames(wait)


@dataclass(slots=True)
class Bill:
    """What a request has taken, and what it turns out to cost."""

    reserved: int
    _buckets: tuple[TokenBucket, ...] = field(default=())

    @property
    def counted(self) -> bool:
        """Whether anybody pays it."""
        return bool(self._buckets)

    def settle(self, frames: int) -> None:
        """What was looked at; the difference is given back, or taken."""
        for bucket in self._buckets:
            bucket.take(frames - self.reserved)
        self.reserved = frames


@contextmanager
def charged(scope: Scope, frames: int, *, hurried: bool = False) -> Iterator[Bill]:
    """Take frames for a request before they are decoded; the body settles what they were.

    What this service refuses by its own load is given back. A request that ends without settling
    keeps its charge: who hangs up has had the work done.

    Args:
        scope: Of the request; without a caller nothing is counted.
        frames: The guess, >= 0.
        hurried: Whether the client gave it less time than it would have had: a deadline that passes
            is then no fault of this service, which has decoded meanwhile.

    Raises:
        TooManyFrames: They are not there.
    """
    caller: Caller = scope.get(CALLER) or Caller(None)
    caller.require(frames)
    bill = Bill(0, caller.buckets)
    bill.settle(frames)
    try:
        yield bill
    except Exception as error:
        # Whoever raised it is answered by it; here only the tokens are looked after.
        late = isinstance(error, Overloaded) and error.code.endswith(".deadline")
        if getattr(error, "http_status", 500) >= 500 and not (hurried and late):
            bill.settle(0)
        raise
