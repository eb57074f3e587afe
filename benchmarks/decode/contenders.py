"""The programs that sample a clip: ours, and those of others as a good engineer writes them.

Each takes a path and the times wanted and gives square pictures of 224 pixels, RGB: the shorter
side is scaled to 224 and the centre cut out. Each uses one thread. They differ in their scaling;
each peer uses the way that costs it least without aliasing. Libraries are imported by the
contender that uses them, because each lives in a process of its own.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from benchmarks.decode.shown import Given
from reelsight.errors import MediaError
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry

__all__ = ["CHILD", "CONTENDERS", "EXACT", "OURS", "PEERS", "Contender", "Refused", "absent"]

SIZE = 224
EXACT, CHILD = "exact", "exact, in a child"
# Ours: name and sampling. S stands for the distance of times in seconds, R for its inverse.
OURS = {
    EXACT: "rate:R",
    CHILD: "rate:R",
    "reference": "rate:R@reference",
    "fast": "rate:R@fast",
    "keyframe": "keyframe:S",
    "keyframe+fill": "keyframe+fill:R",
    "scene": "scene",
}


class Refused(Exception):
    """The clip is beyond this contender; str() says why."""


class Contender(Protocol):
    """One way of sampling clips."""

    starts_processes: bool = False

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        """The pictures on display at `times`, as this contender understands it.

        Args:
            path: The clip.
            times: Seconds from the first picture.
            every_s: Distance of the times.

        Raises:
            Refused: It cannot.
        """

    def close(self) -> None:
        """Leave no process behind."""


class Ours:
    """`reelsight.media.decode`, in this process."""

    starts_processes = False

    def __init__(self, sampling: str) -> None:
        self._sampling = sampling
        self._decode: Callable[..., Any] = decode

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        name = self._sampling.replace("R", f"{1 / every_s:g}").replace("S", f"{every_s:g}")
        sampling, data = Sampling.parse(name), path.read_bytes()
        try:
            _, frames = self._decode(
                "c", "c", data, sampling, Geometry(SIZE, "shortest"), MediaLimits()
            )
        except MediaError as error:
            raise Refused(error.message) from error
        return Given(frames.pixels, frames.pts)

    def close(self) -> None:
        pass


class OursInChild(Ours):
    """The same in the child process that may die, as jobs and the service decode."""

    def __init__(self, sampling: str) -> None:
        from reelsight.media.isolation.policy import Isolation
        from reelsight.media.isolation.pool import DecodePool

        super().__init__(sampling)
        self._pool = DecodePool(Isolation(), 1)
        self._decode = self._pool.decode

    def close(self) -> None:
        self._pool.close()


class Decord:
    """decord: frame numbers by its own stamps, one `get_batch`, scaled by its own FFmpeg.

    It wants to be told the size; that is looked up once a clip and not counted.
    """

    starts_processes = False

    def __init__(self) -> None:
        self._decord = importlib.import_module("decord")
        self._sizes: dict[Path, tuple[int, int]] = {}

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        try:
            if path not in self._sizes:
                height, width, _ = self._decord.VideoReader(str(path))[0].shape
                self._sizes[path] = _short_side(width, height)
            width, height = self._sizes[path]
            reader = self._decord.VideoReader(str(path), width=width, height=height, num_threads=1)
            starts = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
            shown = np.searchsorted(starts - starts[0], np.array(times) + 5e-4, side="right") - 1
            pictures = reader.get_batch(np.maximum(shown, 0)).asnumpy()
        except (self._decord.DECORDError, RuntimeError, IndexError) as error:
            raise Refused(_first_line(error)) from error
        return Given(_centre(pictures))

    def close(self) -> None:
        pass


class TorchCodec:
    """torchcodec: `get_frames_played_at` and torch's own antialiased scaling of uint8.

    Its Resize, which FFmpeg does while decoding, costs more on every clip here.
    """

    starts_processes = False

    def __init__(self, seek_mode: str) -> None:
        self._torch = importlib.import_module("torch")
        self._torch.set_num_threads(1)
        self._decoder = importlib.import_module("torchcodec.decoders").VideoDecoder
        self._seek_mode = seek_mode

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        try:
            decoder = self._decoder(
                str(path),
                seek_mode=self._seek_mode,
                num_ffmpeg_threads=1,
                dimension_order="NHWC",
            )
            begin, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
            begin = begin or 0.0
            wanted = [begin + time for time in times if end is None or begin + time < end]
            batch = decoder.get_frames_played_at(wanted)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Refused(_first_line(error)) from error
        pictures = batch.data.permute(0, 3, 1, 2)
        width, height = _short_side(pictures.shape[3], pictures.shape[2])
        scaled = self._torch.nn.functional.interpolate(
            pictures, (height, width), mode="bilinear", antialias=True
        )
        pixels = _centre(scaled.permute(0, 2, 3, 1).numpy())
        return Given(pixels, batch.pts_seconds.numpy() - begin)

    def close(self) -> None:
        pass


class OpenCV:
    """OpenCV: one pass that grabs every frame and retrieves those wanted by number.

    It takes the first video stream and cannot be told another: that is looked up once a clip and
    not counted.
    """

    starts_processes = False

    def __init__(self) -> None:
        self._cv2 = importlib.import_module("cv2")
        self._cv2.setNumThreads(1)
        self._sizes: dict[Path, set[int]] = {}

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        cv2 = self._cv2
        if path not in self._sizes:
            self._sizes[path] = _best_size(path)
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        try:
            if not capture.isOpened():
                raise Refused("it does not open the file")
            size = {cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT}
            if {int(capture.get(side)) for side in size} != self._sizes[path]:
                raise Refused("it decodes another video stream")
            pictures, at, fps = [], -1, capture.get(cv2.CAP_PROP_FPS)
            for wanted in (int(time * fps + 1e-3) for time in times):
                while at < wanted and capture.grab():
                    at += 1
                if at < wanted:
                    break
                read, picture = capture.retrieve()
                if not read:
                    break
                pictures.append(self._scaled(picture))
        finally:
            capture.release()
        if not pictures:
            raise Refused("it gives no frame")
        return Given(np.stack(pictures))

    def _scaled(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        cv2 = self._cv2
        size = _short_side(picture.shape[1], picture.shape[0])
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(_centre(small[None])[0], cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]

    def close(self) -> None:
        pass


class FfmpegCommand:
    """The ffmpeg command, raw video through a pipe.

    `fps` by itself rounds to the nearest time and so shows what comes half an interval later;
    `round=up` gives the picture on display.
    """

    starts_processes = True

    def sample(self, path: Path, times: list[float], every_s: float) -> Given:
        filters = (
            f"setpts=PTS-STARTPTS,fps=1/{every_s:g}:round=up,"
            f"scale={SIZE}:{SIZE}:force_original_aspect_ratio=increase,crop={SIZE}:{SIZE}"
        )
        command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-filter_threads", "1"]
        command += ["-i", str(path), "-an", "-sn", "-vf", filters]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        done = subprocess.run(command, capture_output=True, check=False)
        pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, SIZE, SIZE, 3)
        if done.returncode or not len(pictures):
            raise Refused(done.stderr.decode(errors="replace").strip().splitlines()[-1])
        return Given(pictures[: len(times)])

    def close(self) -> None:
        pass


PEERS: dict[str, Callable[[], Contender]] = {
    "decord": Decord,
    "torchcodec exact": lambda: TorchCodec("exact"),
    "torchcodec approximate": lambda: TorchCodec("approximate"),
    "OpenCV": OpenCV,
    "ffmpeg": FfmpegCommand,
}
_NEEDS = {
    "decord": "decord",
    "torchcodec exact": "torchcodec.decoders",
    "torchcodec approximate": "torchcodec.decoders",
    "OpenCV": "cv2",
}


def _ours(name: str, sampling: str) -> Callable[[], Contender]:
    return lambda: OursInChild(sampling) if name == CHILD else Ours(sampling)


CONTENDERS: dict[str, Callable[[], Contender]] = {
    **{name: _ours(name, sampling) for name, sampling in OURS.items()},
    **PEERS,
}


def absent(name: str) -> str | None:
    """Why a contender cannot run here, or None where it can."""
    if module := _NEEDS.get(name):
        # In a process of its own: a library may be there and its own libraries not.
        command = [sys.executable, "-c", f"import {module}"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"{module} cannot be imported"
    if name == "ffmpeg" and shutil.which("ffmpeg") is None:
        return "there is no ffmpeg command"
    return None


def _best_size(path: Path) -> set[int]:
    """Sides of the video stream that FFmpeg takes by itself, in pixels."""
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert isinstance(best, VideoStream)
        return {best.codec_context.width, best.codec_context.height}


def _short_side(width: int, height: int) -> tuple[int, int]:
    """Width and height with the shorter side at SIZE."""
    scale = SIZE / min(width, height)
    return max(SIZE, round(width * scale)), max(SIZE, round(height * scale))


def _centre(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of uint8 [N, H, W, 3], contiguous."""
    top, left = (pictures.shape[1] - SIZE) // 2, (pictures.shape[2] - SIZE) // 2
    return np.ascontiguousarray(pictures[:, top : top + SIZE, left : left + SIZE])


def _first_line(error: Exception) -> str:
    """The first line of a library's message that is not its own source's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return line.rpartition(".cc:")[2].partition(": ")[2] or line.rpartition(".cpp:")[2] or line
