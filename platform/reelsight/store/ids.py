"""Clip ids as numbers: which shard an id belongs to, and one digest for any set of ids.

The digest is a sum, so that it can be made in parts, in any order and by several tasks, and still
says whether the parts together are exactly the ids that were asked for: one lost and one doubled
do not make up for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["NO_IDS", "hash_ids", "ids_digest", "shards_of", "sum_digests"]

Hashes = npt.NDArray[np.uint64]
NO_IDS = "0" * 32


def hash_ids(ids: pa.ChunkedArray | pa.Array) -> Hashes:
    """uint64 [N, 2]: the first 128 bits of each id's sha256."""
    content = b"".join(sha256(text.encode()).digest()[:16] for text in ids.to_pylist())
    return np.frombuffer(content, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def shards_of(hashes: Hashes, shards: int) -> npt.NDArray[np.int64]:
    """int64 [N]: the shard of each id, 0..shards-1."""
    return (hashes[:, 0] % np.uint64(shards)).astype(np.int64)


def ids_digest(hashes: Hashes) -> str:
    """32 hex digits: both columns summed modulo 2**64."""
    high, low = np.add.reduce(hashes, axis=0, dtype=np.uint64) if len(hashes) else (0, 0)
    return f"{int(high):016x}{int(low):016x}"


def sum_digests(digests: Iterable[str]) -> str:
    """The digest of several sets together."""
    high = low = 0
    for text in digests:
        high += int(text[:16], 16)
        low += int(text[16:], 16)
    return f"{high % 2**64:016x}{low % 2**64:016x}"
