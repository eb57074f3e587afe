"""Mark: whose copy it is, what was issued, and what an extractor read per frame."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Carrier", "Identity", "IssuedCopy", "Pad", "SoftBits", "require_name"]

Pad = Literal["static", "rotating"]
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """What a codeword stands for.

    Attributes:
        asset: Name of the asset in the tenant's catalogue.
        recipient: Name of who gets the copy; a pseudonym, because ledgers forget nothing.
        epoch: Counts further copies of one asset to one recipient, from 0.
        encoded: The three without ambiguity: each with its length before it.

    Raises:
        ValueError: A name is empty, too long, holds control characters or is not in Unicode's
            normal form C; or the epoch does not fit 32 bits.
    """

    asset: str
    recipient: str
    epoch: int = 0
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = []
        for name in ("asset", "recipient"):
            value = getattr(self, name)
            require_name(name, value)
            data = value.encode()
            parts += [len(data).to_bytes(4, "big"), data]
        if not 0 <= self.epoch < 2**32:
            raise ValueError(f"epoch must be 0..2^32-1, got {self.epoch!r}")
        parts.append(self.epoch.to_bytes(4, "big"))
        object.__setattr__(self, "encoded", b"".join(parts))


def require_name(what: str, value: str) -> None:
    """Refuse what is no name of an asset, recipient or channel.

    Raises:
        ValueError: It is empty, too long, has control characters or spaces at its ends, or is not
            in normal form C (two spellings of one name would be two copies).
    """
    if not value or len(value) > _LONGEST or value != value.strip():
        raise ValueError(f"{what} must have 1..{_LONGEST} characters, no space at its ends")
    if not value.isprintable() or not unicodedata.is_normalized("NFC", value):
        raise ValueError(f"{what} {value!r} is not printable text in normal form C")


@dataclass(frozen=True, slots=True)
class Carrier:
    """What put the mark into the picture.

    Attributes:
        model: Name of the embedding model.
        version: Version of the model and its carriers.
    """

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class IssuedCopy:
    """What the ledger says of one issued copy.

    Attributes:
        identity: Asset, recipient and epoch.
        asset_sha256: sha256 (hex) of the unmarked asset.
        channel: How the copy goes out, such as `screener` or `hls`.
        valid_from: ISO 8601, UTC: from when the copy may be in the recipient's hands.
        bits: Length of the code.
        pad: `static`, or `rotating` with a code for each segment.
        segment_s: Length of a segment of a rotating pad, seconds; None for a static one.
        carrier: Model and version of the mark.
        key_id: Which tenant key.
        commitment: sha256 (hex) that binds the row to its code; see `reelsight.marks.codeword`.
        psnr_db: Of the marked copy against the asset, where it was known when issued.
        encoder: How the copy was encoded, in the encoder's own words, where known when issued.
    """

    identity: Identity
    asset_sha256: str
    channel: str
    valid_from: str
    bits: int
    pad: Pad
    segment_s: float | None
    carrier: Carrier
    key_id: str
    commitment: str
    psnr_db: float | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SoftBits:
    """What one extractor read in one view of a suspect, frame by frame.

    Attributes:
        pts: float64 [F], seconds from the start, ascending.
        soft: float32 [F, n], one value a bit: positive for 1, larger for surer (logits).
        quality: float32 [F], weight of each frame, >= 0: its texture, QP, whether it is a keyframe.
        presence: float32 [F], 0..1, the extractor's guess that a frame is marked; never evidence.
        view: How the frames were prepared, such as `as it is` or `mirrored`.
        extractor_sha256: sha256 (hex) of the extractor's file.

    Raises:
        ValueError: Lengths differ, times go back, or a value is not finite.
    """

    pts: npt.NDArray[np.float64]
    soft: npt.NDArray[np.float32]
    quality: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    view: str = "as it is"
    extractor_sha256: str = ""

    def __post_init__(self) -> None:
        if self.soft.ndim != 2:
            raise ValueError(f"soft bits are [frames, bits], got shape {self.soft.shape}")
        if not len(self.pts) == len(self.soft) == len(self.quality) == len(self.presence):
            raise ValueError(
                f"{len(self.pts)} pts, {len(self.soft)} soft bits, {len(self.quality)} qualities "
                f"and {len(self.presence)} presences"
            )
        if not all(
            np.isfinite(a).all() for a in (self.pts, self.soft, self.quality, self.presence)
        ):
            raise ValueError("soft bits, times, qualities and presences must be finite")
        if (np.diff(self.pts) < 0).any() or (self.quality < 0).any():
            raise ValueError("times must ascend and qualities be >= 0")

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def bits(self) -> int:
        """Length of the code that is read."""
        return int(self.soft.shape[1])
