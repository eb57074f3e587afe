"""The two steps around the engine, for one clip: bytes to frames, and embeddings to a Report.

Both doors and the runner without Ray call exactly these. A clip's failure ends here as a value:
what is raised by one clip's bytes never reaches its neighbours. They know nothing of Ray or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reelsight.errors import FetchError, RunError
from reelsight.media.decoder import Decoder
from reelsight.media.fetch import fetch
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark_reading import MarkReading
from reelsight.nouns.report import Failure, Rechecked, Report, Sampled
from reelsight.plan import ClipPlan, TaggingPlan
from reelsight.tagging import Timeline, dead_report, tagged_report

__all__ = ["ClipRequest", "LoadedClip", "load_clip", "report_clip", "timeline_of"]


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """One manifest row: what to look at, and what to carry along."""

    clip_id: str
    uri: str | None
    carried: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedClip:
    """A clip after decode: frames, or the reason why there are none.

    Attributes:
        clip: The clip, as far as it is known.
        frames: Its sampled frames; None when it failed.
        failure: Why it failed; None when it did not.
        beside: The frames of the plan's second look, or why there are none; None where it has none,
            and where the first look failed.
        fetch_s: Seconds spent on getting its bytes.
        decode_s: Seconds spent on decoding and scaling.
    """

    clip: Clip
    frames: Frames | None
    failure: Failure | None
    fetch_s: float
    decode_s: float
    beside: Frames | Failure | None = None


def load_clip(
    request: ClipRequest,
    plan: ClipPlan,
    decoder: Decoder,
    read: Callable[[str, MediaLimits], bytes] = fetch,
) -> LoadedClip:
    """Fetch, probe, sample and decode one clip; never raises for what the clip is.

    Args:
        request: The clip.
        plan: What to do to it.
        decoder: What decodes.
        read: Gives the bytes behind a uri, within the limits.

    Raises:
        RunError: This machine cannot decode any clip.
    """
    clip = Clip(request.clip_id, request.uri or "")
    data: bytes | None = None
    frames: Frames | None = None
    failure: Failure | None = None
    beside: Frames | Failure | None = None
    started = fetched = time.perf_counter()
    attempts = [1]
    try:
        if not request.uri:
            raise FetchError("the manifest names no uri", code="fetch.no_uri")
        data = read(request.uri, plan.limits)
        fetched = time.perf_counter()
        named = _Named(request.clip_id, request.uri, data)
        clip, frames, beside = _decoded(named, plan, decoder, attempts.append)
    except RunError:
        raise
    except Exception as error:  # Boundary: one clip's bytes must not end its neighbours.
        failure = replace(Failure.of(error), attempts=attempts[-1])
        if data is not None:
            clip = Clip.of_bytes(clip.clip_id, clip.uri, data)
    finished = time.perf_counter()
    if failure is not None and failure.stage == "fetch":
        fetched = finished
    return LoadedClip(clip, frames, failure, fetched - started, finished - fetched, beside)


class _Named(NamedTuple):
    """A clip's bytes and what they are called."""

    clip_id: str
    uri: str
    data: bytes


def _decoded(
    named: _Named, plan: ClipPlan, decoder: Decoder, attempted: Callable[[int], None]
) -> tuple[Clip, Frames, Frames | Failure | None]:
    """The frames of the plan's first look, and of its second one where there is one.

    A pass that serves both may fail by either. Then each is decoded by itself, so that what comes
    of the first never hangs on whether there is a second.
    """
    first, *others = plan.looks
    if others and (shared := _shared(named, plan, decoder)) is not None:
        return shared
    clip, frames = decoder.decode(*named, first.sampling, first.geometry, plan.limits, attempted)
    return clip, frames, _beside(named, others[0], plan, decoder) if others else None


def _shared(
    named: _Named, plan: ClipPlan, decoder: Decoder
) -> tuple[Clip, Frames, Frames | None] | None:
    try:
        clip, (frames, beside) = decoder.decode_together(*named, plan.looks, plan.limits)
    except RunError:
        raise
    except Exception:  # Boundary: as in load_clip; the passes of their own say what it was.
        return None
    return clip, frames, beside


def _beside(named: _Named, look: Look, plan: ClipPlan, decoder: Decoder) -> Frames | Failure:
    attempts = [1]
    try:
        return decoder.decode(*named, look.sampling, look.geometry, plan.limits, attempts.append)[1]
    except RunError:
        raise
    except Exception as error:  # Boundary: as in load_clip.
        return replace(Failure.of(error), attempts=attempts[-1])


def timeline_of(frames: Frames) -> Timeline:
    """What is kept of frames when their pixels have gone to the engine."""
    sampled = Sampled(
        policy=frames.policy,
        asked=frames.asked,
        returned=frames.returned,
        max_error_s=frames.max_error_s,
        partial=frames.stopped,
    )
    return Timeline(frames.pts, frames.weights, sampled)


def report_clip(
    clip: Clip,
    plan: TaggingPlan,
    carried: dict[str, Any],
    *,
    timeline: Timeline | None,
    embeddings: npt.NDArray[np.float16] | None,
    failure: Failure | None,
    rechecked: Rechecked | None = None,
    marks: MarkReading | None = None,
) -> Report:
    """The Report of one clip: tagged from its embeddings, or dead for its failure.

    Args:
        clip: The clip.
        plan: What was done to it.
        carried: Further manifest columns.
        timeline: When its N frames were sampled.
        embeddings: float16 [N, D].
        failure: Why there are no embeddings.
        rechecked: Which of them are a second engine's, and why.
        marks: What was read of marks; a dead clip has none.
    """
    if failure is None and timeline is not None and embeddings is not None:
        report = tagged_report(
            clip,
            timeline,
            embeddings,
            bank=plan.bank,
            provenance=plan.provenance,
            carried=carried,
            rechecked=rechecked,
        )
        return report if marks is None else replace(report, marks=marks)
    if failure is None:
        raise ValueError(f"clip {clip.clip_id!r} has neither embeddings nor a failure")
    return dead_report(clip, failure, provenance=plan.provenance, carried=carried)
