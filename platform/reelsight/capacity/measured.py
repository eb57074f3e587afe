"""Measured: what a sample of clips cost on this machine, stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CPU_BACKENDS", "STAGES", "Measured"]

STAGES = ("fetch", "decode", "engine", "report", "write")
CPU_BACKENDS = ("onnxruntime-cpu", "fake")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a sample cost, with as many lanes at work as the machine has cores.

    Attributes:
        clips: Clips in the sample.
        dead: Those of them that failed.
        frames: Frames of each tagged clip.
        cores: Cores of this machine, all of them busy in every stage.
        seconds: By stage, summed over the sample's tagged clips: core-seconds, but for an engine on
            a GPU, which has its device's.
        engine: Backend of the engine.
        start_s: Seconds until an engine is open and warm.
    """

    clips: int
    dead: int
    frames: tuple[int, ...]
    cores: int
    seconds: dict[str, float]
    engine: str
    start_s: float

    @property
    def on_gpu(self) -> bool:
        """Whether the engine has a device of its own."""
        return self.engine not in CPU_BACKENDS

    @property
    def total_frames(self) -> int:
        """Frames of the sample."""
        return sum(self.frames)

    @property
    def frames_per_clip(self) -> float:
        """Mean over all clips of the sample, dead ones with none."""
        return self.total_frames / self.clips

    @property
    def frames_error(self) -> float:
        """Standard error of that mean, as a share of it; 1 for a sample of one clip."""
        if self.clips < 2 or not self.total_frames:
            return 1.0
        mean = self.frames_per_clip
        squares = sum((n - mean) ** 2 for n in self.frames) + self.dead * mean**2
        return math.sqrt(squares / (self.clips - 1) / self.clips) / mean

    def cost(self, *stages: str) -> float:
        """Core-seconds (or device-seconds) for a frame in these stages."""
        return sum(self.seconds[stage] for stage in stages) / self.total_frames

    def rate(self, stage: str) -> float:
        """Frames per second of one core, or of one device, in one stage."""
        return self.total_frames / max(self.seconds[stage], 1e-9)

    @property
    def cpu_cost(self) -> float:
        """Core-seconds for a frame in every stage that runs on cores."""
        return self.cost(*(s for s in STAGES if s != "engine" or not self.on_gpu))

    @property
    def engine_share(self) -> float:
        """Share of the cores that engines take; 0 where they have devices."""
        return 0.0 if self.on_gpu else self.cost("engine") / self.cpu_cost
