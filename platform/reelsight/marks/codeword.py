"""Codewords: the bits that one recipient's copy carries, their commitment, and the copy's serial.

All are derived from the tenant key and the copy's identity, so the key and the ledger's rows are
enough to have them again. Between the two stands a key for each copy: given to somebody, it proves
that copy's codes, static or by segment, and tells nothing of another's.

A codeword is whatever the function gives: never chosen, never rejected for lying close to another,
because the bound of `reelsight.marks.bound` holds for uniform codes alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reelsight.errors import MarkError
from reelsight.marks.keys import TenantKey
from reelsight.marks.policy import CODE_LENGTHS
from reelsight.nouns.mark import Identity

__all__ = ["Codeword", "Opening", "code_function", "codeword", "opening", "serial_of"]


@dataclass(frozen=True, slots=True)
class Codeword:
    """n bits.

    Attributes:
        data: The bits, first bit in the highest place of the first byte. Not shown by repr: whoever
            knows them can forge this recipient's mark on this asset.
    """

    data: bytes = field(repr=False)

    def __len__(self) -> int:
        return 8 * len(self.data)

    @property
    def signs(self) -> npt.NDArray[np.int8]:
        """int8 [n], -1 for a bit that is 0 and +1 for one that is 1."""
        bits = np.unpackbits(np.frombuffer(self.data, dtype=np.uint8))
        return (2 * bits.astype(np.int8) - 1).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens a commitment: the copy's key, from which its codes follow and no other copy's.

    Attributes:
        copy_key: 32 bytes, hex.
    """

    copy_key: str = field(repr=False)

    @property
    def commitment(self) -> str:
        """sha256 (hex) that binds a row to its codes and shows nothing of them."""
        data = b"reelsight mark commitment 1\n" + bytes.fromhex(self.copy_key)
        return hashlib.sha256(data).hexdigest()

    def commits_to(self, found: str) -> bool:
        """Whether this opens the commitment `found` (hex)."""
        return self.commitment == found

    def codeword(self, bits: int, segment: int | None = None) -> Codeword:
        """The code that this copy carries; see the function of that name.

        Raises:
            MarkError: As that does.
        """
        message, length = _message(bits, segment)
        key = bytes.fromhex(self.copy_key)
        return Codeword(hmac.digest(key, message, "sha256")[:length])


def codeword(key: TenantKey, identity: Identity, bits: int, segment: int | None = None) -> Codeword:
    """The codeword of a copy: HMAC-SHA256 under the copy's key, cut to its first `bits` bits.

    Args:
        key: The tenant's.
        identity: What the code stands for.
        bits: 64, 96 or 128.
        segment: Number of the segment, >= 0, for a pad that rotates; None for one code throughout.

    Raises:
        MarkError: `mark.bits`, or a negative segment.
    """
    return Codeword(code_function(key, bits, segment)(identity))


def code_function(
    key: TenantKey, bits: int, segment: int | None = None
) -> Callable[[Identity], bytes]:
    """`codeword` for many identities: what does not depend on them is done once.

    Raises:
        MarkError: As `codeword` does.
    """
    message, length = _message(bits, segment)
    secret = key.subkey("copy")

    def derive(identity: Identity) -> bytes:
        copy_key = hmac.digest(secret, identity.encoded, "sha256")
        return hmac.digest(copy_key, message, "sha256")[:length]

    return derive


def serial_of(key: TenantKey, identity: Identity) -> str:
    """The copy's serial: 16 characters of base32, the same for equal identities under one key."""
    digest = hmac.digest(key.subkey("serial"), identity.encoded, "sha256")
    return base64.b32encode(digest[:10]).decode()


def opening(key: TenantKey, identity: Identity) -> Opening:
    """What opens the commitment of a copy."""
    return Opening(hmac.digest(key.subkey("copy"), identity.encoded, "sha256").hex())


def _message(bits: int, segment: int | None) -> tuple[bytes, int]:
    """What the copy's key signs for a code, and the code's bytes."""
    if bits not in CODE_LENGTHS:
        raise MarkError(f"a code has {CODE_LENGTHS} bits, not {bits!r}", code="mark.bits")
    if segment is not None and segment < 0:
        raise MarkError(f"segments count from 0, got {segment!r}", code="mark.segment")
    # Segment 0 of a rotating pad is another code than the static one.
    place = (0 if segment is None else segment + 1).to_bytes(8, "big")
    return b"codeword" + place + bits.to_bytes(4, "big"), bits // 8
