"""Make the benchmark's clips: real footage, re-encoded to the sizes and lengths of short videos.

The clips come in pairs of one shape, the second of each from later footage, so that no two are the
same. Nothing made here is ever committed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["SHAPES", "ClipShape", "describe", "encode_clip", "make_clips", "write_manifest"]

# ffmpeg's numbers of BT.601 and of limited range: named in the stream, so that every decoder turns
# the same YUV into the same RGB.
_BT601, _LIMITED = 6, 1


@dataclass(frozen=True, slots=True)
class ClipShape:
    """One kind of clip.

    Attributes:
        width: Pixels.
        height: Pixels.
        seconds: Duration.
        gop_s: Longest distance of keyframes, seconds.
        footage: File that its pictures come from.
    """

    width: int
    height: int
    seconds: int
    gop_s: int
    footage: str


_STREET, _PANCAKE, _SPACE = "street_30s_h264.mp4", "pancake_h264.mkv", "nasa_multistream_h264.mp4"
# A feed's mix: vertical phone video most, then SD and full HD. Keyframes as they come: every second
# from phones, every two to five from platforms' transcodes, ten and more from x264's defaults.
SHAPES = (
    ClipShape(854, 480, 30, 10, _STREET),
    ClipShape(854, 480, 10, 2, _PANCAKE),
    ClipShape(854, 480, 20, 5, _SPACE),
    ClipShape(720, 1280, 15, 1, _STREET),
    ClipShape(720, 1280, 10, 1, _PANCAKE),
    ClipShape(720, 1280, 20, 2, _SPACE),
    ClipShape(720, 1280, 30, 5, _STREET),
    ClipShape(480, 854, 15, 2, _PANCAKE),
    ClipShape(480, 854, 20, 10, _STREET),
    ClipShape(1280, 720, 15, 2, _SPACE),
    ClipShape(1920, 1080, 10, 1, _STREET),
    ClipShape(1920, 1080, 10, 5, _PANCAKE),
)


def make_clips(footage: Path, directory: Path) -> list[Path]:
    """Write two clips of every shape, the second from later footage.

    Args:
        footage: Directory that holds the source videos.
        directory: Where the clips go; those already there are kept.

    Returns:
        2 x len(SHAPES) paths; the first half holds one of each shape, the second the other.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for half in range(2):
        for i, shape in enumerate(SHAPES):
            name = f"{half}{i:02d}-{shape.width}x{shape.height}-{shape.seconds}s-gop{shape.gop_s}s"
            paths.append(encode_clip(footage, shape, directory / f"{name}.mp4", skip=75 * half))
    return paths


def encode_clip(footage: Path, shape: ClipShape, path: Path, *, skip: int) -> Path:
    """Write one clip, or keep the one that is there.

    Args:
        footage: Directory that holds the source videos.
        shape: What it is like.
        path: Where it goes.
        skip: Pictures of the source that are passed over first.

    Returns:
        `path`.
    """
    if not path.exists():
        draft = path.with_suffix(".draft.mp4")
        _encode(footage / shape.footage, shape, draft, skip=skip)
        draft.rename(path)
    return path


def write_manifest(paths: list[Path], manifest: Path, *, times: int = 1) -> None:
    """A Parquet manifest of the clips, `times` times over under other ids: clip_id and uri."""
    columns = {
        "clip_id": [f"{p.stem}-{k}" for k in range(times) for p in paths],
        "uri": [str(p.absolute()) for _ in range(times) for p in paths],
    }
    pq.write_table(pa.table(columns), manifest)


def describe() -> list[dict[str, Any]]:
    """The shapes, for the results file."""
    return [asdict(shape) for shape in SHAPES]


def _encode(source: Path, shape: ClipShape, target: Path, *, skip: int) -> None:
    with av.open(str(target), "w") as output:
        rate = _rate(source)
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        context = stream.codec_context
        context.gop_size = rate * shape.gop_s
        context.colorspace, context.color_range = _BT601, _LIMITED
        wanted = shape.seconds * rate
        for number, frame in enumerate(_endless(source, skip)):
            if number == wanted:
                break
            scaled = frame.reformat(
                shape.width,
                shape.height,
                "yuv420p",
                dst_colorspace="ITU601",
                dst_color_range="MPEG",
                interpolation="BICUBIC",
            )
            scaled.pts, scaled.time_base = number, 1 / context.framerate
            output.mux(stream.encode(scaled))
        output.mux(stream.encode(None))


def _rate(source: Path) -> int:
    with av.open(str(source)) as container:
        return round(container.streams.video[0].average_rate or 25)


def _endless(source: Path, skip: int) -> Any:
    """Frames of a file, over and over, without the first `skip` of the first turn."""
    while True:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                if skip:
                    skip -= 1
                    continue
                yield frame
