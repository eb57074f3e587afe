"""Pickers: which of the frames that come by are taken, each with the time that it stands for.

One picker sees the frames of one clip once, in display order. It holds at most one frame. Scaling,
limits and errors are somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from av import VideoFrame

from reelsight.media.sampler import Sampling, target_count, target_times
from reelsight.media.scene import Signature, change, signature

__all__ = [
    "KeyPicker",
    "MomentPicker",
    "Pick",
    "Picker",
    "ScenePicker",
    "TimePicker",
    "picker_for",
]


class Pick(NamedTuple):
    """A frame that is taken.

    Attributes:
        at_s: Seconds of the frame on the clip's clock.
        frame: The picture.
        due_s: The time asked for.
    """

    at_s: float
    frame: VideoFrame
    due_s: float


class Picker(Protocol):
    """What decides.

    Attributes:
        done: Whether no later frame can be taken.
    """

    done: bool

    def see(self, at_s: float, frame: VideoFrame) -> Iterator[Pick]:
        """What this frame's coming decides."""

    def close(self, end_s: float, claimed_s: float) -> Iterator[Pick]:
        """What the end of the frames decides.

        Args:
            end_s: Where the last frame goes off display.
            claimed_s: Where the whole clip ends; beyond end_s when it broke off.
        """

    def asked(self, claimed_s: float) -> int:
        """How many times were asked for in all."""


class TimePicker:
    """The frame on display at each of the times that a sampling asks for.

    Args:
        sampling: A policy whose times do not hang on what is in the clip.
        end_s: Where the clip ends, or None where that is not known yet.
        slack_s: A frame this much late still counts as on time.
    """

    def __init__(self, sampling: Sampling, end_s: float | None, slack_s: float) -> None:
        self.done = False
        self._sampling = sampling
        self._slack_s = slack_s
        self._times = target_times(sampling, end_s)
        self._due = next(self._times)
        self._shown: tuple[float, VideoFrame] | None = None
        self._took = False

    def see(self, at_s: float, frame: VideoFrame) -> Iterator[Pick]:
        """Take what was shown until now for the times that this frame comes too late for."""
        while self._shown is not None and self._due + self._slack_s < at_s:
            self._took = True
            yield Pick(*self._shown, self._due)
            after = next(self._times, None)
            if after is None:
                self.done = True
                return
            self._due = after
        self._shown = at_s, frame

    def close(self, end_s: float, claimed_s: float) -> Iterator[Pick]:
        """The last frame stays on display for the times left, as far as the clip goes."""
        if self._shown is None:
            return
        for time in target_times(self._sampling, claimed_s):
            if self._due <= time and (time < end_s or not self._took):
                self._took = True
                yield Pick(*self._shown, time)

    def asked(self, claimed_s: float) -> int:
        """By the clip's length."""
        return target_count(self._sampling, claimed_s)


class MomentPicker:
    """Frames that are named by their pts, each for the times it was chosen for.

    Args:
        moments: (time asked for, pts of the frame), in seconds, both ascending.
        slack_s: How far a stamp may lie from the pts.
    """

    def __init__(self, moments: list[tuple[float, float]], slack_s: float) -> None:
        self.done = not moments
        self._moments = moments
        self._slack_s = slack_s
        self._next = 0

    def see(self, at_s: float, frame: VideoFrame) -> Iterator[Pick]:
        """Take it once for each of its times; a frame that never came leaves its times out."""
        while self._next < len(self._moments):
            due, pts = self._moments[self._next]
            if pts > at_s + self._slack_s:
                return
            self._next += 1
            if pts >= at_s - self._slack_s:
                yield Pick(at_s, frame, due)
        self.done = True

    def close(self, end_s: float, claimed_s: float) -> Iterator[Pick]:
        """Nothing: what did not come is missing."""
        del end_s, claimed_s
        return iter(())

    def asked(self, claimed_s: float) -> int:
        """As many as were given."""
        del claimed_s
        return len(self._moments)


class KeyPicker:
    """Keyframes by what the decoder calls them: all, or those on display at certain times.

    The first frame of a clip counts as one, since it opens the clip.

    Args:
        sampling: Policy `keyframe`.
        end_s: Where the clip ends, or None where that is not known yet.
        slack_s: A frame this much late still counts as on time.
    """

    def __init__(self, sampling: Sampling, end_s: float | None, slack_s: float) -> None:
        self.done = False
        self._on_time = TimePicker(sampling, end_s, slack_s) if sampling.every_s else None
        self._seen = 0
        self._began = False

    def see(self, at_s: float, frame: VideoFrame) -> Iterator[Pick]:
        """Take or pass on a keyframe; leave the others."""
        if self._began and not frame.key_frame:
            return
        self._began = True
        if self._on_time is None:
            self._seen += 1
            yield Pick(at_s, frame, at_s)
            return
        yield from self._on_time.see(at_s, frame)
        self.done = self._on_time.done

    def close(self, end_s: float, claimed_s: float) -> Iterator[Pick]:
        """The last keyframe serves the times left."""
        return self._on_time.close(end_s, claimed_s) if self._on_time else iter(())

    def asked(self, claimed_s: float) -> int:
        """By the clip's length, or as many as there are."""
        return self._on_time.asked(claimed_s) if self._on_time else self._seen


