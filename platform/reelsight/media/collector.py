"""Collector: keeps, scaled, those frames of a pass over a clip that its picker takes.

Several may watch one pass. It knows times and pictures; how a container is opened and where its end
is written, it is told, and which frames are wanted it asks a picker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.error import FFmpegError

from reelsight.errors import MediaError
from reelsight.media.container import Source
from reelsight.media.limits import MediaLimits, over_limit
from reelsight.media.orientation import orientation_of
from reelsight.media.picker import MomentPicker, Pick, Picker, picker_for
from reelsight.media.pixels import FrameScaler
from reelsight.media.probe import Header, header_of, nothing_decoded
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling, stretches
from reelsight.media.shortcut import Shortcut
from reelsight.media.timeline import claimed_end, slack_s, tick
from reelsight.media.video_stream import check_picture, pixel_aspect
from reelsight.nouns.frames import Frames

__all__ = ["Collector", "collect"]

_CUT_SHORT = "the file ends before the size that its container claims"


class Collector:
    """What was taken of one pass, for which times, and how it ended.

    Args:
        source: An open container at its start.
        reader: Gives its frames.
        sampling: Which times are asked for.
        scaler: How a picture is scaled.
        limits: Caps and the policy on damage.
        end: The clip's end in ticks of the stream, or None where it is not known yet.
        shortcut: The way through the clip, where not all of it is decoded.
        passing: Without a shortcut: leave out what FFmpeg's NONREF does.

    Attributes:
        scaler: As given.
        done: Whether no later frame can be taken.
        header: The clip's facts, after the pass.
        end_s: Seconds: where the frames end on the clip's clock, after the pass.
        claimed_s: Seconds: where the whole clip ends; beyond `end_s` when it broke off.
    """

    header: Header
    _picker: Picker

    def __init__(
        self,
        source: Source,
        reader: FrameReader,
        sampling: Sampling,
        scaler: FrameScaler,
        limits: MediaLimits,
        end: int | None,
        shortcut: Shortcut | None = None,
        passing: bool = False,
    ) -> None:
        self._source = source
        self._sampling = sampling
        self._limits = limits
        self._end = end
        self._shortcut = shortcut
        self._passing = passing
        self._reader = reader
        self.scaler = scaler
        self._sar = pixel_aspect(source.stream)
        self._tick = float(tick(source.stream))
        self._pictures = _Pictures(scaler.geometry.size)
        self._pts: list[float] = []
        self._error_s = 0.0
        self._stopped: str | None = None
        self.done = False
        self.end_s = 0.0
        self.claimed_s = 0.0

    def see(self, at_s: float, frame: VideoFrame) -> None:
        """Look at the next frame of the pass."""
        if not hasattr(self, "header"):
            self._begin(frame)
        for pick in self._picker.see(at_s, frame):
            self._take(pick)
        if self._picker.done:
            self.done = True
            self._finish(ran_out=False)

    def ran_out(self) -> None:
        """The frames are over before the last time asked for had its own.

        Raises:
            MediaError: `media.undecodable`: there were none.
        """
        if not hasattr(self, "header"):
            raise nothing_decoded(self._reader)
        self.done = True
        self._finish(ran_out=True)
        for pick in self._picker.close(self.end_s, self.claimed_s):
            self._take(pick)

    def _begin(self, frame: VideoFrame) -> None:
        """Choose the picker, once the first frame has set the clock."""
        self.header = header_of(self._source, frame)
        if self._end is not None:
            self.end_s = self._seconds(self._end)
            if self.end_s <= 0:
                self.end_s = self._reader.end_s
        slack = slack_s(self._source.stream)
        if self._shortcut is not None:
            moments = [(m.asked_s, self._seconds(m.pts)) for m in self._shortcut.moments]
            self._picker = MomentPicker(moments, slack / 2)
        else:
            end_s = self.end_s or None
            self._picker = picker_for(self._sampling, end_s, slack, not self._passing)
        if self._end is not None:
            self._check_asked(self._picker.asked(self.end_s))

    def _check_asked(self, asked: int) -> None:
        if asked > self._limits.max_frames:
            raise over_limit("frames asked for", asked, self._limits.max_frames, "max_frames")

    def _take(self, pick: Pick) -> None:
        at, frame, due = pick
        self._error_s = max(self._error_s, abs(due - at))
        if self._pts and self._pts[-1] == at:
            return
        self._check_asked(len(self._pts) + 1)
        check_picture(frame.width, frame.height, self._sar, self._limits)
        try:
            out = self._pictures.room()
            self.scaler.scale_into(out, frame, self._sar, orientation_of(frame))
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                f"a {frame.format.name} picture of {frame.width}x{frame.height} cannot be scaled",
                code="media.undecodable",
            ) from error
        self._pts.append(at)

    def _finish(self, ran_out: bool) -> None:
        """Settle the clip's end, and whether it was reached."""
        reached, known = self._reader.end_s, self.end_s
        claim = known or self._seconds(claimed_end(self._source) or 0)
        if ran_out:
            self._stopped = self._reader.stopped
            missing = self._source.cut_short and reached < claim - 1.5 * self._reader.step_s
            if self._stopped is None and missing:
                self._stopped = _CUT_SHORT
        if self._stopped is None:
            self.claimed_s = self.end_s = known or reached
        else:
            self.claimed_s, self.end_s = max(claim, reached), reached

    def _seconds(self, ticks: int) -> float:
        """A stamp of the stream on the clip's clock."""
        return (ticks - (self._reader.first or 0)) * self._tick

    def took(self, seconds: list[float]) -> bool:
        """Whether the frames taken are those of these times, no more and no less."""
        return len(seconds) == len(self._pts) and all(
            abs(a - b) <= 1e-9 for a, b in zip(seconds, self._pts, strict=True)
        )

    def frames(self, clip_id: str) -> Frames:
        """What was taken, as the noun."""
        asked = max(self._picker.asked(self.claimed_s), len(self._pts))
        pts = np.array(self._pts, np.float64)
        return Frames(
            clip_id,
            self.pictures,
            pts,
            starts=stretches(self._sampling, pts),
            end_s=max(self.end_s, self._pts[-1]),
            policy=str(self._sampling),
            asked=asked,
            max_error_s=self._error_s,
            stopped=self._stopped,
        )

    @property
    def pictures(self) -> npt.NDArray[np.uint8]:
        """uint8 [N, size, size, 3]: what was taken, as it is kept here."""
        return self._pictures.taken(len(self._pts))


