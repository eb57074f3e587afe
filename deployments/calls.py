"""Calls: one request to whichever replica of a deployment takes it, and what a death makes of it.

What replicas are asked is pure: a clip to its Report, frames to embeddings. So a call whose replica
is lost is made once more, of another one, within its deadline. States of a call:

    waiting   no replica has it. Serve gives it to one that lives, or to the next that comes. After
              `wait_s` it is refused (NoReplica); a patient one, a job's, waits for its deadline
    taken     answered, by a result or a typed error: the end. Its replica is lost: again
    again     as waiting and taken, with what is left of the deadline. Whatever now keeps it from an
              answer, a second loss, no replica or the deadline, is ReplicaLost
    unheard   the deadline has passed, or nobody waits: it is cancelled where it is

Who dies when, in `split`:

    media, with a clip     the ingress asks another one; what an engine has of it is for nobody
    engine, with frames    the media replica asks another one; the clip is not decoded again
    engines, one by one    the media replica answers ReplicaLost. This is an answer: the ingress
                           asks no other one, so a request that kills engines has two
    ingress                is Serve's proxy's to tell, and its jobs' leases': see `jobs.store`

A replica that dies before Serve knows that it has taken the call is Serve's to replace: that is no
loss here. What is not pure stays where it is asked from: a key's bill is settled, and a job's
attempt counted, by the one answer that came.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import ActorDiedError, NodeDiedError, ObjectLostError, RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.lost import NoReplica, ReplicaLost
from deployments.meters import Meters
from reelsight.errors import Overloaded, ReelsightError, first_line

__all__ = ["FULL", "Calls"]

FULL = "decode.overloaded"
# Beside the deadline, so that a replica that keeps it answers first.
_GRACE_S = 0.25
# Until the router has heard of a death that its caller has heard of.
_HEARD_S = 0.02
_log = logging.getLogger(__name__)

Arguments = Callable[[float | None], tuple[Any, ...]]


class Calls:
    """Asks the replicas of one deployment.

    Args:
        handle: Of the deployment.
        wait_s: Longest wait, in seconds, for a replica that takes a call.
        meters: Count what is asked again.
    """

    def __init__(self, handle: DeploymentHandle, wait_s: float, meters: Meters) -> None:
        # Ray carries them, whatever their size. RAY_SERVE_THROUGHPUT_OPTIMIZED sends calls by gRPC,
        # whose servers and clients take 4 MB: a short clip, or 27 frames.
        self._handle = handle.options(_by_reference=True)
        self._name = handle.deployment_name
        self._wait_s, self._meters = wait_s, meters

    async def ask(
        self,
        method: str,
        arguments: Arguments,
        *,
        deadline: float | None,
        patient: bool = False,
    ) -> Any:
        """What a replica answers; an error that it answers is raised.

        Args:
            method: Of the replica.
            arguments: Made for each try, of the seconds that it has; None for ever.
            deadline: time.monotonic() after which nobody waits for the answer; None for never. A
                replica keeps it by itself: this one is for those that are not there, or hang.
            patient: Whether it waits for a replica until then. Without a deadline it always does.

        Raises:
            NoReplica: None took it.
            ReplicaLost: Two were lost with it, or one and there is no other.
            Overloaded: `decode.overloaded` or `request.deadline`.
            ReelsightError: What the replica answered.
        """
        dead: set[str] = set()
        loss: _Lost | None = None
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            try:
                return await self._once(method, arguments(left_s), left_s, patient)
            except _Lost as error:
                if error.actor in dead:  # The router did not know yet: nothing of it was run.
                    await asyncio.sleep(_HEARD_S)
                    continue
                late = deadline is not None and time.monotonic() >= deadline
                if loss is not None or late:
                    _log.warning("%s lost a request for good: %s", self._name, error)
                    raise ReplicaLost(f"a replica of {self._name} was lost with it") from error
                loss = error
            except _Unanswered as error:
                if loss is None:
                    raise error.told from error.__cause__
                raise ReplicaLost(
                    f"a replica of {self._name} was lost with it, and no other answered in time"
                ) from error
            if loss.actor is not None:
                dead.add(loss.actor)
            self._meters.asked_again(self._name)
            _log.warning("%s lost a request, another replica is asked: %s", self._name, loss)

    async def _once(
        self, method: str, arguments: tuple[Any, ...], left_s: float | None, patient: bool
    ) -> Any:
        """One try.

        Raises:
            _Lost: The replica that had it is gone.
            _Unanswered: No replica had it, or none answered.
            ReelsightError: As in `ask`.
        """
        response: DeploymentResponse = getattr(self._handle, method).remote(*arguments)
        whole = asyncio.timeout(None if left_s is None else max(0.0, left_s) + _GRACE_S)
        waiting = asyncio.timeout(None if patient or left_s is None else self._wait_s)
        try:
            async with whole:
                async with waiting:
                    # The public word for it reports its use to the cluster at each call.
                    await response._fetch_future_result_async()
                answer = await response
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # The replica ended it, not who waits here.
                raise _Lost("it has let go of it", None) from error
            # Serve does not tell the replica that nobody waits any more.
            response.cancel()
            raise
        except BackPressureError as error:
            raise Overloaded(f"too many requests wait for {self._name}", code=FULL) from error
        except DeploymentUnavailableError as error:
            raise _Unanswered(NoReplica(f"{self._name} has no replica that starts")) from error
        except (RayActorError, ObjectLostError, NodeDiedError) as error:
            # An actor that is only out of reach may be asked again, and does live perhaps.
            actor = error.actor_id if isinstance(error, ActorDiedError) else None
            raise _Lost(first_line(error), actor) from error
        except TimeoutError:
            response.cancel()
            if waiting.expired() and not whole.expired():
                told: Overloaded = NoReplica(
                    f"no replica of {self._name} took it in {self._wait_s:g} s"
                )
            else:
                told = Overloaded("no replica answered in time", code="request.deadline")
            raise _Unanswered(told) from None
        if isinstance(answer, ReelsightError):
            raise answer
        return answer


class _Lost(Exception):
    """Of one try: the replica that had it is gone.

    Attributes:
        actor: Ray's name of it (hex), where it is certain that it is dead.
    """

    def __init__(self, why: str, actor: str | None) -> None:
        super().__init__(why)
        self.actor = actor


class _Unanswered(Exception):
    """Of one try: nobody had it, or answered it.

    Attributes:
        told: What it is, where no replica was lost before.
    """

    def __init__(self, told: Overloaded) -> None:
        super().__init__(told.message)
        self.told = told
