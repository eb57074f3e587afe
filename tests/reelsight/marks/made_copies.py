"""Orders that can be issued, and soft bits of copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.marks.codeword import codeword
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Order
from reelsight.nouns.mark import Carrier, Identity, SoftBits

ASSET = "a" * 64


def order(recipient: str, asset: str = "film", epoch: int = 0, **rest: object) -> Order:
    """An order that can be issued."""
    identity = Identity(asset, recipient, epoch)
    return Order(identity, ASSET, "screener", Carrier("reelmark", "1"), **rest)  # type: ignore[arg-type]


def frames_of(
    keyring: Keyring,
    recipients: list[str],
    count: int,
    sigma: float,
    seed: int = 1,
    bits: int = 64,
) -> SoftBits:
    """Frames of copies: averaged where there are several; Gaussian noise; two frames a second."""
    rng = np.random.default_rng(seed)
    codes = [codeword(keyring.issuing, Identity("film", name), bits).signs for name in recipients]
    base = np.mean(codes, axis=0) if codes else np.zeros(bits)
    soft = base + sigma * rng.standard_normal((count, bits))
    return soft_bits(soft)


def soft_bits(soft: npt.NDArray[np.float64], presence: float = 0.5) -> SoftBits:
    """Soft bits [F, n] as an extractor hands them over, two frames a second."""
    count = len(soft)
    return SoftBits(
        pts=np.arange(count, dtype=np.float64) / 2,
        soft=soft.astype(np.float32),
        quality=np.ones(count, dtype=np.float32),
        presence=np.full(count, presence, dtype=np.float32),
    )
