"""Canary: whether a bank can be served here, found out before a request meets it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deployments.engine_door import EngineDoor
from reelsight.errors import BankError, ReelsightError
from reelsight.nouns.clip import Clip
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Sampled
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import TaggingPlan
from reelsight.steps import report_clip
from reelsight.tagging import Timeline, confidences

__all__ = ["BankRefused", "Canary"]

_CLIP = Clip("canary", "canary:")


class BankRefused(BankError):
    """A bank that cannot be served, whatever it is that it lacks."""

    code = "bank.refused"
    http_status = 422
    hint = "Build the bank again for this model; the one before it is still served."


class Canary:
    """Tags fixed frames with a bank.

    Args:
        engine: Embeds the frames, once.
    """

    def __init__(self, engine: EngineDoor) -> None:
        self._engine = engine
        self._embeddings: npt.NDArray[np.float16] | None = None

    async def warm(self, plan: TaggingPlan) -> None:
        """Embed the frames, if that is not done yet.

        Args:
            plan: Its engine is the door's.

        Raises:
            Overloaded: The engine takes no more now.
            EngineError: It is broken.
        """
        if self._embeddings is None:
            frames = fixed_frames(plan.spec.geometry.size)
            rows = await self._engine.embed(frames, deadline=None)
            self._embeddings = rows.astype(np.float16)

    def check(self, base: TaggingPlan, bank: LabelBank) -> TaggingPlan:
        """The plan with another bank, with which a Report was made; blocks for as long as that.

        Args:
            base: What is done to clips now.
            bank: The other bank.

        Raises:
            BankRefused: No Report can be made with it.
        """
        rows = self._embeddings
        if rows is None:
            raise ValueError("the canary is not warm")
        try:
            plan = replace(base, bank=bank)
            scores = confidences(rows, bank)
            if not np.isfinite(scores).all():
                bad = [
                    bank.labels[i].name for i in np.flatnonzero(~np.isfinite(scores).all(axis=0))
                ]
                raise BankRefused(f"the confidences of {bad[:4]} are not finite")
            seconds = np.arange(len(rows), dtype=np.float64)
            sampled = Sampled("canary", len(rows), len(rows), 0.0)
            timeline = Timeline(seconds, np.ones(len(rows)), sampled)
            # Hashes the bank: the provenance is kept by the plan and costs requests nothing.
            report = report_clip(_CLIP, plan, {}, timeline=timeline, embeddings=rows, failure=None)
            reports_to_table([report], plan.spec.dim)
        except BankRefused:
            raise
        except ReelsightError as error:
            raise BankRefused(error.message, code=error.code, hint=error.hint) from error
        except Exception as error:  # Boundary: whatever a bank's content leads to, it is refused.
            raise BankRefused(f"{type(error).__name__}: {error}") from error
        return plan


def fixed_frames(size: int) -> npt.NDArray[np.uint8]:
    """Four frames, the same everywhere: grey, a ramp, squares and noise; uint8 [4, S, S, 3]."""
    grey = np.full((size, size), 128, dtype=np.uint8)
    ramp = np.linspace(0, 255, size).astype(np.uint8)[None, :].repeat(size, axis=0)
    squares = ((np.indices((size, size)) // 8).sum(axis=0) % 2 * 255).astype(np.uint8)
    noise = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (size, size, 3), np.uint8)
    flat = [plane[..., None].repeat(3, axis=2) for plane in (grey, ramp, squares)]
    return np.stack([*flat, noise])
