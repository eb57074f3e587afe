"""Clips on their way through real encoders, one submission ahead of the training.

A submission is marked with the weights of its step and encoded by processes while the device
trains. When it comes back, the clip is marked again with the weights of that moment, and what the
encoder did is added as a constant: gradients go straight through the encoder (straight-through
estimation), and neither side waits for the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.marks.codec_pool import CodecJob, CodecPool, Planes
from training.marks.embedder import Embedder
from training.marks.pictures import Clips
from training.marks.resampling import resized

__all__ = ["ClipLine", "MarkedClips", "draw_jobs", "full_range", "limited_range", "mark_frames"]

_CHUNK = 64
# A device has more than this queued when the next step asks.
_PATIENCE_S = 0.02
_PRESETS = {
    "h264": ("superfast", "veryfast", "veryfast", "faster", "medium"),
    "hevc": ("ultrafast", "ultrafast", "superfast"),
}
_LOWEST_CRF = {"h264": 18, "hevc": 18}
_CRF_SPAN = {"h264": 16, "hevc": 14}
_H264_SHARE = 0.65


@dataclass
class MarkedClips:
    """Clips and what is written into them.

    Attributes:
        seen: Unmarked, float32 [clips, frames, size, size].
        bits: Float32 [clips, bits].
        strength: PSNR, float32 [clips], dB.
        carried: Float32 [clips], 0 where a clip stays unmarked.
        change: What the encoder did, float32 [clips, frames, size, size]; None before it is known.
    """

    seen: Tensor
    bits: Tensor
    strength: Tensor
    carried: Tensor
    change: Tensor | None = None


def mark_frames(embedder: Embedder, clips: MarkedClips, keyframe: int) -> tuple[Tensor, Tensor]:
    """Residuals of clips, drawn at every `keyframe`-th frame and repeated.

    Returns:
        Residuals [clips * frames, 1, size, size], and those of the key frames alone.
    """
    count, frames, size = clips.seen.shape[:3]
    keys = clips.seen[:, ::keyframe].reshape(-1, 1, size, size)
    each = keys.shape[0] // count
    drawn = embedder(
        keys, clips.bits.repeat_interleave(each, 0), clips.strength.repeat_interleave(each)
    )
    drawn = drawn * clips.carried.repeat_interleave(each).view(-1, 1, 1, 1)
    shape = (count, each, 1, size, size)
    repeated = drawn.view(shape).repeat_interleave(keyframe, 1)[:, :frames]
    return repeated.reshape(-1, 1, size, size), drawn


def limited_range(luma: Tensor) -> Tensor:
    """Full-range luma to Y planes of 16 to 235, uint8."""
    return (luma * (219 / 255) + 16).round().clamp(16, 235).byte()


def full_range(planes: Tensor) -> Tensor:
    """Y planes to luma of 0 to 255, float32."""
    return ((planes.float() - 16) * (255 / 219)).clamp(0, 255)


def draw_jobs(
    rng: np.random.Generator, codecs: tuple[str, ...], count: int, strength: float
) -> list[CodecJob]:
    """Encoder settings of `count` clips; the stronger, the more of the CRF's range."""
    jobs = []
    for _ in range(count):
        codec = codecs[0] if len(codecs) == 1 or rng.random() < _H264_SHARE else codecs[1]
        crf = _LOWEST_CRF[codec] + _CRF_SPAN[codec] * strength * float(rng.random()) ** 0.7
        presets = _PRESETS[codec]
        jobs.append(CodecJob(codec, round(crf), presets[int(rng.integers(0, len(presets)))]))
    return jobs


class ClipLine:
    """One submission at a time.

    Args:
        pool: The encoders.
        size: Side that the networks see.
        keyframe: Frames that share a residual.
        device: Where training runs.
    """

    def __init__(self, pool: CodecPool, size: int, keyframe: int, device: torch.device) -> None:
        self._pool, self._size, self._keyframe, self._device = pool, size, keyframe, device
        self._clips: MarkedClips | None = None
        self._old: Tensor | None = None
        self._planes: Tensor | None = None
        self._jobs: list[CodecJob] = []
        self._copied: Any = None

    @property
    def empty(self) -> bool:
        """Whether nothing is on its way."""
        return self._clips is None

    def start(
        self, embedder: Embedder, clips: MarkedClips, source: Clips, jobs: list[CodecJob]
    ) -> None:
        """Mark clips with today's weights and copy them off the device, without waiting.

        Args:
            embedder: Draws the residual.
            clips: What is written.
            source: The same clips at the side that is encoded.
            jobs: One a clip.
        """
        count, frames, side = source.wide.shape[:3]
        with torch.no_grad():
            residual, _ = mark_frames(embedder, clips, self._keyframe)
            self._old = clips.seen.view(-1, 1, self._size, self._size) + residual
            planes = torch.empty(
                (count * frames, side, side), dtype=torch.uint8, device=residual.device
            )
            wide = source.wide.view(-1, 1, side, side)
            for at in range(0, len(wide), _CHUNK):
                part = resized(residual[at : at + _CHUNK], side, "bicubic")
                planes[at : at + _CHUNK] = limited_range(wide[at : at + _CHUNK] + part)[:, 0]
        planes = planes.view(count, frames, side, side)
        if self._device.type == "cuda":
            pinned = torch.empty(planes.shape, dtype=torch.uint8, pin_memory=True)
            self._planes = pinned.copy_(planes, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
        else:
            self._planes = planes
        self._clips, self._jobs = clips, jobs

    def send(self) -> None:
        """Hand what was started to the encoders; their planes have long been copied."""
        if self._clips is None or not self._pool.idle:
            return
        if self._copied is not None:
            self._copied.synchronize()
        assert self._planes is not None
        self._pool.submit(self._planes.numpy(), self._jobs)

    def take(self, *, wait: bool) -> MarkedClips | None:
        """What came back, or None when nothing is there yet.

        Args:
            wait: Wait for what is on its way.
        """
        if self._clips is None or self._pool.idle or not (wait or self._pool.ready(_PATIENCE_S)):
            return None
        assert self._old is not None
        decoded = self._decoded(self._pool.collect())
        clips, old = self._clips, self._old
        self._clips = self._old = self._planes = self._copied = None
        clips.change = (decoded - old).view(clips.seen.shape)
        return clips

    def _decoded(self, planes: Planes) -> Tensor:
        side = planes.shape[-1]
        decoded = torch.from_numpy(planes).to(self._device).view(-1, 1, side, side)
        parts = [resized(full_range(p), self._size) for p in decoded.split(_CHUNK)]
        return torch.cat(parts)

    def state(self) -> dict[str, Any] | None:
        """What is on its way, for a checkpoint."""
        if self._clips is None:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        return {
            "clips": vars(self._clips),
            "old": self._old,
            "planes": self._planes,
            "jobs": [asdict(job) for job in self._jobs],
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Send again what was on its way."""
        if state is None:
            return
        self._clips = MarkedClips(**state["clips"])
        self._old, self._planes = state["old"], state["planes"].cpu()
        self._jobs = [CodecJob(**job) for job in state["jobs"]]
        self.send()
