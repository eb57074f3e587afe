"""Marking: how copies are marked and traced, as settings.

Plain values with stated defaults. It does not read keys or open ledgers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from reelsight.errors import ConfigError

__all__ = ["CODE_LENGTHS", "SHORTEST_SEGMENT_S", "Marking", "ReaderPrecision"]

ReaderPrecision = Literal[
    "auto", "fp32", "fp16", "fp16-norms32", "bf16", "int8", "int8-fp32", "fp8"
]
CODE_LENGTHS = (64, 96, 128)
SHORTEST_SEGMENT_S = 0.5
"""Least length of a segment of a rotating pad, seconds."""


@dataclass(frozen=True, slots=True)
class Marking:
    """Settings of marks.

    Attributes:
        key: Tenant key, `hmac-sha256:BASE64`; for the environment, where a file cannot be had.
        key_file: File of tenant keys, one a line, the one that issues first; its mode must shut
            out everybody but its owner.
        ledger: SQLite file, or `postgresql://` URL, which may hold a password; None for
            `marks.ledger` below data_dir.
        ledger_wait_s: How long an issuer waits for another one to commit, seconds.
        bits: Length of a codeword: 64, 96 or 128.
        identified: Adjusted p-value at or below which a recipient is named.
        probable: Adjusted p-value at or below which a person has to look.
        segment_s: Length of a segment in which frames are summed, seconds; longer where a clip
            would have more than max_segments.
        max_segments: Most segments of a clip.
        clip_at: Soft bits are limited to this many times their median absolute value.
        presence: Pooled presence score from which a copy without a match counts as marked.
        pair: Directory of the networks that write and read marks; the shipped ones by default.
        precision: Of the extractor that traces: a plan such as `int8-fp32`, or `auto`; whatever is
            not `fp32` is a package that `engine build --pair` made.
        backend: That runs it; `auto` for the best that has a package here, and the pair's own file
            on the CPU for `fp32`.
        strength_db: PSNR of a mark when it is drawn, dB; the lower the stronger and the easier to
            see.
        policy: Frames that are read, by the name of a sampling; by default as many as name a copy
            of which two bits in five are wrong in each frame, were frames independent.
        search: Whether cuts to the middle and a border are looked for; every view is counted.

    Raises:
        ConfigError: A value is outside its range.
    """

    key: SecretStr | None = None
    key_file: Path | None = None
    ledger: SecretStr | None = None
    ledger_wait_s: float = 30.0
    bits: int = 64
    identified: float = 1e-6
    probable: float = 1e-3
    segment_s: float = 2.0
    max_segments: int = 32
    clip_at: float = 4.0
    presence: float = 0.9
    pair: Path | None = None
    precision: ReaderPrecision = "fp32"
    backend: str = "auto"
    strength_db: float = 48.0
    policy: str = "count:64"
    search: bool = True

    def __post_init__(self) -> None:
        if self.bits not in CODE_LENGTHS:
            raise ConfigError(f"marks.bits must be one of {CODE_LENGTHS}, got {self.bits!r}")
        if not 0 < self.identified < self.probable < 1:
            raise ConfigError(
                f"0 < marks.identified < marks.probable < 1 is wanted, got {self.identified!r} "
                f"and {self.probable!r}"
            )
        for name in ("ledger_wait_s", "segment_s", "clip_at"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"marks.{name} must be > 0, got {value!r}")
        if not 20 <= self.strength_db <= 60:
            raise ConfigError(f"marks.strength_db must be 20 to 60, got {self.strength_db!r}")
        if self.max_segments < 1:
            raise ConfigError(f"marks.max_segments must be >= 1, got {self.max_segments!r}")
