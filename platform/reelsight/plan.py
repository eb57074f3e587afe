"""TaggingPlan: everything that decides a clip's Report, in one picklable value.

Both doors and the runner without Ray work from the same plan, which is why their Reports are equal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import reelsight
from reelsight.engine.recipe import EngineRecipe, MarkRecipe
from reelsight.labels import BankShelf, choose_bank
from reelsight.media.decoder import Decoding
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.mark import Carrier
from reelsight.nouns.report import Provenance
from reelsight.settings import Settings

__all__ = [
    "ClipPlan",
    "MarksPlan",
    "ScanPlan",
    "TaggingPlan",
    "marks_plan",
    "plan_for",
    "scan_plan",
]


class ClipPlan(Protocol):
    """What decoding has to know of a plan."""

    @property
    def limits(self) -> MediaLimits:
        """What a clip may be."""

    @property
    def looks(self) -> tuple[Look, ...]:
        """What is asked of a clip: by the tags, then by the marks, as far as they are wanted."""


@dataclass(frozen=True, slots=True)
class MarksPlan:
    """How marks are read in a clip. It knows no key and no ledger: it goes to workers.

    Attributes:
        spec: The extractor.
        carrier: The pair that it is of.
        sampling: Which moments are looked at.
        search: Whether cuts to the middle and a border are looked for, too.
    """

    spec: EngineSpec
    carrier: Carrier
    sampling: Sampling
    search: bool = True

    @property
    def look(self) -> Look:
        """What is asked of a clip."""
        return Look(self.sampling, self.spec.geometry)

    @property
    def engine(self) -> str:
        """What runs the extractor, in words."""
        return f"{self.spec.backend}/{self.spec.backend_version}/{self.spec.precision}"

    def decided(self, read: Literal["beside", "alone"]) -> dict[str, Any]:
        """By name, what decides a reading; plain values for JSON.

        Args:
            read: Whether marks are read beside tags, or alone.
        """
        return {
            "marks": read,
            "marks.carrier": f"{self.carrier.model}@{self.carrier.version}",
            "marks.extractor_sha256": self.spec.onnx_sha256,
            "marks.engine": self.engine,
            "marks.engine_hash": self.spec.hash,
            "marks.policy": str(self.sampling),
            "marks.search": self.search,
        }


@dataclass(frozen=True)
class TaggingPlan:
    """What is done to each clip.

    Attributes:
        sampling: Which moments are looked at.
        limits: What a clip may be.
        spec: The engine that embeds the frames.
        bank: The labels they are scored against; must belong to the engine's model.
        decoding: Who decodes. Backends differ by a few levels of grey, so the one that is asked for
            is part of the digest; what its process may use decides no Report, and is not.
        marks: How marks are read beside; None where they are not.
    """

    sampling: Sampling
    limits: MediaLimits
    spec: EngineSpec
    bank: LabelBank
    decoding: Decoding = field(default_factory=Decoding)
    marks: MarksPlan | None = None

    def __post_init__(self) -> None:
        self.bank.require_model(self.spec.model, self.spec.model_hash)

    @property
    def looks(self) -> tuple[Look, ...]:
        """What is asked of a clip."""
        own = Look(self.sampling, self.spec.geometry)
        return (own,) if self.marks is None else (own, self.marks.look)

    @cached_property
    def provenance(self) -> Provenance:
        """The versions that every Report of this plan is stamped with.

        Hashes the whole bank, so it is made once for a plan and not once for a clip.
        """
        spec = self.spec
        return Provenance(
            model=spec.model,
            model_hash=spec.model_hash,
            engine=f"{spec.backend}/{spec.backend_version}/{spec.precision}",
            engine_hash=spec.hash,
            bank=self.bank.name,
            bank_hash=self.bank.hash,
            sampler=str(self.sampling),
            code_version=reelsight.__version__,
        )

    @property
    def decided(self) -> dict[str, Any]:
        """By name, all that decides a Report: provenance, limits, backend; plain values for JSON.

        A run that goes on after a crash must find the same. Without marks none is spoken of.
        """
        own = _decided(self.provenance, self.limits, self.decoding)
        return own if self.marks is None else own | self.marks.decided("beside")


@dataclass(frozen=True)
class ScanPlan:
    """What is done to each clip where marks are read and nothing is tagged.

    Attributes:
        marks: How marks are read.
        limits: What a clip may be.
        decoding: Who decodes.
    """

    marks: MarksPlan
    limits: MediaLimits
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def looks(self) -> tuple[Look, ...]:
        """What is asked of a clip."""
        return (self.marks.look,)

    @property
    def sampling(self) -> Sampling:
        """Which moments are looked at."""
        return self.marks.sampling

    @cached_property
    def provenance(self) -> Provenance:
        """The versions that every Report of this plan is stamped with; there is no bank."""
        spec = self.marks.spec
        return Provenance(
            model=spec.model,
            model_hash=spec.model_hash,
            engine=self.marks.engine,
            engine_hash=spec.hash,
            bank="",
            bank_hash="",
            sampler=str(self.sampling),
            code_version=reelsight.__version__,
        )

    @property
    def decided(self) -> dict[str, Any]:
        """As TaggingPlan's."""
        own = _decided(self.provenance, self.limits, self.decoding)
        return own | self.marks.decided("alone")


def _decided(provenance: Provenance, limits: MediaLimits, decoding: Decoding) -> dict[str, Any]:
    bounds = {f"limits.{name}": value for name, value in asdict(limits).items()}
    bounds["limits.codecs"] = list(limits.codecs)
    backend = {"decoder": decoding.backend, "trusted": decoding.trusted}
    return asdict(provenance) | bounds | backend


def plan_for(
    recipe: EngineRecipe, settings: Settings, reader: MarkRecipe | None = None
) -> TaggingPlan:
    """The plan that settings amount to with a resolved engine.

    Args:
        recipe: The engine.
        settings: All of it.
        reader: The extractor, where marks are read beside.

    Raises:
        BankError: The bank does not resolve or belongs to another model.
    """
    bank = choose_bank(settings.bank, BankShelf(settings.banks_dir), recipe)
    media = settings.media
    marks = None if reader is None else marks_plan(reader, settings)
    return TaggingPlan(media.sampling, media.limits, recipe.spec, bank, media.decoding, marks)


def scan_plan(reader: MarkRecipe, settings: Settings) -> ScanPlan:
    """The plan of a scan for marks.

    Raises:
        ConfigError: marks.policy is no sampling.
    """
    media = settings.media
    return ScanPlan(marks_plan(reader, settings), media.limits, media.decoding)


def marks_plan(reader: MarkRecipe, settings: Settings) -> MarksPlan:
    """How marks are read by settings.

    Raises:
        ConfigError: marks.policy is no sampling.
    """
    sampling = Sampling.parse(settings.marks.policy)
    return MarksPlan(reader.spec, reader.carrier, sampling, settings.marks.search)
