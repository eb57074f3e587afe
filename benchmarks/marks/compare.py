"""Our pair beside invisible-watermark: the same clips, the same attacks, the same reading.

Protocol: 24 consecutive pictures of a clip at 848 pixels of width are marked; after each attack
every fourth one is read, six in all. The film of "1 fps" is six other pictures, a second apart.
PSNR is of BGR as it was marked and SSIM of luma, against the source, before any encoder, over the
whole picture. Films are 4:2:0, so a mark in chroma has been through that even without an encoder.
Frame is the share of right bits over the pictures that were read as they are; pooled is that of
their sum.
Ours looks through the ten views of `mark trace` as well, and the p-value counts all of them: named
means that the true copy would be named among a million rows at an adjusted p of 1e-6. Peers have 32
bits, of which all right are one in 4e9: among a million rows that names nobody, whoever reads. Time
is CPU time of the process over all its threads, from a picture in memory to a picture, and from
pictures to bits; ours for the view as it is, on one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.marks.attacks import ATTACKS, Film, read_film, recoded, to_bgr
from benchmarks.marks.contenders import Contender, Ours, Reading
from reelsight.copies.likeness import ssim
from reelsight.marks.bound import chernoff_log10
from reelsight.marks.multiplicity import penalty_log10
from reelsight.nouns.mark_trace import Trials

__all__ = ["SPARSE", "Clip", "attacked_films", "measure_clip", "read_clip"]

SPARSE = "1 fps, CRF 23"
ROWS, IDENTIFIED = 1_000_000, 1e-6
_PICTURES, _EVERY, _WIDTH, _SPARSE = 24, 4, 848, 6
_CLIP_AT = 4.0


@dataclass(frozen=True)
class Clip:
    """What is marked of one clip.

    Attributes:
        name: For people.
        dense: Consecutive pictures.
        sparse: Pictures a second apart.
    """

    name: str
    dense: Film
    sparse: Film


def read_clip(path: Path, *, first: int, rate: int, width: int = _WIDTH) -> Clip:
    """The pictures of one clip that are marked.

    Args:
        path: The clip.
        first: Picture to begin with.
        rate: Pictures a second of the clip.
        width: Pixels.
    """
    dense = read_film(path, first=first, count=_PICTURES, width=width)
    sparse = read_film(path, first=first, count=_SPARSE, width=width, step=rate)
    return Clip(path.name, dense, sparse)


def measure_clip(
    clip: Clip, contender: Contender, names: Sequence[str], seed: int
) -> dict[str, Any]:
    """All attacks on one clip for one contender.

    Args:
        clip: What is marked.
        contender: Who marks and reads.
        names: Of ATTACKS, and SPARSE.
        seed: Of the payload.

    Returns:
        PSNR, SSIM, CPU milliseconds a picture to embed and to read, and `attacks` by name.
    """
    code = np.random.default_rng([97, seed]).integers(0, 2, contender.bits).astype(np.float32)
    marked, shown, embed_s = _marked(clip.dense, contender, code)
    psnr, likeness = _psnr(to_bgr(clip.dense), shown), _ssim(clip.dense, marked)
    found: dict[str, Any] = {}
    read_s, pictures = 0.0, 0
    for name, film in attacked_films(clip, contender, code, names, marked):
        prepared = contender.prepare(film)
        begun = time.process_time()
        # What is on the clock is one view, as peers have one.
        plain = (
            contender.read(prepared, search=False)
            if isinstance(contender, Ours)
            else contender.read(prepared)
        )
        read_s += time.process_time() - begun
        pictures += len(film)
        readings = contender.read(prepared) if isinstance(contender, Ours) else plain
        found[name] = _scored(readings, code)
    return {
        "bits": contender.bits,
        "psnr_db": round(psnr, 2),
        "ssim": round(likeness, 4),
        "embed_cpu_ms": round(1e3 * embed_s / len(clip.dense), 1),
        "read_cpu_ms": round(1e3 * read_s / pictures, 1),
        "attacks": found,
    }


def attacked_films(
    clip: Clip,
    contender: Contender,
    code: npt.NDArray[np.float32],
    names: Sequence[str],
    marked: Film | None = None,
) -> list[tuple[str, Film]]:
    """What is read after each attack, by its name."""
    marked = marked or _marked(clip.dense, contender, code)[0]
    films = [(name, ATTACKS[name](marked)[::_EVERY]) for name in names if name != SPARSE]
    if SPARSE in names:
        sparse = _marked(clip.sparse, contender, code)[0]
        films.append((SPARSE, recoded(sparse, "libx264", 23)))
    return films


def _marked(
    film: Film, contender: Contender, code: npt.NDArray[np.float32]
) -> tuple[Film, list[npt.NDArray[np.uint8]], float]:
    """Planar pictures, the same in BGR as the contender gave them, and CPU seconds."""
    prepared = contender.prepare(film)
    begun = time.process_time()
    marked = contender.embed(prepared, code)
    took = time.process_time() - begun
    return contender.finish(marked), contender.shown(marked), took


def _scored(readings: Sequence[Reading], code: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Bits of the film as it is, and the best of all views with all of them counted."""
    right = code > 0.5
    plain = readings[0]
    fits = [_log10_p(reading, right) for reading in readings]
    best = int(np.argmin(fits))
    penalty = penalty_log10(Trials(ROWS, attempts=len(readings)), whole=True)
    exact = ((plain.soft > 0) == right).all(axis=1)
    adjusted = min(0.0, fits[best] + penalty)
    return {
        "frame": round(float(((plain.soft > 0) == right).mean()), 4),
        "pooled": round(float(((_pooled(plain) > 0) == right).mean()), 4),
        "searched": round(float(((_pooled(readings[best]) > 0) == right).mean()), 4),
        "exact_frames": round(float(exact.mean()), 4),
        "log10_p": round(fits[best], 2),
        "log10_p_adjusted": round(adjusted, 2),
        "named": bool(adjusted <= math.log10(IDENTIFIED)),
        "views": len(readings),
    }


def _pooled(reading: Reading) -> npt.NDArray[np.float64]:
    """As `reelsight.marks.pool` does it for one segment."""
    soft = reading.soft.astype(np.float64)
    middle = float(np.median(np.abs(soft)))
    limit = _CLIP_AT * middle if middle > 0 else np.inf
    total: npt.NDArray[np.float64] = (np.clip(soft, -limit, limit) * reading.quality[:, None]).sum(
        0
    )
    return total


def _log10_p(reading: Reading, right: npt.NDArray[np.bool_]) -> float:
    pooled = _pooled(reading)
    return chernoff_log10(pooled, float(np.where(right, pooled, -pooled).sum()))


def _psnr(before: Sequence[npt.NDArray[np.uint8]], after: Sequence[npt.NDArray[np.uint8]]) -> float:
    """Of BGR in dB against 255."""
    pairs = zip(before, after, strict=True)
    errors = [float(((b.astype(np.float64) - a) ** 2).mean()) for a, b in pairs]
    return 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-9))


def _ssim(before: Film, after: Film) -> float:
    """Mean over pictures, of luma in full range."""
    level = np.float32(219 / 255)
    alike = [
        ssim(a.y.astype(np.float32) / level, b.y.astype(np.float32) / level)
        for a, b in zip(before, after, strict=True)
    ]
    return float(np.mean(alike))
