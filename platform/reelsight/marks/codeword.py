"""Codewords: the bits that one recipient's copy carries, their commitment, and the copy's serial.

All three are derived from the tenant key and the copy's identity, so the key and the ledger's rows
are enough to have them again. A codeword is whatever the function gives: never chosen, never
rejected for lying close to another, because the bound of `reelsight.marks.bound` holds for
uniform codes alone.
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

__all__ = ["Codeword", "Opening", "code_function", "codeword", "commitment", "opening", "serial_of"]


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
    """What opens a commitment: the codeword and the salt, both hex.

    Attributes:
        code: The codeword.
        salt: 16 bytes from the tenant key; without it 64 bits could be found by trying.
    """

    code: str
    salt: str

    def commits_to(self, found: str) -> bool:
        """Whether this opens the commitment `found` (hex)."""
        return hmac.compare_digest(
            _commit(bytes.fromhex(self.code), bytes.fromhex(self.salt)), found
        )


def codeword(key: TenantKey, identity: Identity, bits: int, segment: int | None = None) -> Codeword:
    """The codeword of a copy.

    HMAC-SHA256 in the shape of NIST SP 800-108 (label in the subkey; context and length in the
    message), cut to its first `bits` bits.

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
    if bits not in CODE_LENGTHS:
        raise MarkError(f"a code has {CODE_LENGTHS} bits, not {bits!r}", code="mark.bits")
    if segment is not None and segment < 0:
        raise MarkError(f"segments count from 0, got {segment!r}", code="mark.segment")
    # Segment 0 of a rotating pad is another code than the static one.
    tail = (0 if segment is None else segment + 1).to_bytes(8, "big") + bits.to_bytes(4, "big")
    secret, length = key.subkey("codeword"), bits // 8

    def derive(identity: Identity) -> bytes:
        return hmac.digest(secret, identity.encoded + tail, "sha256")[:length]

    return derive


def serial_of(key: TenantKey, identity: Identity) -> str:
    """The copy's serial: 16 characters of base32, the same for equal identities under one key."""
    digest = hmac.digest(key.subkey("serial"), identity.encoded, "sha256")
    return base64.b32encode(digest[:10]).decode()


def opening(key: TenantKey, identity: Identity, bits: int) -> Opening:
    """What opens the commitment of a copy's static code.

    Raises:
        MarkError: As `codeword` does.
    """
    salt = hmac.digest(key.subkey("salt"), identity.encoded, "sha256")[:16]
    return Opening(codeword(key, identity, bits).data.hex(), salt.hex())


def commitment(opened: Opening) -> str:
    """sha256 (hex) that binds a row to its code and shows nothing of it."""
    return _commit(bytes.fromhex(opened.code), bytes.fromhex(opened.salt))


def _commit(code: bytes, salt: bytes) -> str:
    head = b"reelsight mark commitment 1\n" + bytes([len(salt), len(code)])
    return hashlib.sha256(head + salt + code).hexdigest()
