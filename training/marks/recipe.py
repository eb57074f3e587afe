"""What is trained and in which order: the shape of both networks and the stages of the schedule.

Stages are shares of the whole training time, so that one recipe serves a probe of minutes and the
full run; a run that must be repeatable is counted in steps instead. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reelsight.errors import ConfigError

__all__ = ["FULL", "RECIPES", "TINY", "Gate", "Recipe", "Shape", "Stage"]

# Attacks on stills, named as `attacks.ATTACKS` names them.
_LIGHT = ("identity", "noise", "tone", "blur", "resize", "jpeg")
_CODEC = (*_LIGHT, "quantise", "crop", "rotate")
_HARD = (*_CODEC, "overlay", "blend", "recapture")


@dataclass(frozen=True)
class Shape:
    """Sizes of both networks.

    Attributes:
        size: Side of the luma square that both networks see, pixels.
        bits: Payload.
        grid: Side of the carrier table.
        band: Lowest and highest carrier frequency, cycles per picture side.
        cells: Cells a side that the extractor's last layer sees by place.
        guide: Side at which the embedder's network looks at the picture.
        guide_widths: Channels of the embedder's network, outermost first.
        stem: Channels of the extractor's three first convolutions.
        widths: Inner channels of the extractor's bottleneck stages.
        depths: Blocks of those stages; every stage but the first halves the side.
        neck: Channels a cell that reach the last layer.
    """

    size: int = 256
    bits: int = 64
    grid: int = 96
    band: tuple[float, float] = (8.0, 40.0)
    cells: int = 8
    guide: int = 128
    guide_widths: tuple[int, ...] = (24, 48, 96)
    stem: tuple[int, int, int] = (32, 32, 64)
    widths: tuple[int, ...] = (32, 64, 128, 160)
    depths: tuple[int, ...] = (3, 4, 4, 1)
    neck: int = 64

    def __post_init__(self) -> None:
        if self.size % (4 << (len(self.widths) - 1)):
            raise ConfigError(f"size {self.size} does not halve {len(self.widths) + 1} times.")
        if self.band[1] * 2 > self.grid:
            raise ConfigError(f"a grid of {self.grid} carries no {self.band[1]} cycles.")


@dataclass(frozen=True)
class Gate:
    """What a stage must reach on held-out pictures.

    Attributes:
        measure: A key of the evaluation's `gates`.
        least: Smallest value.
        stop: Whether training ends when it is missed; otherwise the miss is reported.
    """

    measure: str
    least: float
    stop: bool = False


@dataclass(frozen=True)
class Stage:
    """One part of the schedule.

    Attributes:
        name: As it is printed.
        share: Of the whole training time.
        psnr: Target of the residual at the stage's start and end, dB.
        attacks: What stills meet; see `attacks.ATTACKS`.
        strength: Of the attacks at the stage's start and end, 0 to 1.
        second: Probability that a still meets two attacks.
        masking: Exponent of the visibility map at the stage's start and end.
        clips: Clips in a batch; the rest of it are stills.
        codecs: Real encoders that clips pass; without any, clips meet the attacks of stills.
        negatives: Share of the stills that carry no mark, or a foreign one.
        visibility: Weight of the penalty on the most visible hundredth of the residual.
        guide: Whether the embedder's network learns.
        embedder: Whether the carriers learn.
        gate: What must be reached at the end.
    """

    name: str
    share: float
    psnr: tuple[float, float]
    attacks: tuple[str, ...]
    strength: tuple[float, float] = (1.0, 1.0)
    second: float = 0.0
    masking: tuple[float, float] = (0.0, 0.0)
    clips: int = 0
    codecs: tuple[str, ...] = ()
    negatives: float = 0.0
    visibility: float = 0.0
    guide: bool = True
    embedder: bool = True
    gate: Gate | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made from.

    Attributes:
        name: Of the recipe.
        shape: Of the networks.
        stages: In order; their shares sum to 1.
        batch: Pictures a step: clips times frames, and stills.
        frames: Frames of a clip.
        keyframe: Frames that share one residual.
        sides: Sides at which clips are marked and encoded, pixels; one a step.
        rate: Peak learning rate.
        warm: Steps of warm-up.
        average: Largest decay of the averaged weights.
        procedural: Drawn pictures beside the photographs, as a share of all.
        pictures: Drawn pictures that are made; more are never needed than photographs allow for.
        held: Held-out pictures of an evaluation.
    """

    name: str
    shape: Shape
    stages: tuple[Stage, ...]
    batch: int = 256
    frames: int = 8
    keyframe: int = 4
    sides: tuple[int, ...] = (256, 256, 384, 512)
    rate: float = 2e-3
    warm: int = 300
    average: float = 0.999
    procedural: float = 0.25
    pictures: int = 600
    held: int = 96

    def __post_init__(self) -> None:
        total = sum(stage.share for stage in self.stages)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"the stages' shares sum to {total}, not to 1.")
        for stage in self.stages:
            if stage.clips * self.frames > self.batch:
                raise ConfigError(f"{stage.clips} clips are more than a batch of {self.batch}.")

    def with_batch(self, batch: int) -> Recipe:
        """The same recipe with another batch, at most half of it clips."""
        most = batch // 2 // self.frames
        stages = tuple(dataclasses.replace(s, clips=min(s.clips, most)) for s in self.stages)
        return dataclasses.replace(self, batch=batch, stages=stages)


