"""Embedding: one marked copy of a film, from the asset to a file that was read back.

States of a copy: looked at (bars, texture) -> written beside its place -> read back -> told ->
moved to its place. Whatever fails leaves nothing. A copy in which its own code cannot be read well
enough to name it is refused: it could never be traced.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from reelsight.copies.encoder import CopyWriter, EncoderSettings, container_of
from reelsight.copies.film import open_film
from reelsight.copies.marker import CodeAt, Marker
from reelsight.copies.proof import ReadBack, read_back
from reelsight.copies.texture import SMALLEST_SIDE, texture
from reelsight.digest import file_sha256
from reelsight.engine.host import EngineHost
from reelsight.engine.protocol import MarkWriter
from reelsight.errors import MarkError
from reelsight.media.active_scaler import Boxes, PeakKeeper, upright
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Box, luma_of, squash
from reelsight.media.orientation import orientation_of
from reelsight.nouns.engine_spec import Geometry

__all__ = ["SHORTEST_S", "EmbeddedCopy", "Embedder"]

SHORTEST_S = 1.0
"""Seconds below which an asset is not marked: a copy has to be named by what can be seen of it."""

_FEWEST_FRAMES = 12
_LEAST_TEXTURE = 0.05
# Pictures between two whose texture is measured.
_LOOK_EVERY = 12


@dataclass(frozen=True, slots=True)
class EmbeddedCopy:
    """A copy that was made.

    Attributes:
        sha256: Hex digest of the file.
        frames: Pictures that were marked.
        duration_s: From the first picture to the end of the last, seconds.
        active: The largest active picture, upright.
        psnr_db: Luma of the active picture, marked against source pictures, before encoding.
        ssim: The same, over the pictures for which a residual was drawn.
        encoder: How pictures were encoded.
        copied: Streams that were copied as they were.
        left_out: Streams that the copy lacks.
        proof: What was read back of the file.
    """

    sha256: str
    frames: int
    duration_s: float
    active: Box
    psnr_db: float
    ssim: float
    encoder: str
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    proof: ReadBack


@dataclass(frozen=True, slots=True)
class _Look:
    """What an asset is, seen once."""

    boxes: Boxes
    frames: int
    duration_s: float


class Embedder:
    """Makes marked copies.

    Args:
        writer: Draws marks.
        host: Reads copies back; of the extractor that belongs to the writer.
        limits: Caps on assets' streams and pictures.
        strength_db: PSNR of a mark, dB; the lower the stronger.
        encoding: How pictures are encoded.
        progress: Told how many pictures were marked, and of how many.
    """

    def __init__(
        self,
        writer: MarkWriter,
        host: EngineHost,
        limits: MediaLimits,
        *,
        strength_db: float,
        encoding: EncoderSettings,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._writer, self._host, self._limits = writer, host, limits
        self._strength_db, self._encoding = strength_db, encoding
        self._progress = progress

    def embed(
        self,
        asset: Path,
        target: Path,
        code_at: CodeAt,
        tell: Callable[[EmbeddedCopy], None] = lambda copy: None,
    ) -> EmbeddedCopy:
        """Mark an asset into a file that is there whole or not at all.

        Args:
            asset: The unmarked film.
            target: The copy; must not exist.
            code_at: What is written when.
            tell: Called with the finished copy before it is moved to its place; what it raises
                leaves no copy.

        Raises:
            MarkError: `mark.exists`, `mark.container`, `mark.too_short`, `mark.too_small`,
                `mark.flat`, `mark.interlaced`, `mark.not_encoded`, or `mark.unreadable` where the
                copy could not be traced.
            MediaError: As `open_film`; `media.damaged`.
            FetchError: The asset cannot be read.
            EngineError: A network failed.
        """
        container = container_of(target)
        if target.exists():
            raise MarkError(
                f"{target} exists", code="mark.exists", hint="Name a file that is not there."
            )
        look = self._look(asset)
        partial = _beside(target)
        try:
            made = self._write(asset, partial, container, code_at, look)
            tell(made)
            _settle(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return made

    def _look(self, asset: Path) -> _Look:
        """Go through an asset once: its bars, and whether a mark can be in it."""
        geometry = Geometry(self._writer.size, "active")
        peaks, reformatter = PeakKeeper(geometry), VideoReformatter()
        shares, stamps, frames, last = [], [0, 0], 0, 0
        with open_film(asset, self._limits) as film:
            for frame in film.frames():
                if frame.interlaced_frame:
                    raise _refused(
                        "mark.interlaced",
                        f"{asset} is interlaced",
                        "Deinterlace it first: copies are encoded progressively.",
                    )
                luma = upright(luma_of(frame, reformatter), orientation_of(frame))
                peaks.see(luma)
                if frames % _LOOK_EVERY == 0:
                    whole = Box(0, luma.shape[0], 0, luma.shape[1])
                    small = squash(luma, whole, self._writer.size)
                    shares.append(float(texture(small[None])[0]))
                stamp = frame.pts if frame.pts is not None else last + 1
                stamps = [stamp if not frames else stamps[0], max(stamps[1], stamp)]
                last, frames = stamp, frames + 1
                length = frame.duration or 0
            seconds = float((stamps[1] - stamps[0] + (length if frames else 0)) * film.unit)
            film.require_whole(seconds)
        if seconds < SHORTEST_S or frames < _FEWEST_FRAMES:
            raise _refused(
                "mark.too_short",
                f"{asset} has {frames} pictures in {seconds:.2f} s, a copy needs {_FEWEST_FRAMES} "
                f"in {SHORTEST_S:g} s",
                "Mark the whole film that it is a part of.",
            )
        boxes = peaks.boxes()
        sides = [s for b in boxes.values() for s in (b.bottom - b.top, b.right - b.left)]
        if min(sides) < SMALLEST_SIDE:
            raise _refused(
                "mark.too_small",
                f"{asset} shows a picture of {min(sides)} pixels, {SMALLEST_SIDE} are needed",
                "Mark the asset at its full size, and scale copies afterwards.",
            )
        if float(np.mean(shares)) < _LEAST_TEXTURE:
            raise _refused(
                "mark.flat",
                f"{asset} is flat: {np.mean(shares):.1%} of it can hold a mark",
                "Nothing survives an encoder in flat pictures. Protect it by other means.",
            )
        return _Look(boxes, frames, seconds)

    def _write(
        self, asset: Path, partial: Path, container: str, code_at: CodeAt, look: _Look
    ) -> EmbeddedCopy:
        marker = Marker(self._writer, code_at, self._strength_db, look.boxes)
        reformatter, done, first = VideoReformatter(), 0, 0
        with open_film(asset, self._limits) as film:
            try:
                out = CopyWriter(partial, container, film, self._encoding)
            except (FFmpegError, OSError) as error:
                raise MarkError(
                    f"{partial.parent} takes no copy: {error}", code="mark.not_encoded"
                ) from error
            with out:
                for packet, frames in film.packets(tuple(out.copied)):
                    if packet is not None:
                        out.copy(packet)
                    for frame in frames:
                        wanted, stamp = out.format_for(frame), frame.pts or 0
                        first = stamp if not done else first
                        ready = frame
                        if frame.format.name != wanted:
                            ready = reformatter.reformat(frame, format=wanted)
                            ready.pts, ready.duration = frame.pts, frame.duration
                        marker.mark(ready, float((stamp - first) * film.unit))
                        out.write(ready)
                        done += 1
                        self._progress(done, look.frames)
            copied = tuple(_named(stream.index, stream.type) for stream in out.copied)
        proof = read_back(partial, self._host, code_at, look.boxes, self._limits)
        proof.require()
        box = max(look.boxes.values(), key=lambda b: (b.bottom - b.top) * (b.right - b.left))
        return EmbeddedCopy(
            sha256=file_sha256(partial),
            frames=done,
            duration_s=look.duration_s,
            active=box,
            psnr_db=marker.likeness.psnr_db,
            ssim=marker.likeness.ssim,
            encoder=out.words,
            copied=copied,
            left_out=tuple(out.left_out),
            proof=proof,
        )


def _beside(target: Path) -> Path:
    """A new file in the directory of a copy, of the same kind."""
    directory = target.absolute().parent
    try:
        handle, name = tempfile.mkstemp(dir=directory, prefix=".copy-", suffix=target.suffix)
    except OSError as error:
        raise MarkError(
            f"nothing can be written into {directory}: {error.strerror}",
            code="mark.not_encoded",
            hint="Name a directory that is there and can be written to.",
        ) from error
    os.close(handle)
    return Path(name)


def _settle(partial: Path, target: Path) -> None:
    """Move a finished file to its place; it is there whole, and stays."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.chmod(0o644)
    try:
        # A link refuses what is there already, where a rename would replace it.
        os.link(partial, target)
    except FileExistsError as error:
        raise MarkError(f"{target} exists", code="mark.exists") from error
    except OSError:  # A file system without links.
        os.replace(partial, target)
    directory = os.open(target.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _named(index: int, kind: str) -> str:
    return f"stream {index} ({kind})"


def _refused(code: str, message: str, hint: str) -> MarkError:
    return MarkError(message, code=code, hint=hint)
