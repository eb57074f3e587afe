"""SequentialRunner: the whole path in one thread, without Ray.

It is what `reelsight tag` runs, and the yardstick that the other doors are compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from reelsight.copies.worker import looked_at, reading_of
from reelsight.engine.host import EngineHost
from reelsight.errors import EngineError, EngineInputError
from reelsight.media.decoder import open_decoder
from reelsight.nouns.mark_reading import MarkReading
from reelsight.nouns.report import Failure, Report
from reelsight.plan import TaggingPlan
from reelsight.steps import ClipRequest, LoadedClip, load_clip, report_clip, timeline_of

__all__ = ["SequentialRunner"]


class SequentialRunner:
    """Tags clips one after the other; holds the decoder that the plan asks for until it is closed.

    Args:
        plan: What to do to each clip.
        host: The engine of the plan's spec; the caller closes it.
        reader: The extractor of the plan's marks, where it has some; the caller closes it.
    """

    def __init__(
        self, plan: TaggingPlan, host: EngineHost, reader: EngineHost | None = None
    ) -> None:
        wanted = (plan.spec, plan.marks.spec if plan.marks else None)
        given = (host.spec, reader.spec if reader else None)
        if wanted != given:
            raise EngineError(f"the plan wants engines {wanted}, got {given}")
        self._plan, self._reader = plan, reader
        self._host = host
        self._decoder = open_decoder(plan.decoding, plan.sampling)

    def close(self) -> None:
        """Close the decoder; idempotent."""
        self._decoder.close()

    def __enter__(self) -> SequentialRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, requests: Iterable[ClipRequest]) -> Iterator[Report]:
        """One Report a request, in order."""
        return (self.report(request) for request in requests)

    def report(self, request: ClipRequest) -> Report:
        """Tag one clip.

        Raises:
            EngineError: The engine itself is broken; the clip is not to blame.
            RunError: This machine gives no process to decode in.
        """
        loaded = load_clip(request, self._plan, self._decoder)
        timeline = embeddings = None
        failure = loaded.failure
        if loaded.frames is not None:
            timeline = timeline_of(loaded.frames)
            try:
                embeddings = self._host.run(loaded.frames.pixels).astype(np.float16)
            except EngineInputError as error:
                failure = Failure.of(error)
        return report_clip(
            loaded.clip,
            self._plan,
            request.carried,
            timeline=timeline,
            embeddings=embeddings,
            failure=failure,
            marks=self._marks(loaded) if failure is None else None,
        )

    def _marks(self, loaded: LoadedClip) -> MarkReading | None:
        plan, beside = self._plan.marks, loaded.beside
        if plan is None or self._reader is None or beside is None:
            return None
        looked = beside if isinstance(beside, Failure) else looked_at(beside)
        return reading_of(plan, self._reader, loaded.clip, looked)
