"""Whether a backend gives what PyAV gives, on this machine, with the libraries that are there.

Decoders have returned wrong crops of the right shape and the frame beside the right one. So nothing
but the default is used before it has shown the same pictures at the same times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelsight.media.backends.proof_clips import (
    ProofClip,
    hues_shown,
    number_shown,
    proof_clips,
)
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.seam import DecodeBackend
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["SelfTest", "self_test"]

# Grey levels of 255 between theirs and PyAV's. Of a flat hue: decord, which rounds more coarsely,
# is off by 3 at most; the wrong matrix by 20, the wrong range by 12. Mean of a picture: decord,
# which converts at full size before it scales, is off by 1.8 for its softer edges; a shift by 2 of
# 112 pixels is off by 2.7.
_HUE = 6.0
_MEAN = 2.5
_STAMP_S = 0.001
_SAMPLINGS = (Sampling(rate=5), Sampling("count", count=6))
_GEOMETRY = Geometry(112)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Outcome of a trial.

    Attributes:
        backend: Who was tried.
        clips: Clips that it was tried on, up to the first failure.
        failure: What it did wrong; None when it passed.
    """

    backend: str
    clips: int
    failure: str | None


def self_test(
    backend: DecodeBackend,
    reference: DecodeBackend | None = None,
    clips: Sequence[ProofClip] | None = None,
) -> SelfTest:
    """Decode small clips with a backend and with PyAV, and compare.

    Args:
        backend: Who is tried; usable on this machine.
        reference: Who is right; PyAV when None.
        clips: What they are tried on; the proof clips when None.
    """
    right = reference or PyAVBackend()
    try:
        chosen = proof_clips() if clips is None else clips
    except LookupError as error:
        return SelfTest(backend.name, 0, str(error))
    for tried, clip in enumerate(chosen, start=1):
        for sampling in _SAMPLINGS:
            arguments = (clip.name, clip.name, clip.data, sampling, _GEOMETRY, MediaLimits())
            _, expected = right.decode(*arguments)
            try:
                _, given = backend.decode(*arguments)
            except Exception as error:
                # A foreign decoder may raise anything, and that it does is the finding.
                failure: str | None = f"it fails: {error}"
            else:
                failure = _difference(given, expected)
            if failure is not None:
                return SelfTest(backend.name, tried, f"on {clip.name!r}, {sampling}: {failure}")
    return SelfTest(backend.name, len(chosen), None)


def _difference(given: Frames, expected: Frames) -> str | None:
    if given.pixels.shape != expected.pixels.shape:
        return f"pixels are {given.pixels.shape}, not {expected.pixels.shape}"
    if np.abs(given.pts - expected.pts).max() > _STAMP_S:
        return f"times are {given.pts.round(3).tolist()}, not {expected.pts.round(3).tolist()}"
    for at, theirs, ours in zip(given.pts, given.pixels, expected.pixels, strict=True):
        shown, right = number_shown(theirs), number_shown(ours)
        if shown != right:
            return f"at {at:.3f} s it shows frame {shown}, not {right}"
        off = float(np.abs(hues_shown(theirs) - hues_shown(ours)).max())
        if off > _HUE:
            return f"at {at:.3f} s its colours are off by {off:.0f} levels, {_HUE:g} are allowed"
        off = float(np.abs(theirs.astype(int) - ours.astype(int)).mean())
        if off > _MEAN:
            return f"at {at:.3f} s its pixels are off by {off:.1f} levels, {_MEAN:g} are allowed"
    return None
