"""Make the benchmark's clips: real footage, re-encoded to the sizes and lengths of short videos.

The clips come in pairs of one shape, the second of each from later footage, so that no two are the
same. Nothing made here is ever committed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.footage import Coding, encode, rate_of

__all__ = ["SHAPES", "ClipShape", "describe", "encode_clip", "make_clips", "write_manifest"]

_FAST = {"preset": "fast", "crf": "23"}


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
        source = footage / shape.footage
        gop = rate_of(source) * shape.gop_s
        coding = Coding(
            "libx264", shape.width, shape.height, gop, _FAST, "ITU601", footage_types=True
        )
        encode(source, path, coding, shape.seconds, skip=skip)
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
