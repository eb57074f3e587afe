"""decode: one pass over a clip that scales only the frames asked for.

One clip, one thread. Geometry `active` alone takes two passes, the first of which looks for black
bars. Where the packets allow it, the pass takes a shortcut to the same frames;
whatever is uncertain, and every error, goes the whole way. No picture is converted that was not
sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from av.error import FFmpegError

from reelsight.errors import MediaError
from reelsight.media.active_scaler import ActiveScaler, PeakKeeper
from reelsight.media.collector import Collector
from reelsight.media.container import Source, open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.magic import is_still
from reelsight.media.packet_index import may_pass_over
from reelsight.media.pixels import FrameScaler, Scaler
from reelsight.media.sampler import Sampling
from reelsight.media.shortcut import find_shortcut
from reelsight.media.stills import decode_still
from reelsight.media.timeline import claimed_end, header_end, measured_end, tick
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["decode"]

AnyScaler = TypeVar("AnyScaler", bound=FrameScaler)
MakeScaler = Callable[[], FrameScaler]


def decode(
    clip_id: str,
    uri: str,
    data: bytes,
    sampling: Sampling,
    geometry: Geometry,
    limits: MediaLimits,
) -> tuple[Clip, Frames]:
    """Sample a clip's frames, upright and scaled for an engine; a still picture is one frame.

    Args:
        clip_id: Name that the results carry.
        uri: Where the bytes came from; only recorded.
        data: The whole file.
        sampling: Which times are asked for.
        geometry: The engine's picture size and how the picture fits it.
        limits: Caps and the policy on damage.

    Returns:
        The described clip, and its frames: uint8 [N, size, size, 3] RGB, N >= 1. `Frames.stopped`
        tells when the clip broke off before the last time asked for.

    Raises:
        MediaError: As `open_source`; `media.undecodable` when no frame could be decoded or scaled;
            `media.damaged` by `limits.damage`; `media.over_limit`.
    """
    if is_still(data):
        return decode_still(clip_id, uri, data, sampling, geometry, limits)
    clip = Clip.of_bytes(clip_id, uri, data)
    make: MakeScaler = partial(Scaler, geometry)
    if geometry.mode == "active":
        peaks = _collected(data, sampling, partial(PeakKeeper, geometry), limits)[1]
        make = partial(ActiveScaler, geometry, peaks.boxes())
    collector, _ = _collected(data, sampling, make, limits)
    return collector.header.fill(clip, collector.claimed_s), collector.frames(clip_id)


def _collected(
    data: bytes, sampling: Sampling, make: Callable[[], AnyScaler], limits: MediaLimits
) -> tuple[Collector, AnyScaler]:
    """One pass over the clip, along a shortcut where there is one, and the scaler that it used."""
    with _open(data, sampling, limits) as source:
        scaler = make()
        if collector := _short(source, sampling, scaler, limits):
            return collector, scaler
    with _open(data, sampling, limits) as source:
        # Elsewhere a time takes the last picture at or before it, and passing over pictures would
        # hang the frames of a damaged clip on where the damage lies.
        passing = (
            sampling.policy == "scene" and sampling.accuracy != "exact" and may_pass_over(source)
        )
        end = header_end(source)
        if end is None and (sampling.policy == "count" or passing):
            end = _searched_end(source, data, limits)
        scaler = make()
        collector = Collector(source, sampling, scaler, limits, end, passing=passing)
        collector.run()
        return collector, scaler


@contextmanager
def _open(data: bytes, sampling: Sampling, limits: MediaLimits) -> Iterator[Source]:
    """`open_source`, with the decoder set to the sampling's accuracy."""
    with open_source(data, limits) as source:
        if sampling.accuracy == "fast":
            context = source.stream.codec_context
            context.options = {**context.options, "skip_loop_filter": "all"}
        yield source


def _short(
    source: Source, sampling: Sampling, scaler: FrameScaler, limits: MediaLimits
) -> Collector | None:
    """A finished collector that took a shortcut; None where there is none or it did not hold.

    What a shortcut stumbles over is left to the whole way, which says what is wrong with the clip.
    """
    shortcut = find_shortcut(source, sampling, limits)
    if shortcut is None:
        return None
    collector = Collector(source, sampling, scaler, limits, shortcut.end, shortcut)
    try:
        collector.run()
    except (FFmpegError, MediaError):
        return None
    unit = float(tick(source.stream))
    promised = [(pts - shortcut.first) * unit for pts in shortcut.promised]
    return collector if collector.took(promised) else None


def _searched_end(source: Source, data: bytes, limits: MediaLimits) -> int | None:
    """End in ticks by the packets; by the header's claim where the tail is missing or stampless."""
    end, claim = measured_end(data, limits), claimed_end(source)
    if end is None:
        return claim
    return max(end, claim) if source.cut_short and claim is not None else end
