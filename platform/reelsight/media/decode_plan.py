"""What sampling a clip will cost, from its packets alone: pictures, bytes, restarts, error.

Nothing is decoded here, and nothing is chosen: whoever wants the cheapest plan compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.packet_index import PacketIndex, Untold, read_index
from reelsight.media.sampler import Sampling
from reelsight.media.shortcut import Shortcut, shortcut_through
from reelsight.media.timeline import slack_s

__all__ = ["IndexSummary", "Plan", "Survey", "survey"]

# What decoding without the loop filter costs, measured on H.264 and HEVC (0.57 to 0.8); decoders of
# the other codecs have no such switch, or ours do not listen to it.
_NO_LOOP_FILTER = {"h264": 0.65, "hevc": 0.8}


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """The packets of a clip in a few numbers.

    Attributes:
        pictures: Coded pictures.
        size_bytes: Their bytes.
        end_s: Seconds from the first frame on display to the clip's end.
        keyframes: Pictures that the container calls keyframes.
        fresh_starts: Keyframes at which the decoder forgets all that came before.
        unreferenced: Pictures that no other refers to; 0 where the stream does not tell.
        longest_gap_s: Longest time without a keyframe, the clip's end included.
    """

    pictures: int
    size_bytes: int
    end_s: float
    keyframes: int
    fresh_starts: int
    unreferenced: int
    longest_gap_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one sampling of one clip is expected to do.

    Attributes:
        sampling: Its name, such as `rate:1@fast`.
        asked: Times asked for; None where only the pictures tell (policy `scene`).
        returned: Frames that will come; None likewise.
        pictures: Coded pictures that will be decoded.
        size_bytes: Their bytes.
        restarts: How often the decoder is emptied to go on at a later picture.
        cost: Expected CPU time relative to decoding the whole clip exactly: the mean of the shares
            of pictures and of bytes, times what leaving out the loop filter saves. A guide to
            compare plans by, not a measurement.
        max_error_s: Largest distance between a time asked for and its frame; for `scene` the most
            that it can be.
        whole: Why the clip is decoded from its beginning without a shortcut; empty where it is not.
    """

    sampling: str
    asked: int | None
    returned: int | None
    pictures: int
    size_bytes: int
    restarts: int
    cost: float
    max_error_s: float
    whole: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """A clip's packets, and a plan for each sampling that was asked about.

    Attributes:
        index: None where the packets do not tell enough to plan.
        untold: Why they do not; empty where they do.
        plans: As many as samplings, in their order; none where the packets do not tell.
    """

    index: IndexSummary | None
    untold: str
    plans: tuple[Plan, ...]


def survey(data: bytes, samplings: Sequence[Sampling], limits: MediaLimits) -> Survey:
    """Read a clip's packets once and plan each sampling.

    Args:
        data: The whole file.
        samplings: What to plan.
        limits: Caps; a sampling over one is planned as it would be refused: the whole way.

    Raises:
        MediaError: As `open_source`.
    """
    with open_source(data, limits) as source:
        index = read_index(source, limits)
        if isinstance(index, Untold):
            return Survey(None, index.reason, ())
        slack = slack_s(source.stream)
        plans = tuple(_plan(index, sampling, limits, slack) for sampling in samplings)
        return Survey(_summary(index), "", plans)


def _summary(index: PacketIndex) -> IndexSummary:
    keys = np.sort(index.seconds(index.stamps[index.keys & index.shown]))
    gaps = np.diff(keys, prepend=0.0, append=index.end_s)
    return IndexSummary(
        pictures=len(index),
        size_bytes=int(index.sizes.sum()),
        end_s=index.end_s,
        keyframes=int(index.keys.sum()),
        fresh_starts=len(index.fresh_starts),
        unreferenced=int((~index.referenced).sum()),
        longest_gap_s=float(gaps.max()),
    )


def _plan(index: PacketIndex, sampling: Sampling, limits: MediaLimits, slack: float) -> Plan:
    if sampling.policy == "scene":
        return _scene_plan(index, sampling)
    shortcut = shortcut_through(index, sampling, limits, slack)
    if shortcut is None:
        whole = _costing(index, sampling, np.ones(len(index), np.bool_))
        return replace(whole, whole="it asks for too much, or the clip has no length")
    where = {int(stamp): i for i, stamp in enumerate(index.stamps)}
    decoded = np.zeros(len(index), np.bool_)
    for step in shortcut.steps:
        at = where[step.packet.pts or 0]
        decoded[at] = step.needed or index.referenced[at]
    plan = _costing(index, sampling, decoded)
    return replace(
        plan,
        asked=len(shortcut.moments),
        returned=len(shortcut.promised),
        restarts=sum(step.restart for step in shortcut.steps),
        max_error_s=_largest_error(index, shortcut),
    )


def _scene_plan(index: PacketIndex, sampling: Sampling) -> Plan:
    """All pictures, or all that others refer to; a cut waits for the gap and for a picture."""
    exact = sampling.accuracy == "exact"
    decoded = np.ones(len(index), np.bool_) if exact else index.referenced
    seen = index.display[decoded[index.display]]
    steps = np.diff(index.seconds(index.stamps[seen]), append=index.end_s)
    error = sampling.min_gap_s + float(steps.max()) * (1 if exact else 2)
    plan = _costing(index, sampling, decoded)
    return replace(plan, max_error_s=error, whole="cuts are found in the pictures")


def _costing(index: PacketIndex, sampling: Sampling, decoded: np.ndarray[tuple[int]]) -> Plan:
    size_bytes, pictures = int(index.sizes[decoded].sum()), int(decoded.sum())
    share = (pictures / len(index) + size_bytes / int(index.sizes.sum())) / 2
    filtered = _NO_LOOP_FILTER.get(index.codec, 1.0) if sampling.accuracy == "fast" else 1.0
    return Plan(str(sampling), None, None, pictures, size_bytes, 0, share * filtered, 0.0)


def _largest_error(index: PacketIndex, shortcut: Shortcut) -> float:
    pts = index.seconds(np.array([moment.pts for moment in shortcut.moments], np.int64))
    return float(np.abs(pts - [moment.asked_s for moment in shortcut.moments]).max())
