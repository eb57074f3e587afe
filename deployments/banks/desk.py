"""BankDesk: what may be done to banks while the service runs. Each act is one change of the state.

Points at which a replica can be killed:
    put       before the draft's file: nothing happened; after it and before the pointer: a file
              that no draft names, which the same put lands on again
    publish   after the file is released and before the pointer: a released bank that is not
              current; after the pointer: it is current, replicas hear of it by their own look, and
              the publisher who asks again is told that it is done
    roll back is one write of the pointer

Nothing here blocks the event loop: files and the pointer in threads, texts one draft at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from deployments.banks.canary import Canary
from deployments.banks.comparison import Comparison, compare
from deployments.banks.recent import FrameSample
from reelsight.engine import EngineRecipe
from reelsight.engine.protocol import TextTower
from reelsight.errors import BankError, Overloaded, RequestError
from reelsight.labels import (
    BankDefinition,
    BankPointer,
    BankRef,
    BankShelf,
    BankState,
    build_bank_for,
)
from reelsight.labels.release import change
from reelsight.nouns.label_bank import LabelBank
from reelsight.plan import TaggingPlan
from reelsight.settings import LiveBankSettings

__all__ = ["BankDesk", "Kept", "Listing"]

_DRAFTS = "drafts"
_WAITING = 4
_DRAFT_AGE_S = 3600.0
Kind = Literal["draft", "released", "current"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A bank that is here.

    Attributes:
        ref: Which.
        state: What it is at the moment.
        bank: Its content.
    """

    ref: BankRef
    state: Kind
    bank: LabelBank


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that is known of banks.

    Attributes:
        state: What all replicas agree on.
        current: The bank that it amounts to.
        released: Released banks of this model, the newest first.
        unreadable: Files that are none.
    """

    state: BankState
    current: BankRef
    released: tuple[BankRef, ...]
    unreadable: tuple[str, ...]


class BankDesk:
    """Reads and changes banks. It belongs to one event loop.

    Args:
        pointer: Which bank is current.
        shelf: Released banks; drafts are in a directory of it.
        recipe: Its text tower embeds drafts; opened by the first.
        base: The plan with the bank of the settings.
        canary: Checks what is to be published.
        caps: Largest drafts.
        recent: Gives frames for previews.
        tell: Lets every replica that can be reached look at the pointer now.
    """

    def __init__(
        self,
        pointer: BankPointer,
        shelf: BankShelf,
        recipe: EngineRecipe,
        base: TaggingPlan,
        canary: Canary,
        caps: LiveBankSettings,
        *,
        recent: Callable[[], Awaitable[FrameSample]],
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._pointer, self._shelf, self._base = pointer, shelf, base
        self._drafts = BankShelf(shelf.directory / _DRAFTS)
        self._recipe, self._canary, self._caps = recipe, canary, caps
        self._recent, self._tell = recent, tell
        self._own = BankRef(base.bank.name, base.provenance.bank_hash)
        self._texts = ThreadPoolExecutor(1, "bank-texts")
        self._embedding = 0
        self._tower: TextTower | None = None
        self._known: dict[str, BankRef | None] = {}

    async def listing(self) -> Listing:
        """Everything that is known of banks.

        Raises:
            PointerUnreachable: Which is current is not known now.
        """
        return await asyncio.to_thread(self._listing)

    async def find(self, name: str) -> Kept:
        """A bank by ref, or by name: its draft, else the current one, else its newest release.

        Raises:
            RequestError: `bank.missing`.
            BankError: Its file is damaged.
        """
        return await asyncio.to_thread(self._find, name)

    async def put(self, definition: BankDefinition) -> tuple[Kept, BankState]:
        """Embed a draft and keep it under its name; what is served stays.

        Raises:
            RequestError: It is larger than the caps.
            BankError: It cannot become a bank.
            Overloaded: Too many drafts are being embedded.
        """
        require_small(definition, self._caps)
        if self._embedding >= _WAITING:
            raise Overloaded(f"{self._embedding} drafts are embedded", code="bank.busy")
        self._embedding += 1
        try:
            loop = asyncio.get_running_loop()
            bank = await loop.run_in_executor(self._texts, self._build, definition)
        finally:
            self._embedding -= 1
        await self._canary.warm(self._base)
        return await asyncio.to_thread(self._keep, bank)

    async def preview(self, name: str) -> tuple[Kept, Kept, Comparison]:
        """What publishing a bank would change over the frames that were tagged last.

        Returns:
            The current bank, the other one, and where they differ.
        """
        other = await self.find(name)
        current = await asyncio.to_thread(self._current)
        sample = await self._recent()
        return current, other, await asyncio.to_thread(compare, current.bank, other.bank, sample)

    async def publish(self, name: str, seen: int) -> BankState:
        """Make a bank current, on every replica that can be reached at once.

        Args:
            name: As in find.
            seen: The release that the caller saw.

        Raises:
            BankConflict: Another has become current since.
            BankRefused: The canary refused it.
        """
        kept = await self.find(name)
        await self._canary.warm(self._base)
        state = await asyncio.to_thread(self._publish, kept, seen)
        await self._tell()
        return state

    async def roll_back(self, seen: int) -> BankState:
        """Make the bank current that was so before.

        Args:
            seen: The release that the caller saw.

        Raises:
            BankConflict: Another has become current since, or there was none before.
        """
        at = time.time()
        state = await asyncio.to_thread(
            change, self._pointer, lambda now: now.rolled_back(seen, at)
        )
        await self._tell()
        return state

    def close(self) -> None:
        """Wait for what is embedded."""
        self._texts.shutdown()

    def _listing(self) -> Listing:
        state = self._pointer.read()
        unreadable, released = [], [self._own]
        for path in reversed(self._shelf.paths()):
            try:
                ref = self._ref_of(path.name)
            except BankError:  # One damaged file is a line, not the end of the list.
                unreadable.append(path.name)
                continue
            if ref is not None and ref not in released:
                released.append(ref)
        return Listing(state, state.current or self._own, tuple(released), tuple(unreadable))

    def _ref_of(self, file: str) -> BankRef | None:
        """The bank in a file of the shelf; None where it is another model's. Files never change."""
        if file not in self._known:
            bank = self._shelf.find(str(self._shelf.directory / file))
            fits = bank.model_hash == self._base.spec.model_hash
            self._known[file] = BankRef.of(bank) if fits else None
        return self._known[file]

    def _find(self, name: str) -> Kept:
        listing = self._listing()
        current, drafts = listing.current, tuple(listing.state.drafts.values())
        refs = (*drafts, current, *listing.released)
        # A ref is looked for first: a bank may be named as another's ref.
        found = next((r for r in refs if str(r) == name), None)
        found = found or next((r for r in refs if r.name == name), None)
        if found is not None:
            return self._kept(found, current, found in drafts)
        raise RequestError(
            f"no bank {name!r}",
            status=404,
            code="bank.missing",
            hint="See GET /v1/labels; a draft is put with PUT /v1/labels/{name}.",
        )

    def _current(self) -> Kept:
        current = self._pointer.read().current or self._own
        return self._kept(current, current, draft=False)

    def _kept(self, ref: BankRef, current: BankRef, draft: bool) -> Kept:
        state: Kind = "current" if ref == current else "draft" if draft else "released"
        if ref == self._own:
            return Kept(ref, state, self._base.bank)
        shelf = self._drafts if state == "draft" else self._shelf
        return Kept(ref, state, shelf.get(ref))

    def _build(self, definition: BankDefinition) -> LabelBank:
        if self._tower is None:
            self._tower = self._recipe.open_text()
        return build_bank_for(self._recipe, definition, self._tower)

    def _keep(self, bank: LabelBank) -> tuple[Kept, BankState]:
        self._canary.check(self._base, bank)
        ref = BankRef.of(bank)
        self._drafts.put(bank)
        state = change(self._pointer, lambda now: now.with_draft(ref, self._caps.drafts))
        self._sweep(state)
        return Kept(ref, "current" if ref == state.current else "draft", bank), state

    def _sweep(self, state: BankState) -> None:
        """Remove drafts that were replaced a while ago; a younger one may be about to be named."""
        named = {self._drafts.path(ref) for ref in state.drafts.values()}
        for path in self._drafts.paths():
            with suppress(FileNotFoundError):  # Another replica sweeps, too.
                if path not in named and time.time() - path.stat().st_mtime > _DRAFT_AGE_S:
                    path.unlink()

    def _publish(self, kept: Kept, seen: int) -> BankState:
        self._canary.check(self._base, kept.bank)
        self._shelf.put(kept.bank)
        at = time.time()
        return change(self._pointer, lambda now: now.published(kept.ref, seen, at))


def require_small(definition: BankDefinition, caps: LiveBankSettings) -> None:
    """Refuse a definition before it costs anything.

    Raises:
        RequestError: It has more labels or phrases than the caps.
    """
    phrases = len(definition.templates) * sum(len(label.phrases) for label in definition.labels)
    for what, found, most in (
        ("labels", len(definition.labels), caps.labels),
        ("phrases (prompts x templates)", phrases, caps.phrases),
    ):
        if found > most:
            raise RequestError(
                f"{found} {what}, at most {most} are taken",
                status=422,
                code="bank.too_large",
                hint="Build it with `reelsight bank build` and serve it by name, or raise the cap.",
            )
    counted = Counter(label.name for label in definition.labels)
    twice = sorted(name for name, times in counted.items() if times > 1)
    if twice:
        raise RequestError(
            f"labels named twice: {twice[:8]}", status=422, code="bank.duplicate_label"
        )
