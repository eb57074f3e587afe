"""The parts of a replica put together in one process, and taken apart again."""

from __future__ import annotations

import os

from deployments.banks.recent import RecentFrames
from deployments.critical import Recheck
from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor, HostDoor
from deployments.service import TaggingService
from reelsight.engine import EngineRecipe, EngineWorker
from reelsight.media.decoder import open_decoder
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings

__all__ = ["Assembly", "OwnEngine"]


class Assembly:
    """A tagging service that decodes in this process's children.

    Args:
        plan: What is done to a clip.
        settings: Bounds.
        engine: Where frames are embedded; closed by its owner.
        recheck: Decides critical labels near their thresholds, if anything does.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        settings: Settings,
        engine: EngineDoor,
        recheck: Recheck | None = None,
    ) -> None:
        width = settings.serve.decoders or len(os.sched_getaffinity(0))
        decoder = open_decoder(plan.decoding, plan.sampling, width)
        self._lane = DecodeLane(decoder, width, settings.serve.max_waiting_clips)
        self.recent = RecentFrames(settings.serve.banks.preview_frames, plan.spec.dim)
        self.service = TaggingService(plan, self._lane, engine, self.recent, recheck)

    def close(self) -> None:
        """Wait for what is decoded, and end the children."""
        self._lane.close()


class OwnEngine(HostDoor):
    """An engine in this process, warm.

    Args:
        recipe: Which.
        settings: Bounds.

    Raises:
        EngineError: It cannot be opened here.
    """

    def __init__(self, recipe: EngineRecipe, settings: Settings) -> None:
        self._worker = EngineWorker(
            recipe.open_engine,
            recipe.spec,
            max_queued_frames=settings.engine.max_queued_frames,
        )
        super().__init__(self._worker.host)

    def close(self) -> None:
        """Close the engine."""
        self._worker.close()
