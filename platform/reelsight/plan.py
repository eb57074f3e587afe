"""TaggingPlan: everything that decides a clip's Report, in one picklable value.

Both doors and the runner without Ray work from the same plan, which is why their Reports are equal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import reelsight
from reelsight.engine.recipe import EngineRecipe
from reelsight.labels import BankShelf, choose_bank
from reelsight.media.decoder import Decoding
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Provenance
from reelsight.settings import Settings

__all__ = ["TaggingPlan", "plan_for"]


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
    """

    sampling: Sampling
    limits: MediaLimits
    spec: EngineSpec
    bank: LabelBank
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        self.bank.require_model(self.spec.model, self.spec.model_hash)

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

        A run that goes on after a crash must find the same.
        """
        limits = {f"limits.{name}": value for name, value in asdict(self.limits).items()}
        limits["limits.codecs"] = list(self.limits.codecs)
        backend = {"decoder": self.decoding.backend, "trusted": self.decoding.trusted}
        return asdict(self.provenance) | limits | backend


def plan_for(recipe: EngineRecipe, settings: Settings) -> TaggingPlan:
    """The plan that settings amount to with a resolved engine.

    Raises:
        BankError: The bank does not resolve or belongs to another model.
    """
    bank = choose_bank(settings.bank, BankShelf(settings.banks_dir), recipe)
    media = settings.media
    return TaggingPlan(media.sampling, media.limits, recipe.spec, bank, media.decoding)
