"""The words of /v1/labels: banks, drafts, releases, and what a draft would change."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from deployments.banks.comparison import Comparison
from deployments.banks.desk import Kept, Listing
from reelsight.labels import BankRef, BankState, LabelDefinition
from reelsight.labels.definition import Phrase

__all__ = [
    "BankBody",
    "BankList",
    "BankView",
    "DraftAnswer",
    "PreviewAnswer",
    "PublishRequest",
    "ReleaseAnswer",
    "RollbackRequest",
]


class BankFacts(BaseModel):
    """Which bank."""

    ref: str = Field(description="Name and the first 12 hex digits of the hash.")
    name: str
    hash: str

    @classmethod
    def of(cls, ref: BankRef) -> BankFacts:
        """The facts of a ref."""
        return cls(ref=str(ref), name=ref.name, hash=ref.hash)


class ReleaseFacts(BaseModel):
    """One change of the current bank."""

    number: int
    action: Literal["publish", "rollback"]
    bank: str | None = Field(description="Ref; null for the bank of the settings.")
    at: float = Field(description="Seconds since 1970.")


class BankList(BaseModel):
    """Every bank that can be served here."""

    release: int = Field(description="Send it with what you publish.")
    current: BankFacts
    released: list[BankFacts] = Field(description="The bank of the settings, then newest first.")
    drafts: list[BankFacts]
    history: list[ReleaseFacts] = Field(description="The last changes, oldest first.")
    unreadable: list[str] = Field(description="Files on the shelf that are no banks.")

    @classmethod
    def of(cls, listing: Listing) -> BankList:
        """The answer that a listing amounts to."""
        state = listing.state
        return cls(
            release=state.release,
            current=BankFacts.of(listing.current),
            released=[BankFacts.of(ref) for ref in listing.released],
            drafts=[BankFacts.of(ref) for _, ref in sorted(state.drafts.items())],
            history=[
                ReleaseFacts(
                    number=item.number,
                    action=item.action,
                    bank=None if item.bank is None else str(item.bank),
                    at=item.at,
                )
                for item in state.history
            ],
            unreadable=list(listing.unreadable),
        )


class LabelView(BaseModel):
    """One label."""

    name: str
    prompts: list[str]
    threshold: float = Field(description="Cosine.")
    aliases: dict[str, list[str]]
    critical: bool


class BankView(BankFacts):
    """A bank with its labels."""

    state: Literal["draft", "released", "current"]
    model: str
    model_hash: str
    labels: list[LabelView]

    @classmethod
    def of_kept(cls, kept: Kept) -> BankView:
        """The answer that a bank amounts to."""
        return cls(
            **BankFacts.of(kept.ref).model_dump(),
            state=kept.state,
            model=kept.bank.model,
            model_hash=kept.bank.model_hash,
            labels=[
                LabelView(
                    name=label.name,
                    prompts=list(label.prompts),
                    threshold=label.threshold,
                    aliases={lang: list(names) for lang, names in label.aliases.items()},
                    critical=label.critical,
                )
                for label in kept.bank.labels
            ],
        )


class BankBody(BaseModel, extra="forbid"):
    """A draft, as labels.yaml without its name."""

    templates: tuple[Phrase, ...] = ("{}",)
    labels: tuple[LabelDefinition, ...] = Field(min_length=1)


class DraftAnswer(BankFacts):
    """A draft that was put."""

    labels: int
    state: Literal["draft", "released", "current"]
    release: int = Field(description="Send it with what you publish.")

    @classmethod
    def of_put(cls, kept: Kept, state: BankState) -> DraftAnswer:
        """The answer to a put."""
        return cls(
            **BankFacts.of(kept.ref).model_dump(),
            labels=len(kept.bank),
            state=kept.state,
            release=state.release,
        )


class LabelChangeFacts(BaseModel):
    """One label that is not the same in both banks."""

    name: str
    change: Literal["added", "removed", "changed"]
    frames_before: int
    frames_after: int
    gained: int = Field(description="Frames that show it only by the other bank.")
    lost: int = Field(description="Frames that show it only by the current bank.")
    moved: int = Field(description="Frames of both whose confidence differs by 0.05 or more.")
    clips_gained: int
    clips_lost: int


class PreviewAnswer(BaseModel):
    """What publishing a bank would change, over the frames that were tagged last."""

    current: BankFacts
    other: BankFacts
    frames: int
    clips: int
    unchanged: int = Field(description="Labels that are the same in both.")
    labels: list[LabelChangeFacts] = Field(description="Those with most gained and lost first.")

    @classmethod
    def of(cls, current: Kept, other: Kept, found: Comparison) -> PreviewAnswer:
        """The answer that a comparison amounts to."""
        return cls(
            current=BankFacts.of(current.ref),
            other=BankFacts.of(other.ref),
            frames=found.frames,
            clips=found.clips,
            unchanged=found.unchanged,
            labels=[
                LabelChangeFacts.model_validate(item, from_attributes=True)
                for item in found.changes
            ],
        )


class PublishRequest(BaseModel, extra="forbid"):
    """Make a bank current."""

    bank: str = Field(min_length=1, max_length=128, description="A ref, or a name.")
    release: int = Field(ge=0, description="The release that you saw.")


class RollbackRequest(BaseModel, extra="forbid"):
    """Make the bank before current again."""

    release: int = Field(ge=0, description="The release that you saw.")


class ReleaseAnswer(BaseModel):
    """What is current from now on."""

    release: int
    bank: BankFacts | None = Field(description="Null for the bank of the settings.")

    @classmethod
    def of(cls, state: BankState) -> ReleaseAnswer:
        """The answer that a state amounts to."""
        current = state.current
        return cls(release=state.release, bank=None if current is None else BankFacts.of(current))
