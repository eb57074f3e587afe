"""The parts of a replica put together in one process, and taken apart again."""

from __future__ import annotations

import os

from deployments.banks.live import LiveBanks
from deployments.banks.recent import FrameSample, RecentFrames
from deployments.critical import Recheck
from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor, HostDoor
from deployments.service import TaggingService
from deployments.turns import Turns
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
        self._plan, self._settings, self._engine = plan, settings, engine
        width = settings.serve.decoders or len(os.sched_getaffinity(0))
        turns = Turns.shared(width, settings.serve.job_share)
        decoder = open_decoder(plan.decoding, plan.sampling, turns.width)
        self._lane = DecodeLane(decoder, turns, settings.serve.max_waiting_clips)
        self.recent = RecentFrames(settings.serve.banks.preview_frames, plan.spec.dim)
        self.service = TaggingService(plan, self._lane, engine, self.recent, recheck)

    def banks(self, recipe: EngineRecipe) -> LiveBanks:
        """Live banks of which this service takes each that is released."""

        async def recent() -> FrameSample:
            return self.recent.sample()

        return LiveBanks(
            recipe, self._plan, self._settings, self._engine, use=self.service.use, recent=recent
        )

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
