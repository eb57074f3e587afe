"""Real encoders beside the training: processes that encode and decode short clips of luma.

Planes travel through shared memory, a word a clip through queues; an encoder is one thread, so the
processes are the parallelism. Planes are the Y of limited range (16 to 235) that players expect,
chroma is grey. Start the pool before the first use of a GPU: it forks.
"""

from __future__ import annotations

import mmap
import multiprocessing as mp
import os
import queue
import time
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.errors import RunError

__all__ = ["CodecJob", "CodecPool", "Planes", "recode", "recode_pictures"]

Planes = npt.NDArray[np.uint8]
"""Y planes of one clip, limited range, uint8 [frames, side, side]."""

_GREY = 128
_WAIT_S = 60.0
# How soon a process whose owner was killed notices.
_ORPHAN_S = 2.0
_ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "h264", {"x264-params": "log-level=error:threads=1:lookahead-threads=1"}),
    "hevc": (
        "libx265",
        "hevc",
        {"x265-params": "log-level=none:pools=none:frame-threads=1:wpp=0:info=0"},
    ),
}


@dataclass(frozen=True)
class CodecJob:
    """How one clip is encoded.

    Attributes:
        codec: `h264` or `hevc`.
        crf: Constant rate factor.
        preset: Of the encoder.
    """

    codec: str
    crf: int
    preset: str


def recode(planes: Planes, job: CodecJob) -> Planes:
    """Encode and decode one clip of luma, its chroma grey.

    Args:
        planes: Uint8 [frames, height, width]; both sides are even.
        job: How.

    Returns:
        The decoded planes, of the same shape.

    Raises:
        RunError: The decoder gave fewer frames than went in.
    """
    frames, height, width = planes.shape
    pictures = np.full((frames, height * 3 // 2, width), _GREY, np.uint8)
    pictures[:, :height] = planes
    return recode_pictures(pictures, job)[:, :height]


def recode_pictures(pictures: Planes, job: CodecJob) -> Planes:
    """Encode and decode one clip.

    Args:
        pictures: Planar YUV 4:2:0 as PyAV lays it out, uint8 [frames, height * 3 / 2, width].
        job: How.

    Raises:
        RunError: The decoder gave fewer frames than went in.
    """
    import av
    from av.video.frame import VideoFrame

    name, reader, params = _ENCODERS[job.codec]
    frames, rows, width = pictures.shape
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, rows * 2 // 3, "yuv420p"
    encoder.framerate = 24
    encoder.thread_count = 1
    encoder.options = {"crf": str(job.crf), "preset": job.preset, **params}
    decoder: Any = av.CodecContext.create(reader, "r")
    decoder.thread_count = 1
    packets = []
    for index, picture in enumerate(pictures):
        frame = VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [f for packet in packets for f in decoder.decode(packet)]
    decoded += decoder.decode(None)
    if len(decoded) != frames:
        raise RunError(f"{job} gave {len(decoded)} of {frames} frames.")
    decoded.sort(key=lambda f: f.pts)
    return np.stack([f.to_ndarray() for f in decoded])


class CodecPool:
    """Processes that recode clips.

    Args:
        workers: Processes; 0 recodes in the calling one.
        clips: Most clips of a submission.
        frames: Most frames of a clip.
        side: Largest side.

    Attributes:
        clips: Most clips of a submission.
    """

    def __init__(self, workers: int, *, clips: int, frames: int, side: int) -> None:
        self.clips = clips
        self._shape = (clips, frames, side, side)
        self._memory = mmap.mmap(-1, clips * frames * side * side)
        self._waiting: tuple[int, ...] | None = None
        self._left = 0
        self._jobs: list[CodecJob] = []
        context = mp.get_context("fork")
        self._owner = os.getpid()
        self._todo: Any = context.Queue()
        self._done: Any = context.Queue()
        self._processes: list[ForkProcess] = [
            context.Process(target=self._work, daemon=True) for _ in range(workers)
        ]
        for process in self._processes:
            process.start()

    def _views(self, shape: tuple[int, ...]) -> Planes:
        count = int(np.prod(shape))
        return np.frombuffer(self._memory, np.uint8, count).reshape(shape)

    def _work(self) -> None:
        while os.getppid() == self._owner:
            try:
                task = self._todo.get(timeout=_ORPHAN_S)
            except queue.Empty:
                continue
            if task is None:
                return
            index, shape, job = task
            try:
                clip = self._views(shape)[index]
                clip[:] = recode(clip, job)
                problem = None
            # The boundary of the process: whatever it is, the owner raises it.
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            self._done.put(problem)

    @property
    def idle(self) -> bool:
        """Whether nothing was submitted that was not collected."""
        return self._waiting is None

    def submit(self, planes: Planes, jobs: list[CodecJob]) -> None:
        """Begin to recode.

        Args:
            planes: Uint8 [clips, frames, side, side]; copied.
            jobs: One a clip.

        Raises:
            RunError: The last submission was not collected, or this one is too large.
        """
        if not self.idle or planes.size > np.prod(self._shape):
            raise RunError("the codec pool is busy, or the clips are larger than it was made for.")
        self._views(planes.shape)[:] = planes
        self._waiting, self._left, self._jobs = planes.shape, len(jobs), jobs
        for index, job in enumerate(jobs):
            self._todo.put((index, planes.shape, job))

    def ready(self, within: float = 0.0) -> bool:
        """Whether `collect` would not wait, now or after so many seconds."""
        until = time.monotonic() + within
        while self._left:
            try:
                self._take(max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
        return self._waiting is not None and (not self._left or not self._processes)

    def collect(self) -> Planes:
        """Wait for what was submitted.

        Returns:
            A copy of the decoded planes.

        Raises:
            RunError: An encoder failed or was ended, or nothing was submitted.
        """
        if self._waiting is None:
            raise RunError("nothing was submitted to the codec pool.")
        shape = self._waiting
        if not self._processes:
            views = self._views(shape)
            for index, job in enumerate(self._jobs):
                views[index] = recode(views[index], job)
            self._left = 0
        try:
            while self._left:
                self._take(_WAIT_S)
        except queue.Empty:
            raise RunError(f"the encoders gave nothing for {_WAIT_S:.0f} s.") from None
        self._waiting = None
        return self._views(shape).copy()

    def _take(self, within: float) -> None:
        problem = self._done.get(timeout=within)
        self._left -= 1
        if problem is not None:
            raise RunError(f"an encoder failed: {problem}")

    def close(self) -> None:
        """End the processes."""
        for _ in self._processes:
            self._todo.put(None)
        for process in self._processes:
            process.join(timeout=2)
            if process.is_alive():
                process.terminate()
