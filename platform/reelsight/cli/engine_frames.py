"""Frames for calibration and for the gate: sampled from the clips that a user names.

Half of what is used is a degraded copy of the other half, as uploads are degraded. A clip gives
frames to one of the two sets alone: an engine is never judged on what it was calibrated with. Of a
frame set, whose clips are not known, the first half calibrates and the second half judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelsight.errors import ConfigError, FetchError, MediaError
from reelsight.nouns.engine_spec import Geometry

if TYPE_CHECKING:
    from engines.backend import Backend, BuildWatch
    from engines.precision.calibration import Calibration, Method
    from engines.precision.frameset import FrameSet
    from engines.precision.plan import PrecisionPlan
    from reelsight.nouns.model import Model
    from reelsight.settings import MediaSettings, Settings

__all__ = ["JudgingFrames", "collect_frames", "frames_for", "needs_ranges", "ranges_of"]

_SEED = 20260101
_PER_CLIP = 16
_SIDE = (270, 480)


@dataclass(frozen=True, slots=True)
class JudgingFrames:
    """Two frame sets and what they are, for people; one clip gives frames to judge by alone."""

    calibration: FrameSet | None
    gate: FrameSet
    words: str


def collect_frames(
    source: Path | None, geometry: Geometry, media: MediaSettings, *, count: int, seed: int
) -> JudgingFrames:
    """Frames for an engine.

    Args:
        source: A directory of clips, a manifest (.parquet), a frame set (.safetensors), or None for
            scenes of the sample generator.
        geometry: What the engine takes.
        media: How clips are read; the sampling is this function's own.
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
        half = len(frames) // 2
        words = f"the last {len(frames) - half} of {len(frames)} frames of {source.name}"
        return JudgingFrames(FrameSet(frames[:half]), FrameSet(frames[half:]), words)
    if source is None:
        groups, words = list(_scenes(geometry, count, seed)), "scenes of the sample generator"
    else:
        groups = list(_clips(_uris(source), geometry, media, count))
        words = f"frames of {len(groups)} clips of {source.name}"
    # The gate's first: it is what every plan needs.
    halves: tuple[list[npt.NDArray[np.uint8]], ...] = ([], [])
    for group in groups:
        min(halves, key=lambda half: sum(map(len, half))).append(group)
    judging, calibrating = halves
    if not judging:
        raise ConfigError(
            f"{source} gave no frames",
            code="config.frames",
            hint="Name a directory or a manifest of clips that `reelsight tag` can read.",
        )
    gate = FrameSet(np.concatenate(judging))
    calibration = FrameSet(np.concatenate(calibrating)) if calibrating else None
    return JudgingFrames(
        None if calibration is None else calibration.joined(degraded(calibration, seed)),
        gate.joined(degraded(gate, seed + 1)),
        f"{words}: {len(gate)} frames, and a degraded copy of each",
    )


def frames_for(settings: Settings, model: Model, source: Path | None, count: int) -> JudgingFrames:
    """Frames for a model's engines; for the shipped model alone generated ones by default.

    Raises:
        ConfigError: `config.frames`: none were given, or as collect_frames.
    """
    from engines.catalog import EMBEDDED_MODEL

    if source is None and model.name != EMBEDDED_MODEL:
        raise ConfigError(
            f"{model.name} is judged on real frames; none were given",
            code="config.frames",
            hint="Name clips like those that will be tagged: --frames DIRECTORY or MANIFEST.",
        )
    return collect_frames(source, model.geometry, settings.media, count=count, seed=_SEED)


def needs_ranges(plan: PrecisionPlan, builder: Backend) -> bool:
    """Whether a rung of the plan's ladder can use activation ranges."""
    from engines.precision.plan import ladder

    return any(
        rung.name in builder.precisions and (rung.needs_calibration or rung.floats == "fp16")
        for rung in ladder(plan.name)
    )


def ranges_of(
    settings: Settings,
    model: Model,
    plan: PrecisionPlan,
    builder: Backend,
    judging: JudgingFrames,
    method: Method,
    watch: BuildWatch,
) -> Calibration | None:
    """Activation ranges, where a rung of the ladder can use them.

    FP16 needs to know what overflows, which the plain ranges tell.

    Raises:
        ConfigError: `config.frames`: no clip is left to calibrate with.
    """
    from engines.precision.calibration import calibrate

    if not needs_ranges(plan, builder):
        return None
    if not plan.needs_calibration:
        method = "minmax"
    if judging.calibration is None:
        raise ConfigError(
            f"{plan.name} on {builder.name} measures ranges on other clips than it is judged by, "
            "and only one gave frames",
            code="config.frames",
            hint="Name two clips or more.",
        )
    cache, threads = settings.cache_dir / "calibrations", settings.engine.threads
    return calibrate(model.image, judging.calibration, method, cache, watch, threads=threads)


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
    uris: list[tuple[str, str]], geometry: Geometry, media: MediaSettings, count: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames clip by clip until there are enough, from clips spread over the list first.

    Clips that fail are passed over.
    """
    from reelsight.media.decoder import open_decoder
    from reelsight.media.fetch import fetch
    from reelsight.media.sampler import Sampling

    clips = max(2, -(-count // _PER_CLIP))
    sampling = Sampling("count", count=max(_PER_CLIP, -(-count // max(1, len(uris)))))
    left, step = count, max(1, len(uris) // clips)
    limits = media.limits
    with closing(open_decoder(media.decoding, sampling)) as decoder:
        for clip_id, uri in [uri for start in range(step) for uri in uris[start::step]]:
            if left <= 0:
                return
            try:
                data = fetch(uri, limits)
                _, frames = decoder.decode(clip_id, uri, data, sampling, geometry, limits)
            except (FetchError, MediaError):
                continue
            if len(frames.pixels):
                yield frames.pixels
            left -= len(frames.pixels)
