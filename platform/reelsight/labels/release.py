"""BankState: which bank is current, what was before it, and the drafts; a value, and its changes.

States of a bank: draft -> released -> current -> released again (another is current). Banks are
immutable files; this is the little that changes, and whoever holds it (`BankPointer`) replaces it
whole, by its version. It knows neither files nor Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from reelsight.errors import BankConflict, BankError
from reelsight.nouns.label_bank import LabelBank

__all__ = ["BankPointer", "BankRef", "BankState", "Release", "change"]

_FORMAT = 1
_TRAIL = 64
_HISTORY = 256
_TRIES = 32


@dataclass(frozen=True, slots=True)
class BankRef:
    """One bank, by content.

    Attributes:
        name: Its name.
        hash: sha256 (hex) of its content.
    """

    name: str
    hash: str

    def __str__(self) -> str:
        return f"{self.name}-{self.hash[:12]}"

    @classmethod
    def of(cls, bank: LabelBank) -> BankRef:
        """The ref of a bank; hashes the whole of it."""
        return cls(bank.name, bank.hash)


@dataclass(frozen=True, slots=True)
class Release:
    """One change of the current bank.

    Attributes:
        number: Counts from 1.
        action: What was done.
        bank: What was current from then on; None for the bank of the settings.
        at: Seconds since 1970.
    """

    number: int
    action: Literal["publish", "rollback"]
    bank: BankRef | None
    at: float


@dataclass(frozen=True, slots=True)
class BankState:
    """What all replicas agree on.

    Attributes:
        version: Grows by one with every write; what is compared when it is replaced.
        release: Grows by one when another bank becomes current; what a publisher must have seen.
        trail: What was current, oldest first; the last is. None stands for the bank of the
            settings, which is where every trail begins.
        history: The last changes, oldest first.
        drafts: By bank name.
    """

    version: int = 0
    release: int = 0
    trail: tuple[BankRef | None, ...] = (None,)
    history: tuple[Release, ...] = ()
    drafts: Mapping[str, BankRef] = field(default_factory=dict)

    @property
    def current(self) -> BankRef | None:
        """The bank to serve; None for the bank of the settings."""
        return self.trail[-1]

    def with_draft(self, ref: BankRef, most: int) -> BankState:
        """A draft put, in the place of an earlier one of its name.

        Raises:
            BankConflict: `bank.too_many_drafts`: there are `most` others.
        """
        others = {name: kept for name, kept in self.drafts.items() if name != ref.name}
        if len(others) >= most:
            raise BankConflict(
                f"{len(others)} drafts are kept, of at most {most}: {sorted(others)[:8]}",
                code="bank.too_many_drafts",
                hint="Publish some, or put the draft under the name of one of them.",
            )
        return replace(self, version=self.version + 1, drafts=others | {ref.name: ref})

    def published(self, ref: BankRef, seen: int, at: float) -> BankState:
        """A bank made current; its draft is one no more.

        Publishing what is current, or what was published by just this call, changes nothing: an
        answer that was lost on its way may be asked for again.

        Args:
            ref: The bank.
            seen: The release that the publisher saw.
            at: Seconds since 1970.

        Raises:
            BankConflict: Another bank has become current since.
        """
        if self.release == seen + 1 and self.current == ref and self._last() == "publish":
            return self
        self._require(seen)
        if self.current == ref:
            return self
        drafts = {name: kept for name, kept in self.drafts.items() if kept != ref}
        return self._moved("publish", (*self.trail, ref)[-_TRAIL:], drafts, at)

    def rolled_back(self, seen: int, at: float) -> BankState:
        """What was current before is again.

        Args:
            seen: The release that the caller saw.
            at: Seconds since 1970.

        Raises:
            BankConflict: Another bank has become current since, or there was none before.
        """
        self._require(seen)
        if len(self.trail) < 2:
            raise BankConflict(
                "no bank was current before this one",
                code="bank.nothing_before",
                hint="Publish the bank that should be current.",
            )
        return self._moved("rollback", self.trail[:-1], self.drafts, at)

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps({"format": _FORMAT} | asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> BankState:
        """What to_json gave.

        Raises:
            BankError: `bank.pointer_damaged`.
        """
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {_FORMAT}")
            state = cls(
                version=int(document["version"]),
                release=int(document["release"]),
                trail=tuple(_ref(item) for item in document["trail"]),
                history=tuple(
                    Release(**(item | {"bank": _ref(item["bank"])})) for item in document["history"]
                ),
                drafts={name: BankRef(**item) for name, item in document["drafts"].items()},
            )
            if not state.trail:
                raise ValueError("an empty trail")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BankError(
                f"the pointer to the current bank is damaged: {error!r}",
                code="bank.pointer_damaged",
                hint="Bring back a copy of it, or remove it: the bank of the settings is served.",
            ) from error
        return state

    def _last(self) -> str | None:
        return self.history[-1].action if self.history else None

    def _require(self, seen: int) -> None:
        if self.release != seen:
            raise BankConflict(
                f"release {seen} was seen, {self.release} is current: {self.current or 'none'}"
            )

    def _moved(
        self,
        action: Literal["publish", "rollback"],
        trail: tuple[BankRef | None, ...],
        drafts: Mapping[str, BankRef],
        at: float,
    ) -> BankState:
        number = self.release + 1
        history = (*self.history, Release(number, action, trail[-1], at))[-_HISTORY:]
        return BankState(self.version + 1, number, trail, history, drafts)


class BankPointer(Protocol):
    """Holds the one BankState that all replicas read."""

    def read(self) -> BankState:
        """The state; a new one where nothing was written yet.

        Raises:
            BankError: It is damaged.
            PointerUnreachable: It cannot be read now.
        """

    def swap(self, before: BankState, after: BankState) -> bool:
        """Put `after` in the place of `before`, unless another version is there: then False.

        Raises:
            BankError: What is there is damaged.
            PointerUnreachable: It cannot be written now; whether it was is not known.
        """


def change(pointer: BankPointer, step: Callable[[BankState], BankState]) -> BankState:
    """Apply a change to whatever the state is; others may change it meanwhile.

    Args:
        pointer: Holds the state.
        step: From the state to the next; the same state when there is nothing to do. What it
            raises ends the change.

    Returns:
        The state after the change.

    Raises:
        BankConflict: `bank.contended`: others were faster each time.
    """
    for _ in range(_TRIES):
        before = pointer.read()
        after = step(before)
        if after is before or pointer.swap(before, after):
            return after
    raise BankConflict(
        f"others changed the banks {_TRIES} times meanwhile",
        code="bank.contended",
        hint="Try again.",
    )


def _ref(item: dict[str, Any] | None) -> BankRef | None:
    return None if item is None else BankRef(**item)
