"""Files that cost more than they weigh, and files that point at another file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import av
import numpy as np
from PIL import Image

from tests.reelsight.media.corpus_seeds import seed_file
from tests.reelsight.media.made_clips import Recipe, encode, even
from tests.reelsight.media.made_stills import (
    encoded,
    extended_webp,
    png_bomb,
    png_of,
    resized_jpeg,
)

__all__ = [
    "CANARY",
    "HEADS",
    "LISTS",
    "external_reference",
    "image_bomb",
    "lay_canary",
    "playlist",
    "video_bomb",
]

# What the file beside shows: left and right half. Nothing else in a corpus has colours.
CANARY = ((255, 0, 255), (0, 255, 0))
_FAST = (("preset", "ultrafast"), ("crf", "30"))
_HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 10_000_000, 600_000)


def lay_canary(folder: Path) -> Path:
    """Write the file beside in the forms that playlists take: canary.mp4, .ts, .png, 000.png.

    Returns:
        The path of canary.mp4.
    """
    halves = np.repeat(np.array([CANARY], np.uint8), 48, axis=1).repeat(64, axis=0)
    picture = Image.fromarray(halves)
    for name in ("canary.png", "000.png", "001.png"):
        picture.save(folder / name)
    for container in ("mp4", "ts"):
        with av.open(str(folder / f"canary.{container}"), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for _ in range(50):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(halves, format="rgb24")))
            out.mux(stream.encode(None))
    return folder / "canary.mp4"


# Formats whose files name other files, leading to {path}.
LISTS: dict[str, str] = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{path}\n"
    "#EXT-X-ENDLIST\n",
    "hls master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{path}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "concat": "file '{path}'\nfile '{path}'\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
    "mediaPresentationDuration='PT2S'><Period><AdaptationSet mimeType='video/mp4'>"
    "<Representation id='1' bandwidth='1'><BaseURL>{path}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{path}\n",
    "asx": "<asx version='3.0'><entry><ref href='{path}'/></entry></asx>",
    "pls": "[playlist]\nFile1={path}\nNumberOfEntries=1\n",
    "svg": "<svg xmlns='http://www.w3.org/2000/svg'><image href='{path}'/></svg>",
    "images": "{folder}/%03d.png",
    "sub/other": "[Script Info]\n!include {path}\n",
}
# What a list may hide behind: nothing, a byte order mark, space, and the magic of containers.
HEADS = (
    b"",
    b"\xef\xbb\xbf",
    b"\n\n   ",
    b"\0\0\0\x18ftypisom\0\0\2\0isommp41",
    b"\0\0\0\x08free",
    b"\x1a\x45\xdf\xa3\x80",
    b"G" + bytes(187),
    b"RIFF\xff\xff\xff\xffAVI ",
    b"\xff\xd8\xff\xfe\x00\x04ab",
    b"\x89PNG\r\n\x1a\n",
)


def playlist(rng: Random, canary: Path) -> bytes:
    """A list that leads to the canary, bare or behind the first bytes of a container."""
    folder = canary.parent
    one = rng.choice((canary, folder / "canary.ts", folder / "canary.png"))
    path = rng.choice((str(one), one.as_uri(), one.name, f"concat:{one}", f"subfile,,:{one}"))
    text = rng.choice(list(LISTS.values())).format(path=path, folder=folder)
    return rng.choice(HEADS) + text.encode() * rng.choice((1, 1, 20))


def external_reference(rng: Random, canary: Path) -> bytes:
    """The canary's header alone, which says that its pictures lie in the canary (an alias)."""
    data, path = canary.read_bytes(), str(canary).encode()
    alias = bytes(10 + 1 + 27 + 12) + b"\x0acanary.mp4" + bytes(53)
    alias += bytes(16) + struct.pack(">HH", *rng.choice(((0, 0), (1, 1), (2, 1)))) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    entry = struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias
    start = data.index(b"moov") - 4
    moov = _with_reference(data[start:], struct.pack(">II", 0, 1) + entry)
    return data[: int.from_bytes(data[:4], "big")] + moov + bytes(rng.choice((0, 1000)))


