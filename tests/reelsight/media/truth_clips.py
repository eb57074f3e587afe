"""Clips whose every picture says which frame it is and shows a colour chart, and how to check them.

The planes are computed here from the equations of ITU-R BT.601 and BT.709, not by the scaler that
the product uses, so that an error of matrix or range cannot cancel itself out. What no muxer
writes is patched into the bytes.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from reelsight.nouns.frames import Frames
from reelsight.samples.encoding import encoded
from tests.reelsight.media.patched_bytes import joined, with_edits

os.environ.setdefault("SVT_LOG", "1")

Image = npt.NDArray[np.uint8]
DARK, BRIGHT = 40, 215
# Inside every gamut and range in use; two greys tell a wrong range, the hues a wrong matrix.
CHART = np.array(
    [
        (235, 235, 235), (20, 20, 20), (128, 128, 128), (200, 50, 50),
        (50, 180, 60), (40, 60, 200), (200, 190, 50), (190, 140, 110),
    ],
    np.uint8,
)  # fmt: skip
# Grey levels of 255 that the mean of a chart field may be off: rounding to 8-bit YUV and back is 3,
# lossy coding at these qualities adds 1. A wrong matrix or range is off by more than 10.
COLOUR = 4.0
# Seconds: Matroska, WebM and FLV round stamps to whole milliseconds.
STAMP = 0.00051

X264 = (("preset", "fast"), ("crf", "10"))
NO_B = (*X264, ("bf", "0"))
B_FRAMES = (*X264, ("bf", "3"), ("g", "24"), ("sc_threshold", "0"))
X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:crf=10"))
X265_OPEN = (
    ("preset", "fast"),
    (
        "x265-params",
        "log-level=none:crf=10:open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0",
    ),
)
VP9 = (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "10"), ("b", "0"))
SVT = (("preset", "10"), ("crf", "15"), ("svtav1-params", "lp=1"))
MPEG4 = (("qmin", "1"), ("qmax", "2"), ("bf", "2"))
UNEVEN = (0, 10, 500, 510, 1300, 1700, 1750, 2000, 2040, 2400, 2440)


def even(count: int, step: int = 40, start: int = 0) -> tuple[int, ...]:
    """Stamps at a constant rate."""
    return tuple(start + step * k for k in range(count))


@dataclass(frozen=True)
class Video:
    """One coded stream. `stamps` are milliseconds in display order; frame k shows `first` + k."""

    stamps: tuple[int, ...] = even(60)
    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = X264
    width: int = 160
    height: int = 120
    pix_fmt: str = "yuv420p"
    matrix: str = "bt601"
    told: bool = True
    full: bool = False
    rotation: int = 0
    first: int = 0


@dataclass(frozen=True)
class Case:
    """A clip and what it promises.

    Attributes:
        promise: What a right decoder does with it.
        video: The stream that stands for the clip.
        container: The muxer.
        mux: The muxer's options.
        edits: (movie milliseconds, media milliseconds) of each edit, patched into an MP4.
        others: Further video streams, before the one that counts.
        then: A second clip whose bytes follow, in formats that may be joined.
        keep: Share of the bytes that is there; the rest is cut off.
        shown: Numbers on display, when not all of them are, and since when in milliseconds.
        last_ms: How long the file says that the last picture lasts, milliseconds.
    """

    promise: str
    video: Video = Video()
    container: str = "mp4"
    mux: tuple[tuple[str, str], ...] = ()
    edits: tuple[tuple[int, int], ...] = ()
    others: tuple[Video, ...] = ()
    then: Video | None = None
    keep: float = 1.0
    shown: tuple[tuple[int, int], ...] = ()
    last_ms: int = 40

    @property
    def truth(self) -> tuple[tuple[int, float], ...]:
        """Number and seconds since the first of every picture that goes on display."""
        shown = self.shown or tuple(
            (video.first + k, stamp)
            for video in (self.video, self.then)
            if video is not None
            for k, stamp in enumerate(video.stamps)
        )
        return tuple((number, (stamp - shown[0][1]) / 1000) for number, stamp in shown)


def _turned(degrees: int) -> Case:
    return Case(f"turned upright by {degrees} degrees", Video(rotation=degrees))


def _coloured(matrix: str, full: bool, words: str) -> Case:
    return Case(words, Video(matrix=matrix, full=full))


# NVIDIA's decoders take HEVC from 144x144 on, VP9 and AV1 from 128x128.
LARGER: dict[str, Any] = {"width": 192, "height": 144}

CASES: dict[str, Case] = {
    "h264": Case("the frame on display at each asked time"),
    "hevc": Case("the same for HEVC", Video(codec="libx265", options=X265, **LARGER)),
    "vp9": Case("the same for VP9", Video(codec="libvpx-vp9", options=VP9, **LARGER), "webm"),
    "vp9 in mp4": Case("the same for VP9 in MP4", Video(codec="libvpx-vp9", options=VP9, **LARGER)),
    "av1": Case("the same for AV1", Video(codec="libsvtav1", options=SVT, **LARGER)),
    "av1 in mkv": Case(
        "the same for AV1", Video(codec="libsvtav1", options=SVT, **LARGER), "matroska"
    ),
    "mpeg4": Case("the same for MPEG-4", Video(codec="mpeg4", options=MPEG4)),
    # The MP4 muxer gives the last picture the length of the gap before the last but one.
    "variable rate": Case("stamps decide, not a rate", Video(stamps=UNEVEN), last_ms=360),
    "variable rate, B-frames, mkv": Case(
        "stamps decide, not a rate", Video(stamps=UNEVEN, options=B_FRAMES), "matroska"
    ),
    "B-frames": Case("display order, not coded order", Video(options=B_FRAMES)),
    "B-frames in a transport stream": Case(
        "display order, not coded order", Video(options=B_FRAMES), "mpegts"
    ),
    "open GOP": Case(
        "pictures that lead a keyframe are right",
        Video(options=(*B_FRAMES, ("x264-params", "open-gop=1:keyint=12:min-keyint=12"))),
    ),
    "open GOP, hevc": Case(
        "pictures that lead a keyframe are right",
        Video(codec="libx265", options=X265_OPEN, **LARGER),
    ),
    "one keyframe only": Case(
        "the end is as right as the start", Video(even(120), options=(*X264, ("g", "1000")))
    ),
    "edit list: start cut off": Case(
        "what is cut off is never shown and t = 0 is what comes first",
        Video(even(50, start=-480), options=B_FRAMES),
        mux=(("avoid_negative_ts", "disabled"),),
        shown=tuple((12 + k, 40 * k) for k in range(38)),
    ),
    "edit list: middle cut out": Case(
        "the second piece follows the first",
        Video(even(75), options=NO_B),
        edits=((1000, 0), (1000, 1600)),
        shown=tuple((k if k < 25 else k + 15, 40 * k) for k in range(50)),
    ),
    "edit list: middle cut out, B-frames": Case(
        "the second piece follows the first",
        Video(even(75), options=B_FRAMES),
        edits=((1000, 0), (1000, 1600)),
        shown=tuple((k if k < 25 else k + 15, 40 * k) for k in range(50)),
    ),
    "edit list: late start": Case(
        "t = 0 is the first picture, not the empty edit", Video(even(60, start=2500))
    ),
    "negative composition offsets": Case(
        "stamps before zero are stamps",
        Video(options=B_FRAMES),
        mux=(("movflags", "negative_cts_offsets"), ("use_editlist", "0")),
    ),
    "negative start, webm": Case(
        "stamps before zero are stamps",
        Video(even(60, start=-400), codec="libvpx-vp9", options=VP9, **LARGER),
        "webm",
        mux=(("avoid_negative_ts", "disabled"),),
    ),
    "negative start, transport stream": Case(
        "stamps before zero are stamps",
        Video(even(60, start=-2000), options=B_FRAMES),
        "mpegts",
        mux=(("avoid_negative_ts", "disabled"),),
    ),
    "rotation 0": _turned(0),
    "rotation 90": _turned(90),
    "rotation 180": _turned(180),
    "rotation 270": _turned(270),
    "10 bit h264": Case("ten bits scale to eight", Video(pix_fmt="yuv420p10le")),
    "10 bit hevc": Case(
        "ten bits scale to eight",
        Video(codec="libx265", options=X265, pix_fmt="yuv420p10le", **LARGER),
    ),
    "10 bit av1": Case(
        "ten bits scale to eight",
        Video(codec="libsvtav1", options=SVT, pix_fmt="yuv420p10le", **LARGER),
    ),
    "bt601 limited": _coloured("bt601", False, "the told matrix and range"),
    "bt601 full": _coloured("bt601", True, "the told matrix and range"),
    "bt709 limited": _coloured("bt709", False, "the told matrix and range"),
    "bt709 full": _coloured("bt709", True, "the told matrix and range"),
    "matrix untold, small": Case("untold and small is BT.601", Video(told=False)),
    "matrix untold, large": Case(
        "untold and large is BT.709",
        Video(even(30), width=1280, height=720, matrix="bt709", told=False),
    ),
    "odd size": Case(
        "no column lost", Video(codec="libvpx-vp9", options=VP9, width=191, height=145), "webm"
    ),
    "odd size 4:4:4": Case("no column lost", Video(width=159, height=119, pix_fmt="yuv444p")),
    "size changes": Case(
        "each picture is scaled from its own size",
        Video(even(25)),
        "h264",
        then=Video(even(25, start=1000), width=96, height=96, first=25),
    ),
    "size changes in a transport stream": Case(
        "each picture is scaled from its own size",
        Video(even(25), options=NO_B),
        "mpegts",
        then=Video(even(25, start=1000), options=NO_B, width=96, height=96, first=25),
    ),
    "several video streams": Case(
        "the default stream, then the larger one",
        Video(width=192, height=144, first=500),
        "matroska",
        others=(Video(width=96, height=96),),
    ),
    "interlaced": Case(
        "both fields together", Video(options=(*X264, ("x264-params", "interlaced=1:tff=1")))
    ),
    "truncated mp4": Case(
        "right up to the cut, and says so", mux=(("movflags", "faststart"),), keep=0.6
    ),
    "truncated mkv": Case("right up to the cut, and says so", container="matroska", keep=0.6),
}


def picture(number: int, width: int, height: int) -> Image:
    """RGB [height, width, 3]: 8 x 2 blocks of bits over a row of 8 colours."""
    bits = np.array([(number >> k) & 1 for k in range(16)], np.uint8).reshape(2, 8)
    grid = np.repeat((bits * (BRIGHT - DARK) + DARK)[..., None], 3, axis=2)
    cells = np.concatenate([grid, CHART[None]])
    return cells[np.arange(height) * 3 // height][:, np.arange(width) * 8 // width]


def read(image: Image) -> tuple[int, float]:
    """The number that a sampled picture shows, and its chart's largest error in grey levels."""
    height, width = image.shape[:2]
    y, x = (np.arange(3) * 2 + 1) * height // 6, (np.arange(8) * 2 + 1) * width // 16
    cells = np.mean(
        [image[y[:, None] + dy, x + dx] for dy in (-2, 0, 2) for dx in (-2, 0, 2)], axis=0
    )
    bits = cells[:2].mean(axis=2).ravel() > (DARK + BRIGHT) / 2
    number = int(sum(1 << k for k, bit in enumerate(bits) if bit))
    return number, float(np.abs(cells[2] - CHART).max())


