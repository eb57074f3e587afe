"""Pack a directory of photographs into one file: python -m training.marks.pack PHOTOS OUT.npz.

Luma alone, as JPEG, so that a few hundred photographs travel in some 20 MB. The file belongs to
whoever brought the photographs and is never committed.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelsight.errors import ConfigError

__all__ = ["pack", "unpack"]


def pack(files: list[Path], out: Path, *, side: int = 320, quality: int = 85) -> int:
    """Write the pack.

    Args:
        files: Photographs that Pillow opens.
        out: The .npz file.
        side: Photographs are squashed to squares of this side, as both networks see pictures.
        quality: Of the JPEGs.

    Returns:
        Its size in bytes.

    Raises:
        ConfigError: There is no photograph.
    """
    if not files:
        raise ConfigError("there is no photograph to pack.", hint="Name a directory of JPEG files.")
    blobs = []
    for file in files:
        with Image.open(file) as image:
            luma = image.convert("L")
        if luma.size != (side, side):
            luma = luma.resize((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        luma.save(buffer, "JPEG", quality=quality)
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    out.parent.mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([len(blob) for blob in blobs])
    np.savez(out, jpeg=np.concatenate(blobs), ends=ends, side=np.int64(side))
    return out.stat().st_size


def unpack(file: Path) -> npt.NDArray[np.uint8]:
    """The photographs of a pack, uint8 [n, side, side].

    Raises:
        ConfigError: The file is not a pack.
    """
    try:
        with np.load(file) as stored:
            jpeg, ends, side = stored["jpeg"], stored["ends"], int(stored["side"])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{file} is not a pack of photographs: {error}.",
            hint="Make one with python -m training.marks.pack PHOTOS OUT.npz.",
        ) from error
    out = np.empty((len(ends), side, side), np.uint8)
    for index, blob in enumerate(np.split(jpeg, ends[:-1])):
        with Image.open(io.BytesIO(blob.tobytes())) as image:
            out[index] = np.asarray(image)
    return out


def main() -> None:
    """Pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--quality", type=int, default=85)
    options = parser.parse_args()
    files = sorted(options.photos.glob("*.jpg"))
    size = pack(files, options.out, side=options.side, quality=options.quality)
    print(f"{len(files)} photographs, {size / 2**20:.1f} MiB: {options.out}")


if __name__ == "__main__":
    main()
