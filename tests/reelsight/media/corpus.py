"""A hostile corpus of any size: case number N is always the same file.

Sound files are broken in every way that uploads and attackers break them. What comes out of a case
is for others to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.reelsight.media.corpus_bombs import (
    external_reference,
    image_bomb,
    playlist,
    video_bomb,
)
from tests.reelsight.media.corpus_pieces import rebuilt, siblings
from tests.reelsight.media.corpus_seeds import SEEDS, seed_file

__all__ = ["KINDS", "HostileFile", "hostile_file"]

# How often each kind comes up. Bombs cost the most time, and playlists say the least each.
KINDS = {
    "truncated": 12,
    "bits flipped": 20,
    "range zeroed": 8,
    "range repeated": 6,
    "numbers inflated": 14,
    "box dropped": 8,
    "boxes swapped": 8,
    "two files spliced": 6,
    "wrong extension": 4,
    "wrong head": 4,
    "playlist": 5,
    "external reference": 2,
    "image bomb": 2,
    "video bomb": 1,
}
_NUMBERS = (
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    bytes(4),
    b"\0\xff\xff\xff",
    b"\0\0\xff\xff",
)
_ENDINGS = (
    "mp4",
    "mov",
    "mkv",
    "webm",
    "avi",
    "ts",
    "jpg",
    "png",
    "webp",
    "m3u8",
    "mpd",
    "sdp",
    "txt",
)


@dataclass(frozen=True)
class HostileFile:
    """One case.

    Attributes:
        seed: Its number, from which it can be made again.
        kind: What was done, one of KINDS.
        name: What the file calls itself.
        data: Its bytes.
    """

    seed: int
    kind: str
    name: str
    data: bytes


def hostile_file(seed: int, canary: Path) -> HostileFile:
    """Make case `seed`; its playlists lead to `canary`."""
    rng = Random(seed)
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    name = rng.choice(SEEDS)
    makers = {
        "playlist": lambda: playlist(rng, canary),
        "external reference": lambda: external_reference(rng, canary),
        "image bomb": lambda: image_bomb(rng),
        "video bomb": lambda: video_bomb(rng),
    }
    if kind in makers:
        return HostileFile(seed, kind, f"{kind.replace(' ', '-')}.mp4", makers[kind]())
    data = seed_file(name)
    if kind == "wrong extension":
        name = f"{name.rpartition('.')[0]}.{rng.choice(_ENDINGS)}"
    return HostileFile(seed, kind, name, _broken(rng, kind, name, data))


def _broken(rng: Random, kind: str, name: str, data: bytes) -> bytes:
    if kind == "truncated":
        return data[: rng.randrange(len(data))]
    if kind == "bits flipped":
        return _flipped(rng, data)
    if kind in ("range zeroed", "range repeated"):
        return _ranged(rng, kind, data)
    if kind == "numbers inflated":
        return _numbered(rng, data)
    if kind in ("box dropped", "boxes swapped"):
        return _reordered(rng, kind, name, data)
    if kind == "two files spliced":
        other = seed_file(rng.choice(SEEDS))
        return (
            data[: rng.randrange(len(data))] + other[rng.choice((0, rng.randrange(len(other)))) :]
        )
    if kind == "wrong head":
        return seed_file(rng.choice(SEEDS))[: rng.choice((4, 12, 32, 64))] + data[64:]
    return data


def _flipped(rng: Random, data: bytes) -> bytes:
    """Bits, all over or in the first kilobyte, where headers are."""
    out, reach = bytearray(data), rng.choice((len(data), min(len(data), 1024)))
    for _ in range(rng.choice((1, 3, 10, 100))):
        out[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _ranged(rng: Random, kind: str, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    length = rng.choice((8, 64, 512, 4096))
    if kind == "range zeroed":
        return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]
    return data[: start + length] + data[start:]


def _numbered(rng: Random, data: bytes) -> bytes:
    """Extreme 32-bit numbers, mostly near one end of the file, where the tables are."""
    out = bytearray(data)
    low, high = rng.choice(((0, 1500), (len(data) - 1500, len(data)), (0, len(data))))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(max(0, low), min(high, len(data)))
        out[at : at + 4] = rng.choice(_NUMBERS)
    return bytes(out)


def _reordered(rng: Random, kind: str, name: str, data: bytes) -> bytes:
    group = rng.choice(siblings(name, data))
    order = list(range(len(group)))
    if kind == "box dropped":
        order.remove(rng.choice(order))
        return rebuilt(data, group, order)
    one, other = rng.sample(order, 2)
    order[one], order[other] = order[other], order[one]
    return rebuilt(data, group, order)