class ScenePicker:
    """The first frame, the first of each scene, and one wherever none was due for too long.

    A cut lies before a frame that differs from its predecessor by the threshold; where a scene
    fades or moves into another, before one that differs from the last frame taken by half of what
    the threshold leaves of 1 (0.3: 0.65), the minimum gap having gone by. Cuts that come
    sooner than the minimum gap after the last frame taken wait until it has gone by, and one frame
    serves them all. A maximum gap after the last frame taken, the frame on display is taken.

    Args:
        sampling: Policy `scene`.
        whole: Whether every picture comes by. Else a cut may lie anywhere since the predecessor,
            and the time asked for is the earliest that it can be: the predecessor's.
    """

    def __init__(self, sampling: Sampling, whole: bool) -> None:
        self.done = False
        self._sampling = sampling
        self._whole = whole
        self._before: Signature | None = None
        self._taken: Signature | None = None
        self._fade = (1 + sampling.threshold) / 2
        self._shown: tuple[float, VideoFrame] | None = None
        self._taken_s = 0.0
        self._due_from_s = 0.0
        self._cuts: list[float] = []
        self._asked = 0

    def see(self, at_s: float, frame: VideoFrame) -> Iterator[Pick]:
        """Take what went on display too long ago, then this frame if a scene begins with it."""
        after = signature(frame)
        if self._before is None or self._shown is None:
            yield from self._take((at_s, frame), after, [at_s])
        else:
            yield from self._overdue(at_s, self._before)
            if self._is_cut(at_s, after, self._before):
                self._cuts.append(at_s if self._whole else self._shown[0])
            if self._cuts and self._rested(at_s):
                yield from self._take((at_s, frame), after, self._cuts)
        self._before, self._shown = after, (at_s, frame)

    def close(self, end_s: float, claimed_s: float) -> Iterator[Pick]:
        """The last frame serves what is overdue; cuts that still wait keep the frame before."""
        del claimed_s
        if self._before is None or self._shown is None:
            return
        yield from self._overdue(end_s, self._before)
        yield from self._take((self._taken_s, self._shown[1]), self._before, self._cuts)

    def asked(self, claimed_s: float) -> int:
        """The first frame, the cuts, and the times without one."""
        del claimed_s
        return self._asked

    def _is_cut(self, at_s: float, after: Signature, before: Signature) -> bool:
        if change(before, after) >= self._sampling.threshold:
            return True
        if self._taken is None or self._cuts or not self._rested(at_s):
            return False
        return change(self._taken, after) >= self._fade

    def _rested(self, at_s: float) -> bool:
        return at_s - self._taken_s >= self._sampling.min_gap_s

    def _overdue(self, now_s: float, look: Signature) -> Iterator[Pick]:
        while self._shown is not None and self._due_from_s + self._sampling.max_gap_s < now_s:
            due = self._due_from_s + self._sampling.max_gap_s
            already = self._shown[0] <= self._taken_s
            yield from self._take(self._shown, look, [*self._cuts, due])
            if already:
                self._due_from_s = due

    def _take(
        self, shown: tuple[float, VideoFrame], look: Signature, times: list[float]
    ) -> Iterator[Pick]:
        self._asked += len(times)
        self._taken, self._taken_s, self._due_from_s = look, shown[0], shown[0]
        self._cuts = []
        for time in times:
            yield Pick(*shown, time)


def picker_for(sampling: Sampling, end_s: float | None, slack_s: float, whole: bool) -> Picker:
    """The picker of a pass over everything.

    Args:
        sampling: Any policy. `keyframe+fill` takes the frame on display at each time.
        end_s: Where the clip ends, or None where that is not known yet.
        slack_s: A frame this much late still counts as on time.
        whole: Whether every picture will come by.
    """
    if sampling.policy == "scene":
        return ScenePicker(sampling, whole)
    if sampling.policy == "keyframe":
        return KeyPicker(sampling, end_s, slack_s)
    return TimePicker(sampling, end_s, slack_s)
