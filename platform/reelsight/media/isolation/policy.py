"""Isolation: how far a decoding process may go before it is killed.

Plain numbers with stated defaults. It does not know how they are enforced.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

from reelsight.errors import ConfigError

__all__ = ["Isolation"]


@dataclass(frozen=True, slots=True)
class Isolation:
    """Limits of the process that decodes, and how often a clip is tried.

    Attributes:
        enabled: Decode in a child process; on by default on Linux, the only system that has what it
            needs. Without it a clip that crashes the decoder ends whoever decodes it.
        timeout_s: Seconds of wall clock for one attempt at a clip. The default lets an hour of
            1080p at one frame a second through.
        memory_mb: Address space that decoding may take beside the idle process, MiB.
        attempts: Times that a clip is tried when its process dies, hangs or runs out of memory. A
            clip that the decoder refuses is refused at once.
        recycle_after: Clips after which a process is replaced.
        recycle_mb: Growth of its resident memory, MiB, after which a process is replaced.

    Raises:
        ConfigError: A number is not positive, or isolation is asked for where there is none.
    """

    enabled: bool = sys.platform == "linux"
    timeout_s: float = 300.0
    memory_mb: int = 4096
    attempts: int = 2
    recycle_after: int = 500
    recycle_mb: int = 256

    # What the child runs, `module:function`. No setting: whoever could set it could run any code.
    decoder: ClassVar[str] = "reelsight.media.decode:decode"

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb", "attempts", "recycle_after", "recycle_mb"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"media.isolation.{name} must be > 0, got {value!r}")
        if self.enabled and sys.platform != "linux":
            raise ConfigError(
                f"media.isolation.enabled needs Linux, this is {sys.platform}",
                hint="Set media.isolation.enabled=false, for clips that you trust.",
            )