def _with_reference(moov: bytes, body: bytes) -> bytes:
    """Replace the first track's `dref`, and make the boxes around it as much larger."""
    at = moov.index(b"dref") - 4
    end = at + int.from_bytes(moov[at : at + 4], "big")
    out = bytearray(moov)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = moov.index(kind) - 4
        size = int.from_bytes(moov[start : start + 4], "big") + len(body) + 8 - (end - at)
        out[start : start + 4] = struct.pack(">I", size)
    out[at:end] = struct.pack(">I", len(body) + 8) + b"dref" + body
    return bytes(out)


def image_bomb(rng: Random) -> bytes:
    """A still that claims, or is, far more picture than its bytes suggest."""
    side = rng.choice((1, 255, 5999, 6001, 8192, 20_000, 65_500, 0x3FFF, 1 << 24))
    other = rng.choice((1, 4000, 8192, 30_000, side))
    empty = b"\x78\x9c\x03\x00\x00\x00\x00\x01"
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: png_of(side, other, empty, rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 4, 6))),
        lambda: _real_png(rng.choice(((5900, 5900), (8192, 300), (9000, 9000)))),
        lambda: resized_jpeg(seed_file("baseline.jpg"), min(side, 65_500), min(other, 65_500)),
        lambda: resized_jpeg(seed_file("progressive.jpg"), min(side, 65_500), min(other, 65_500)),
        lambda: _scans(rng.choice((20, 60, 5000))),
        lambda: extended_webp(side, other, rng.choice((0, 2, 0x12)), seed_file("lossy.webp")[12:]),
    )
    return rng.choice(makers)()


@cache
def _real_png(size: tuple[int, int]) -> bytes:
    return png_bomb(*size)


@cache
def _scans(count: int) -> bytes:
    data = encoded(Image.new("RGB", (3000, 2000), (90, 90, 90)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def video_bomb(rng: Random) -> bytes:
    """A clip whose header or whose pictures are far larger than its bytes suggest."""
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: _inflated(rng),
        lambda: _inflated(rng),
        lambda: _solid(rng.choice(((8192, 4352), (8192, 8192), (16_000, 64)))),
        lambda: seed_file("h264.264") + _solid((8192, 8192)) + seed_file("h264.264"),
        lambda: encode(Recipe(even(200, 1), width=64, height=48)),
        lambda: encode(Recipe((0, 40, 80_000_000), width=64, height=48)),
        lambda: _many_streams(rng.choice((30, 60))),
        _many_pictures,
    )
    return rng.choice(makers)()


def _inflated(rng: Random) -> bytes:
    """An MP4 with a table, duration or size that claims enormous numbers."""
    data = bytearray(seed_file(rng.choice(("h264.mp4", "hevc.mp4", "vp9.mp4", "mpeg4.mp4"))))
    kind, field = rng.choice(
        (
            (b"stts", 8),
            (b"stts", 12),
            (b"stsz", 8),
            (b"stsz", 12),
            (b"stsc", 8),
            (b"stco", 8),
            (b"ctts", 8),
            (b"stss", 8),
            (b"elst", 8),
            (b"mvhd", 20),
            (b"mdhd", 16),
            (b"mdhd", 20),
            (b"tkhd", 80),
            (b"stsd", 44),
        )
    )
    at = data.find(kind)
    if at > 0:
        data[at + field : at + field + 4] = struct.pack(">I", rng.choice(_HUGE))
    return bytes(data)


@cache
def _solid(size: tuple[int, int]) -> bytes:
    """Raw H.264 of two grey pictures."""
    wide, high = size
    recipe = Recipe((0, 40), container="h264", width=wide, height=high, options=_FAST)
    return encode(recipe)


@cache
def _many_streams(count: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = [out.add_stream("mpeg4", rate=25) for _ in range(count)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for stream in streams:
            grey = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            out.mux(stream.encode(grey))
            out.mux(stream.encode(None))
    return file.getvalue()


@cache
def _many_pictures() -> bytes:
    """5,000 pictures of a few hundred bytes each."""
    return encode(Recipe((0,), container="h264", width=32, height=32, options=_FAST)) * 5000