def problems(frames: Frames, case: Case, colour: float = COLOUR) -> list[str]:
    """What is wrong with a decode of a case; empty where every promise was kept.

    The times asked for are reckoned here, not by the sampler: k / R before the end, or the
    midpoints of N equal parts.
    """
    truth, found = case.truth, []
    numbers = [number for number, _ in truth]
    seconds = np.array([at for _, at in truth])
    end_s = seconds[-1] + case.last_ms / 1000
    if case.keep == 1.0:
        if abs(frames.end_s - end_s) > 0.041:
            found.append(f"ends at {frames.end_s:.3f} s, not {end_s:.3f}")
        if frames.stopped is not None:
            found.append(f"says it stopped: {frames.stopped}")
    elif frames.stopped is None:
        found.append("does not say that it stopped early")
    kind, _, value = frames.policy.partition(":")
    end = frames.end_s
    if kind == "rate":
        times = np.arange(0, 10_000) / float(value)
        times = times[times < end - 1e-6]
    else:
        claimed = end_s if case.keep < 1.0 else end
        times = (np.arange(int(value)) + 0.5) * claimed / int(value)
        times = times[times < end]
    at = np.searchsorted(seconds, times + STAMP, side="right") - 1
    wanted = sorted(set(at.tolist()))
    got = [read(image) for image in frames.pixels]
    if [number for number, _ in got] != [numbers[k] for k in wanted]:
        shown = [number for number, _ in got]
        found.append(f"shows frames {shown}, not {[numbers[k] for k in wanted]}")
    elif np.abs(frames.pts - seconds[wanted]).max() > STAMP:
        found.append(f"stamps {frames.pts.tolist()}, not {seconds[wanted].tolist()}")
    worst = max(error for _, error in got)
    if worst > colour:
        found.append(f"colours off by {worst:.0f} levels")
    return found


