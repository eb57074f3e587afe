"""Shortcuts: the same sampled frames from fewer decoded pictures.

The packets of a whole clip tell, without decoding, which pictures serve the times asked for. Coded
pictures that no other refers to are passed over unless they are asked for, and whatever lies before
a picture at which the decoder can start afresh is dropped when nothing of it is asked for. What
comes out is bit for bit what a pass over everything gives. Where the packets do not tell for
certain there is no shortcut, and whoever follows one checks that it gave what it promised.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.media.av1_headers import is_unreferenced, read_sequence
from reelsight.media.container import Source
from reelsight.media.limits import MediaLimits
from reelsight.media.packet_index import PacketIndex, read_index
from reelsight.media.sampler import Sampling, chosen, target_count
from reelsight.media.timeline import slack_s

__all__ = [
    "Moment",
    "Shortcut",
    "Step",
    "find_shortcuts",
    "shortcut_through",
    "shortcuts_through",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One coded picture to give to the decoder.

    Attributes:
        packet: The coded picture.
        restart: Drain and empty the decoder before it.
        needed: False when it matters only if others refer to it.
    """

    packet: Packet[VideoStream]
    restart: bool
    needed: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """One time asked for and the picture that serves it.

    Attributes:
        asked_s: Seconds on the clip's clock.
        pts: Ticks of the picture.
    """

    asked_s: float
    pts: int


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A way through a clip.

    Attributes:
        steps: In decoding order.
        first: Ticks of the first frame on display.
        end: Ticks at which the clip ends.
        moments: Every time asked for, ascending.
    """

    steps: tuple[Step, ...]
    first: int
    end: int
    moments: tuple[Moment, ...]

    @property
    def promised(self) -> tuple[int, ...]:
        """Ticks of the frames that must come out, ascending."""
        return tuple(sorted({moment.pts for moment in self.moments}))


def find_shortcuts(
    source: Source, samplings: Sequence[Sampling], limits: MediaLimits
) -> list[Shortcut] | None:
    """The way through a clip for samplings, or None where only the whole way is certain.

    Reads the source's packets to their end, so the source is spent where None is returned.

    Args:
        source: An open container at its start.
        samplings: Which times are asked for, by each consumer.
        limits: Caps; what is over one is left to the whole way, which says so.

    Returns:
        One Shortcut a sampling: the same steps, each with its own moments.
    """
    if any(sampling.policy == "scene" for sampling in samplings):
        return None
    index = read_index(source, limits)
    if not isinstance(index, PacketIndex):
        return None
    return shortcuts_through(index, samplings, limits, slack_s(source.stream))


def shortcut_through(
    index: PacketIndex, sampling: Sampling, limits: MediaLimits, slack_s: float
) -> Shortcut | None:
    """`shortcuts_through` for one sampling."""
    found = shortcuts_through(index, (sampling,), limits, slack_s)
    return None if found is None else found[0]


def shortcuts_through(
    index: PacketIndex, samplings: Sequence[Sampling], limits: MediaLimits, slack_s: float
) -> list[Shortcut] | None:
    """As `find_shortcuts`, for packets that are read already.

    Args:
        index: The clip's packets.
        samplings: Any policies; `scene` looks at pictures, so it has no shortcut.
        limits: Caps.
        slack_s: Seconds that a stamp may read late.
    """
    order, served = index.display, []
    for sampling in samplings:
        if not _plannable(index, sampling, limits):
            return None
        found = chosen(
            sampling,
            index.seconds(index.stamps[order]),
            _openings(index)[order],
            (index.keys if sampling.accuracy == "exact" else index.referenced)[order],
            index.end_s,
            slack_s,
        )
        served.append([(time, int(order[i])) for time, i in found])
    wanted = sorted({place for found in served for _, place in found})
    steps = tuple(_steps(index, wanted))
    return [
        Shortcut(
            steps,
            index.first,
            index.end,
            tuple(Moment(time, int(index.stamps[place])) for time, place in found),
        )
        for found in served
    ]


def _plannable(index: PacketIndex, sampling: Sampling, limits: MediaLimits) -> bool:
    if sampling.policy == "scene" or not 0 < index.end_s <= limits.max_duration_s:
        return False
    if sampling.policy == "count" or sampling.interval_s is not None:
        return target_count(sampling, index.end_s) <= limits.max_frames
    return int((index.keys & index.shown).sum()) <= limits.max_frames


def _openings(index: PacketIndex) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The keyframes, bool [N], and the first picture on display, which opens the clip."""
    openings = index.keys.copy()
    openings[index.display[0]] = True
    return openings


def _steps(index: PacketIndex, wanted: list[int]) -> Iterator[Step]:
    """Walk in decoding order; jump to the last fresh start before the next wanted picture."""
    packets, passing = index.packets, index.passing
    starts = _clean_starts(index, wanted)
    droppable = _droppable(index)
    at = 0
    for goal in wanted:
        behind = bisect_right(starts, goal)
        start = starts[behind - 1] if behind else 0
        if start > at:
            yield Step(packets[start], restart=True, needed=not passing or start == goal)
            at = start + 1
        for i in range(at, goal + 1):
            if i == goal or not droppable(i):
                yield Step(packets[i], restart=False, needed=not passing or i == goal)
        at = max(at, goal + 1)


def _droppable(index: PacketIndex) -> Callable[[int], bool]:
    """Says of a packet whether the decoder need not even see it.

    FFmpeg's NONREF does not reach the AV1 decoder picture by picture, but AV1 packets can be left
    out one by one: what a picture leaves behind is all in the references that it refreshes.
    """
    sequence = (
        read_sequence(index.packets[0].stream.codec_context.extradata or b"")
        if index.codec == "av1"
        else None
    )
    if sequence is None:
        return lambda i: False
    return lambda i: is_unreferenced(bytes(index.packets[i]), sequence)


def _clean_starts(index: PacketIndex, wanted: list[int]) -> list[int]:
    """Fresh starts that nothing wanted follows in the file and precedes on display."""
    # Sorted lists, because a hostile clip has half a million starts and thousands of wanted ones.
    earliest = np.minimum.accumulate(index.stamps[wanted][::-1])[::-1].tolist()
    stamps = index.stamps.tolist()
    return [
        start
        for start in index.fresh_starts
        if (after := bisect_right(wanted, start)) == len(wanted) or earliest[after] >= stamps[start]
    ]
