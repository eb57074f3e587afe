"""decode: one pass over a clip that scales only the frames asked for.

One clip, one thread. Several consumers may share the pass: each has its own times and its own
picture size, and a picture is decoded once for all of them. Geometry `active` takes a second pass
where its pictures are too large to be kept until black bars are known. Where the packets allow it,
a pass takes a shortcut to the same frames; whatever is uncertain, and every error, goes the whole
way. No picture is converted that was not sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from av.error import FFmpegError

from reelsight.errors import MediaError
from reelsight.media.active_scaler import ActiveScaler, LumaKeeper
from reelsight.media.collector import Collector, collect
from reelsight.media.container import Source, open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look, why_apart
from reelsight.media.magic import is_still
from reelsight.media.packet_index import may_pass_over
from reelsight.media.pixels import FrameScaler, Scaler
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling
from reelsight.media.shortcut import find_shortcuts
from reelsight.media.stills import decode_still
from reelsight.media.timeline import claimed_end, header_end, measured_end, tick
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["decode", "decode_together"]

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
    clip, frames = decode_together(clip_id, uri, data, (Look(sampling, geometry),), limits)
    return clip, frames[0]


def decode_together(
    clip_id: str, uri: str, data: bytes, looks: Sequence[Look], limits: MediaLimits
) -> tuple[Clip, tuple[Frames, ...]]:
    """What `decode` gives for each of several looks, from one pass over the clip.

    Args:
        clip_id: Name that the results carry.
        uri: Where the bytes came from; only recorded.
        data: The whole file.
        looks: What is asked for, by each consumer; at least one.
        limits: Caps, for each look by itself, and the policy on damage.

    Returns:
        The clip as the first look finds it, and the frames of each: equal to those of a pass of
        its own.

    Raises:
        MediaError: As `decode`; of several looks also `media.apart`, where a shared pass might give
            one of them something else than its own would. Each can then be decoded by itself.
    """
    if is_still(data):
        # What a still is unpacked at hangs on the size that is asked for.
        each = [
            decode_still(clip_id, uri, data, look.sampling, look.geometry, limits) for look in looks
        ]
        return each[0][0], tuple(frames for _, frames in each)
    if len(looks) > 1 and (why := why_apart(looks)) is not None:
        raise _apart(why)
    clip = Clip.of_bytes(clip_id, uri, data)
    collectors = _collected(
        data, looks, [partial(_scaler, look.geometry) for look in looks], limits
    )
    found = [
        _scaled(data, look, collector, limits)
        for look, collector in zip(looks, collectors, strict=True)
    ]
    first = found[0]
    clip = first.header.fill(clip, first.claimed_s)
    return clip, tuple(collector.frames(clip_id) for collector in found)


def _scaler(geometry: Geometry) -> FrameScaler:
    return LumaKeeper(geometry) if geometry.mode == "active" else Scaler(geometry)


def _scaled(data: bytes, look: Look, collector: Collector, limits: MediaLimits) -> Collector:
    """The collector of a look, once its pictures are what they are to be."""
    keeper = collector.scaler
    if not isinstance(keeper, LumaKeeper) or keeper.write(collector.pictures):
        return collector
    again = partial(ActiveScaler, look.geometry, keeper.boxes())
    return _collected(data, (look,), [again], limits)[0]


def _collected(
    data: bytes, looks: Sequence[Look], scalers: Sequence[MakeScaler], limits: MediaLimits
) -> list[Collector]:
    """One pass over the clip, along a shortcut where there is one."""
    samplings = [look.sampling for look in looks]
    with _open(data, samplings[0], limits) as source:
        if collectors := _short(source, samplings, scalers, limits):
            return collectors
    with _open(data, samplings[0], limits) as source:
        # Elsewhere a time takes the last picture at or before it, and passing over pictures would
        # hang the frames of a damaged clip on where the damage lies.
        only = samplings[0]
        passing = only.policy == "scene" and only.accuracy != "exact" and may_pass_over(source)
        reader = FrameReader(source, limits, passing=passing)
        collectors = []
        for sampling, scaler in zip(samplings, scalers, strict=True):
            end = header_end(source)
            if end is None and (sampling.policy == "count" or passing):
                end = _searched_end(source, data, limits)
            one = Collector(source, reader, sampling, scaler(), limits, end, passing=passing)
            collectors.append(one)
        collect(reader, collectors)
        return collectors


@contextmanager
def _open(data: bytes, sampling: Sampling, limits: MediaLimits) -> Iterator[Source]:
    """`open_source`, with the decoder set to the sampling's accuracy."""
    with open_source(data, limits) as source:
        if sampling.accuracy == "fast":
            context = source.stream.codec_context
            context.options = {**context.options, "skip_loop_filter": "all"}
        yield source


def _short(
    source: Source,
    samplings: Sequence[Sampling],
    scalers: Sequence[MakeScaler],
    limits: MediaLimits,
) -> list[Collector] | None:
    """Finished collectors that took a shortcut; None where there is none or it did not hold.

    What a shortcut stumbles over is left to the whole way, which says what is wrong with the clip.

    Raises:
        MediaError: `media.apart`: it did not hold for several looks. Which of them had stumbled by
            itself, only passes of their own can tell.
    """
    shortcuts = find_shortcuts(source, samplings, limits)
    if shortcuts is None:
        return None
    reader = FrameReader(source, limits, shortcuts[0])
    collectors = [
        Collector(source, reader, sampling, scaler(), limits, shortcut.end, shortcut)
        for sampling, scaler, shortcut in zip(samplings, scalers, shortcuts, strict=True)
    ]
    try:
        collect(reader, collectors)
        unit = float(tick(source.stream))
        held = all(
            collector.took([(pts - shortcut.first) * unit for pts in shortcut.promised])
            for collector, shortcut in zip(collectors, shortcuts, strict=True)
        )
    except (FFmpegError, MediaError):
        held = False
    if not held and len(collectors) > 1:
        raise _apart("the shortcut did not hold")
    return collectors if held else None


def _apart(why: str) -> MediaError:
    return MediaError(
        f"one pass cannot serve all that is asked of the clip: {why}",
        code="media.apart",
        hint="Decode each by itself.",
    )


def _searched_end(source: Source, data: bytes, limits: MediaLimits) -> int | None:
    """End in ticks by the packets; by the header's claim where the tail is missing or stampless."""
    end, claim = measured_end(data, limits), claimed_end(source)
    if end is None:
        return claim
    return max(end, claim) if source.cut_short and claim is not None else end