@lru_cache(maxsize=64)
def make(case: Case) -> bytes:
    """Encode a case."""
    if case.then is not None:
        second = replace(case, video=case.then, then=None)
        return joined(make(replace(case, then=None)), make(second))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        _write(str(path), case)
        data = path.read_bytes()
    if case.edits:
        data = with_edits(data, case.edits)
    return data[: int(len(data) * case.keep)]


def _write(path: str, case: Case) -> None:
    with av.open(path, "w", format=case.container, container_options=dict(case.mux)) as container:
        pairs = [(_stream(container, v), v) for v in (*case.others, case.video)]
        for k in range(max(len(v.stamps) for _, v in pairs)):
            for stream, video in pairs:
                if k < len(video.stamps):
                    container.mux(encoded(stream, _frame(video, k)))
        for stream, _ in pairs:
            container.mux(encoded(stream, None))


def _stream(container: Any, video: Video) -> Any:
    step = int(np.diff(video.stamps).min())
    options = dict(video.options)
    stream = container.add_stream(video.codec, rate=Fraction(1000, step), options=options)
    wide, high = video.width, video.height
    stream.width, stream.height, stream.pix_fmt = wide, high, video.pix_fmt
    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
    if video.told:
        stream.codec_context.colorspace = {"bt601": 6, "bt709": 1}[video.matrix]
        stream.codec_context.color_range = 2 if video.full else 1
    if video.rotation:
        stream.set_display_rotation(-video.rotation)
    return stream