def collect(reader: FrameReader, collectors: Sequence[Collector]) -> None:
    """Decode until the last time that any of them asks for has its frame, or the clip is over.

    Raises:
        MediaError: As the reader and the collectors do.
    """
    for at, frame in reader:
        for collector in collectors:
            if not collector.done:
                collector.see(at, frame)
        # The decoder writes the next picture where this one lay, while that is in the cache.
        del frame
        if all(collector.done for collector in collectors):
            return
    for collector in collectors:
        if not collector.done:
            collector.ran_out()


class _Pictures:
    """A growing uint8 [N, size, size, 3] array, doubled when it is full."""

    def __init__(self, size: int) -> None:
        self._array: npt.NDArray[np.uint8] = np.empty((16, size, size, 3), np.uint8)
        self._used = 0

    def room(self) -> npt.NDArray[np.uint8]:
        """The next free picture, uninitialised."""
        if self._used == len(self._array):
            grown = np.empty((2 * self._used, *self._array.shape[1:]), np.uint8)
            grown[: self._used] = self._array
            self._array = grown
        self._used += 1
        room: npt.NDArray[np.uint8] = self._array[self._used - 1]
        return room

    def taken(self, count: int) -> npt.NDArray[np.uint8]:
        """The first `count` pictures, without a copy."""
        return self._array[:count]
