"""What somebody does to a copy before it turns up: its middle 95 %, encoded again at CRF 28.

Usage: python scripts/leak.py COPY FOUND
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

__all__ = ["leak", "main"]

_KEPT = 0.95


def main() -> None:
    """Cut and encode the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("copy", type=Path)
    parser.add_argument("found", type=Path)
    options = parser.parse_args()
    leak(options.copy, options.found)


def leak(copy: Path, found: Path, *, crf: int = 28) -> Path:
    """Write what is left of a copy.

    Args:
        copy: A marked file.
        found: The file to write; its sound is lost.
        crf: libx264's constant rate factor.
    """
    with av.open(str(copy)) as source, av.open(str(found), "w") as out:
        video = source.streams.video[0]
        rate = video.average_rate or Fraction(25)
        options = {"preset": "veryfast", "crf": str(crf)}
        stream: Any = out.add_stream("libx264", rate=rate, options=options)
        for number, frame in enumerate(source.decode(video)):
            picture = frame.to_ndarray(format="rgb24")
            high, wide = picture.shape[:2]
            rows, columns = (round(side * (1 - _KEPT) / 2) for side in (high, wide))
            kept = picture[rows : rows + (high - 2 * rows) // 2 * 2]
            kept = kept[:, columns : columns + (wide - 2 * columns) // 2 * 2]
            if not number:
                stream.width, stream.height = kept.shape[1], kept.shape[0]
                stream.pix_fmt = "yuv420p"
            cut = av.VideoFrame.from_ndarray(np.asarray(kept, np.uint8, order="C"), format="rgb24")
            cut.pts, cut.time_base = number, 1 / rate
            out.mux(stream.encode(cut.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    return found


if __name__ == "__main__":
    main()
