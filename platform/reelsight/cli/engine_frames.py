"""Frames for calibration and for the gate: sampled from the clips that a user names.

Half of what is used is a degraded copy of the other half, as uploads are degraded. A clip gives
frames to one of the two sets alone: an engine is never judged on what it was calibrated with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelsight.errors import ConfigError, FetchError, MediaError
from reelsight.media.limits import MediaLimits
from reelsight.nouns.engine_spec import Geometry

if TYPE_CHECKING:
    from engines.precision.frameset import FrameSet

__all__ = ["JudgingFrames", "collect_frames"]

_PER_CLIP = 16
_SIDE = (270, 480)


@dataclass(frozen=True, slots=True)
class JudgingFrames:
    """Two frame sets and what they are, for people."""

    calibration: FrameSet
    gate: FrameSet
    words: str


def collect_frames(
    source: Path | None, geometry: Geometry, limits: MediaLimits, *, count: int, seed: int
) -> JudgingFrames:
    """Frames for an engine.

    Args:
        source: A directory of clips, a manifest (.parquet), a frame set (.safetensors), or None for
            scenes of the sample generator.
        geometry: What the engine takes.
        limits: What a clip may be.
        count: Clean frames to collect at least, for both sets together, where the clips have as
            many; as many degraded ones join them. A frame set is taken as it is.
        seed: Of the degradations and the scenes.

    Raises:
        ConfigError: `config.frames`: nothing usable there.
        ManifestError, EngineError: The manifest or the frame set cannot be read.
    """
    from engines.precision.frameset import FrameSet, degraded

    if source is not None and source.suffix == ".safetensors":
        frames = FrameSet.load(source).frames
        words = f"{len(frames)} frames of {source.name}, every other one"
        return JudgingFrames(FrameSet(frames[0::2]), FrameSet(frames[1::2]), words)
    if source is None:
        groups, words = list(_scenes(geometry, count, seed)), "scenes of the sample generator"
    else:
        groups = list(_clips(_uris(source), geometry, limits, count))
        words = f"frames of {len(groups)} clips of {source.name}"
    if len(groups) < 2:
        groups = [group[i::2] for group in groups for i in range(2)]
    halves: tuple[list[npt.NDArray[np.uint8]], ...] = ([], [])
    for group in groups:
        min(halves, key=lambda half: sum(map(len, half))).append(group)
    if not all(sum(map(len, half)) for half in halves):
        raise ConfigError(
            f"{source} gave too few frames",
            code="config.frames",
            hint="Name a directory or a manifest of clips that `reelsight tag` can read.",
        )
    calibration, gate = (FrameSet(np.concatenate(half)) for half in halves)
    return JudgingFrames(
        calibration.joined(degraded(calibration, seed)),
        gate.joined(degraded(gate, seed + 1)),
        f"{words}: {len(gate)} frames, and a degraded copy of each",
    )


def _scenes(geometry: Geometry, count: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    from reelsight.media.pixels import resize_rgb
    from reelsight.samples import compose

    for place in range(count):
        picture, _ = compose(np.random.default_rng([seed, place]), None, _SIDE)
        yield resize_rgb(np.ascontiguousarray(picture), geometry)[None]


def _uris(source: Path) -> list[tuple[str, str]]:
    from reelsight.cli.paths import videos_below
    from reelsight.store.manifest import Manifest

    if source.suffix == ".parquet":
        rows: Iterable[dict[str, Any]] = Manifest.open(source)
        return [(row["clip_id"], row["uri"]) for row in rows if row["uri"]]
    if not source.is_dir():
        raise ConfigError(
            f"{source} is neither a directory, a manifest (.parquet) nor a frame set "
            "(.safetensors)",
            code="config.frames",
        )
    return [(path.name, str(path)) for path in videos_below(source)]


def _clips(
    uris: list[tuple[str, str]], geometry: Geometry, limits: MediaLimits, count: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames clip by clip, from clips spread over the list; clips that fail are passed over."""
    from reelsight.media.decode import decode
    from reelsight.media.fetch import fetch
    from reelsight.media.sampler import Sampling

    clips = max(2, -(-count // _PER_CLIP))
    sampling = Sampling("count", count=max(_PER_CLIP, -(-count // max(1, len(uris)))))
    left = count
    for clip_id, uri in uris[:: max(1, len(uris) // clips)]:
        if left <= 0:
            return
        try:
            _, frames = decode(clip_id, uri, fetch(uri, limits), sampling, geometry, limits)
        except (FetchError, MediaError):
            continue
        yield frames.pixels
        left -= len(frames.pixels)
