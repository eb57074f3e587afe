"""The parts of a replica put together in one process, and taken apart again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

from deployments.banks.live import LiveBanks
from deployments.banks.recent import FrameSample, RecentFrames
from deployments.critical import Recheck
from deployments.decode_lane import DecodeLane
from deployments.embedding import EmbeddingService
from deployments.engine_door import EngineDoor, HostDoor
from deployments.marks.reading import MarkReadingService
from deployments.meters import Meters
from deployments.pace import Pace
from deployments.service import TaggingService
from deployments.text_lane import TextLane
from deployments.turns import Turns
from reelsight.engine import EngineHost, EngineRecipe, EngineWorker, MarkRecipe, TextTower
from reelsight.media.decoder import open_decoder
from reelsight.plan import ScanPlan, TaggingPlan
from reelsight.settings import Settings

__all__ = ["Assembly", "OwnEngine", "opened_once", "watch_host"]


class Assembly:
    """Services that decode in this process's children and read texts on a thread of it.

    Args:
        plan: What is done to a clip.
        settings: Bounds.
        engine: Where frames are embedded; closed by its owner.
        open_text: Makes the model's text tower.
        meters: Count.
        recheck: Decides critical labels near their thresholds, if anything does.

    Raises:
        ReelsightError: A decoder or the text tower cannot be opened here.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        settings: Settings,
        engine: EngineDoor,
        open_text: Callable[[], TextTower],
        meters: Meters,
        recheck: Recheck | None = None,
    ) -> None:
        self._plan, self._settings, self._engine = plan, settings, engine
        serve = settings.serve
        width = serve.decoders or len(os.sched_getaffinity(0))
        with ExitStack() as undo:
            turns = Turns.shared(width, serve.job_share)
            decoder = open_decoder(plan.decoding, plan.sampling, turns.width)
            lane = DecodeLane(decoder, turns, serve.max_waiting_clips, meters)
            undo.callback(lane.close)
            meters.watch("reelsight_waiting_clips", "Clips that wait.", lambda: lane.waiting)
            texts = None
            if serve.embeddings.text:
                texts = TextLane(open_text, serve.embeddings.max_waiting_texts, meters)
                undo.callback(texts.close)
            self._undo = undo.pop_all()
        self.recent = RecentFrames(serve.banks.preview_frames, plan.spec.dim)
        self._lane = lane
        pace = Pace(lane.width, serve.max_wait_s)
        self.service = TaggingService(plan, lane, engine, self.recent, recheck, meters, pace)
        self.embedding = EmbeddingService(lambda: self.service.plan, lane, engine, texts)

    def banks(self, recipe: EngineRecipe) -> LiveBanks:
        """Live banks of which this service takes each that is released."""

        async def recent() -> FrameSample:
            return self.recent.sample()

        return LiveBanks(
            recipe, self._plan, self._settings, self._engine, use=self.service.use, recent=recent
        )

    def mark_reader(self, plan: ScanPlan, engine: EngineDoor) -> MarkReadingService:
        """What reads marks, in the same lane as everything else that is decoded here."""
        return MarkReadingService(plan, self._lane, engine)

    def close(self) -> None:
        """Wait for what is decoded, end the children and the text tower's thread."""
        self._undo.close()


def opened_once(open_text: Callable[[], TextTower]) -> Callable[[], TextTower]:
    """What opens one tower for all who ask in this process: a TextTower is shared by threads."""
    lock = threading.Lock()
    opened: list[TextTower] = []

    def one() -> TextTower:
        with lock:
            if not opened:
                opened.append(open_text())
            return opened[0]

    return one


def watch_host(meters: Meters, host: EngineHost) -> None:
    """Let the meters tell what waits for an engine, and whether it moves."""
    meters.watch("reelsight_waiting_frames", "Frames that wait.", lambda: host.queued_frames)
    meters.watch(
        "reelsight_engine_stalled_seconds",
        "Since a busy engine last finished something.",
        lambda: host.stalled_s,
    )


class OwnEngine(HostDoor):
    """An engine in this process, warm.

    Args:
        recipe: Which.
        settings: Bounds.
        meters: Count.

    Raises:
        EngineError: It cannot be opened here.
    """

    def __init__(
        self, recipe: EngineRecipe | MarkRecipe, settings: Settings, meters: Meters
    ) -> None:
        self._worker = EngineWorker(
            recipe.open_engine,
            recipe.spec,
            max_queued_frames=settings.engine.max_queued_frames,
            observer=meters,
        )
        watch_host(meters, self._worker.host)
        super().__init__(self._worker.host)

    def close(self) -> None:
        """Close the engine."""
        self._worker.close()
