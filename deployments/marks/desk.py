"""TraceDesk: soft bits that came over HTTP, compared with the ledger in the process that has keys.

Keys come from a file that this process opens by itself; what is sent between processes names the
file alone. One thread holds the ledger: codes are made once for a ledger as it is, and again when
it has grown.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deployments.marks.reading import MarksRead
from reelsight.errors import ConfigError, Overloaded
from reelsight.marks.account import Circumstances
from reelsight.marks.inquiry import LATE, Inquiry, code_table, sound_head
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Ledger, LedgerStore, SignedHead, open_store
from reelsight.marks.match import CodeTable
from reelsight.marks.policy import Marking
from reelsight.marks.tracing import Tracer
from reelsight.nouns.mark_trace import ModelUse, Suspect, Trace
from reelsight.plan import MarksPlan
from reelsight.settings import Settings

__all__ = ["DeskPlan", "TraceDesk", "desk_plan"]

_TABLES_KEPT = 4


@dataclass(frozen=True, slots=True)
class DeskPlan:
    """What a desk is opened by: names of files and limits, and nothing that has to be kept secret.

    Attributes:
        marking: Limits, and the file of the keys.
        ledger: A SQLite file, or a PostgreSQL URL without a password.
        marks: How clips are read: copies of other pairs cannot be told.
    """

    marking: Marking
    ledger: str
    marks: MarksPlan


def desk_plan(settings: Settings, key_file: Path, marks: MarksPlan) -> DeskPlan:
    """What the desk of a door is opened by.

    Raises:
        ConfigError: `config.mark_secret`: the ledger's URL holds a password.
    """
    own = settings.marks
    if "://" in settings.ledger and urlsplit(settings.ledger).password is not None:
        raise ConfigError(
            "marks.ledger holds a password, which would be sent to the processes of the door",
            code="config.mark_secret",
            hint="Leave it out of the URL, and put it into ~/.pgpass where the door runs.",
        )
    marking = Marking(
        key_file=key_file.absolute(),
        ledger_wait_s=own.ledger_wait_s,
        bits=own.bits,
        identified=own.identified,
        probable=own.probable,
        segment_s=own.segment_s,
        max_segments=own.max_segments,
        clip_at=own.clip_at,
        presence=own.presence,
    )
    return DeskPlan(marking, settings.ledger, marks)


class TraceDesk:
    """Says whose copies clips are.

    Args:
        plan: What it is opened by.

    Raises:
        ConfigError: The file of the keys is not there, open to others, or holds none.
    """

    def __init__(self, plan: DeskPlan) -> None:
        self._plan = plan
        self._keyring = Keyring.load(plan.marking)
        self._thread = ThreadPoolExecutor(1, "marks")
        self._tables: OrderedDict[str | None, tuple[SignedHead, CodeTable]] = OrderedDict()

    async def trace(
        self,
        read: MarksRead,
        received_at: str,
        deadline: float,
        *,
        asset: str | None = None,
        tried_before: int = 0,
    ) -> Trace:
        """Whose copy a clip is.

        Args:
            read: What was read of it.
            received_at: When it came in, as `utc_text` writes it.
            deadline: time.monotonic() after which nobody waits for it.
            asset: Copies of this asset alone.
            tried_before: Views tried at it in traces before.

        Raises:
            Overloaded: The deadline passed.
            LedgerError: The ledger cannot be read, or its chain is broken: nobody is accused.
            MarkError: The question does not fit.
        """
        asked = Inquiry(self._plan.marks.carrier, self._plan.marks.spec.dim - 1, received_at, asset)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._traced, read, asked, deadline, tried_before)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await work
        except TimeoutError:
            raise Overloaded("the deadline passed", code="request.deadline") from None

    def close(self) -> None:
        """Wait for what is traced."""
        self._thread.shutdown()

    def _traced(self, read: MarksRead, asked: Inquiry, deadline: float, tried_before: int) -> Trace:
        if time.monotonic() > deadline:
            raise Overloaded("the deadline passed", code="request.deadline")
        marking, clip = self._plan.marking, read.clip
        suspect = Suspect(
            name=clip.clip_id,
            sha256=clip.sha256 or "",
            received_at=asked.received_at,
            size_bytes=clip.size_bytes,
            duration_s=clip.duration_s,
        )
        sha256, engine = read.attempts[0].extractor_sha256, self._plan.marks.engine
        about = Circumstances(
            models=(ModelUse.extractor(asked.carrier, sha256, engine),),
            tried_before=tried_before,
            thumbnails=read.thumbnails,
        )
        with open_store(self._plan.ledger, wait_s=marking.ledger_wait_s) as store:
            head, table = self._table(store, asked)
            tracer = Tracer(Ledger(store), self._keyring, table, head, marking)
            return tracer.trace(suspect, read.attempts, about)

    def _table(self, store: LedgerStore, asked: Inquiry) -> tuple[SignedHead, CodeTable]:
        """The codes of the ledger as it is now; its chain is walked when it has changed."""
        known, now = self._tables.get(asked.asset), store.head()
        if known is not None:
            head, table = known
            same = (head.head.ledger, head.head.rows, head.head.hash)
            if same == (now.ledger, now.rows, now.hash) and table.received_at <= asked.received_at:
                self._tables.move_to_end(asked.asset)
                return known
        head = sound_head(store)
        made = head, code_table(store, self._keyring, head, asked)
        # By the clock of its issuer a row is later than this clip; it may be there for the next.
        if LATE not in made[1].left_out:
            self._tables[asked.asset] = made
            while len(self._tables) > _TABLES_KEPT:
                self._tables.popitem(last=False)
        return made