FULL = Recipe(
    name="full",
    shape=Shape(),
    stages=(
        Stage(
            "warm",
            0.05,
            (32, 32),
            ("identity", "noise"),
            guide=False,
            gate=Gate("clean", 0.95, stop=True),
        ),
        Stage(
            "joint",
            0.15,
            (32, 36),
            _LIGHT,
            strength=(0.2, 1.0),
            masking=(0.0, 0.3),
            negatives=0.1,
            gate=Gate("clean", 0.995),
        ),
        Stage(
            "codec",
            0.40,
            (36, 40),
            _CODEC,
            strength=(0.3, 1.0),
            second=0.2,
            masking=(0.3, 0.7),
            clips=8,
            codecs=("h264",),
            negatives=0.125,
            visibility=0.02,
            gate=Gate("h264-28", 0.90),
        ),
        Stage(
            "hardening",
            0.30,
            (40, 42),
            _HARD,
            second=0.4,
            masking=(0.7, 1.0),
            clips=12,
            codecs=("h264", "hevc"),
            negatives=0.125,
            visibility=0.05,
            gate=Gate("h264-28 pooled", 0.99),
        ),
        Stage(
            "extractor",
            0.10,
            (41, 42),
            _HARD,
            second=0.4,
            masking=(1.0, 1.0),
            clips=16,
            codecs=("h264", "hevc"),
            negatives=0.25,
            guide=False,
            embedder=False,
        ),
    ),
)

# Two stages of every kind of work, small enough for a CPU in a test.
TINY = Recipe(
    name="tiny",
    shape=Shape(
        size=64,
        bits=16,
        grid=32,
        band=(3.0, 12.0),
        cells=4,
        guide=32,
        guide_widths=(8, 16),
        stem=(16, 16, 32),
        widths=(16, 32),
        depths=(1, 1),
        neck=16,
    ),
    stages=(
        Stage(
            "warm",
            0.80,
            (30, 30),
            ("identity", "noise"),
            guide=False,
            gate=Gate("clean", 0.90, stop=True),
        ),
        Stage(
            "codec",
            0.20,
            (30, 31),
            _HARD,
            strength=(0.2, 0.5),
            second=0.2,
            masking=(0.0, 0.5),
            clips=1,
            codecs=("h264", "hevc"),
            negatives=0.125,
            visibility=0.02,
        ),
    ),
    batch=16,
    frames=4,
    keyframe=2,
    sides=(64, 96),
    rate=4e-3,
    warm=20,
    average=0.98,
    pictures=48,
    held=16,
)

RECIPES = {recipe.name: recipe for recipe in (FULL, TINY)}