def _frame(video: Video, k: int) -> av.VideoFrame:
    turned = video.rotation in (90, 270)
    size = (video.height, video.width) if turned else (video.width, video.height)
    image = np.rot90(picture(video.first + k, *size), video.rotation // 90)
    frame = av.VideoFrame(video.width, video.height, video.pix_fmt)
    deep = video.pix_fmt.endswith("10le")
    halved = 1 if "444" in video.pix_fmt else 2
    for plane, values in zip(frame.planes, _planes(image, video, halved), strict=True):
        rows = np.zeros((plane.height, plane.line_size // (2 if deep else 1)), np.uint16)
        rows[:, : values.shape[1]] = np.round(values * (4 if deep else 1))
        used = rows.astype("<u2" if deep else np.uint8).tobytes()
        plane.update(used.ljust(plane.buffer_size, b"\0"))
    frame.pts, frame.time_base = video.stamps[k], Fraction(1, 1000)
    if video.told:
        frame.colorspace = {"bt601": 6, "bt709": 1}[video.matrix]
        frame.color_range = 2 if video.full else 1
    return frame


def _planes(image: Image, video: Video, halved: int) -> list[npt.NDArray[np.float64]]:
    """Y, Cb and Cr on the scale of 8 bits, by the equations of the recommendation."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[video.matrix]
    red, green, blue = (image[..., k] / 255 for k in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
    height, width = luma.shape
    padded = [np.pad(c, ((0, height % halved), (0, width % halved)), "edge") for c in chroma]
    shape = (-(-height // halved), halved, -(-width // halved), halved)
    small = [c.reshape(shape).mean(axis=(1, 3)) for c in padded]
    if video.full:
        return [luma * 255, *(np.clip(c * 255 + 128, 0, 255) for c in small)]
    return [luma * 219 + 16, *(c * 224 + 128 for c in small)]
