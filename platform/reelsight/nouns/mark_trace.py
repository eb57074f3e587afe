"""Trace: whose copy a suspect video is, and everything that the answer rests on.

Plain values, so that a Trace is JSON, a page for a lawyer, and a row in a store alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reelsight.nouns.mark import Carrier

__all__ = [
    "Accused",
    "ChainProof",
    "FrameUse",
    "LedgerHead",
    "LedgerSource",
    "ModelUse",
    "NullCalibration",
    "Power",
    "Suspect",
    "Trace",
    "Trials",
    "Verdict",
    "WindowResult",
]

Verdict = Literal[
    "IDENTIFIED", "PROBABLE", "MULTIPLE", "MARKED_UNKNOWN", "NO_EVIDENCE", "INSUFFICIENT"
]


@dataclass(frozen=True, slots=True)
class Suspect:
    """The video that was found.

    Attributes:
        name: What it was called when it came in.
        sha256: Hex digest of its bytes.
        received_at: ISO 8601, UTC. Copies issued later cannot be accused.
        size_bytes: Its size, where known.
        duration_s: Its length in seconds, where known.
    """

    name: str
    sha256: str
    received_at: str
    size_bytes: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if len(self.sha256) != 64:
            raise ValueError(f"sha256 must be 64 hex digits, got {self.sha256!r}")


@dataclass(frozen=True, slots=True)
class Trials:
    """What was tried: the verdict is the best of all of it.

    Attributes:
        rows: Codes that were compared.
        attempts: Pairs of view and extractor that were read.
        tried_before: Attempts at this suspect in earlier traces.
        windows: Windows of the timeline, the whole clip among them.
        look: Which look at a live stream, from 1; 0 for a file.
        suspects: Videos that were looked at together, such as those of a scan: whoever is named is
            the best of all of them.
    """

    rows: int
    attempts: int = 1
    tried_before: int = 0
    windows: int = 1
    look: int = 0
    suspects: int = 1

    def __post_init__(self) -> None:
        least = min(self.attempts, self.windows, self.suspects)
        if min(self.rows, self.tried_before, self.look) < 0 or least < 1:
            raise ValueError(f"nothing can be tried less than never: {self!r}")


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """What a ledger was at one moment.

    Attributes:
        ledger: Its id.
        rows: Rows it had.
        hash: Hash of the last of them; the ledger's first hash when it had none.
        at: ISO 8601, UTC.
    """

    ledger: str
    rows: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class ChainProof:
    """That a row belongs to a ledger with a certain head, without showing any other row.

    Attributes:
        index: The row's place, from 0.
        prev: Hash before the row.
        body: The row, exactly as it was hashed.
        later: sha256 (hex) of the body of each later row, up to the head.
        head: What the chain must end at.
        head_signature: Signature over the head's document, base64, where there is one.
    """

    index: int
    prev: str
    body: str
    later: tuple[str, ...]
    head: LedgerHead
    head_signature: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """The row that a candidate stands for.

    Attributes:
        serial: Of the copy.
        recipient: Who got it.
        asset: What it is a copy of.
        channel: How it went out.
        issued_at: ISO 8601, UTC.
        carrier: Model and version of the mark.
    """

    serial: str
    recipient: str
    asset: str
    channel: str
    issued_at: str
    carrier: str


@dataclass(frozen=True, slots=True)
class Accused:
    """One copy that the suspect was compared with, in the window where it fits best.

    Attributes:
        source: The copy.
        start_s: Begin of the window, seconds.
        end_s: Its end.
        statistic: T, the sum of soft bits with the signs of the code.
        most: The largest T that any code could have reached there.
        agreeing: Bits whose sign is the code's, of `bits`.
        bits: Bits compared: the code's length, times the segments of a rotating pad.
        log10_p: log10 of the bound on the probability that this copy fits so well by chance.
        log10_p_adjusted: The same after everything that was tried.
        log10_p_hard: log10 of the exact binomial tail of the signs alone, unadjusted; for
            comparison, no verdict rests on it.
        code: The codeword, hex; None for a rotating pad.
        copy_key: Opens the commitment in the row, and gives the code again, of a rotating pad the
            code of each segment; hex.
        commitment: As the row holds it.
        proof: That the row is in the ledger.
    """

    source: LedgerSource
    start_s: float
    end_s: float
    statistic: float
    most: float
    agreeing: int
    bits: int
    log10_p: float
    log10_p_adjusted: float
    log10_p_hard: float
    code: str | None = None
    copy_key: str | None = None
    commitment: str | None = None
    proof: ChainProof | None = None


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The best copy in one window of the timeline.

    Attributes:
        start_s: Begin, seconds.
        end_s: End, seconds.
        serial: The copy that fits best; None where there is nothing to compare.
        log10_p_adjusted: Of that copy, there.
    """

    start_s: float
    end_s: float
    serial: str | None
    log10_p_adjusted: float


@dataclass(frozen=True, slots=True)
class FrameUse:
    """One frame and what it said.

    Attributes:
        pts: Seconds from the start.
        weight: Its weight in the sums; 0 was not used.
        presence: The extractor's guess that it is marked, 0..1.
        agreement: Share of its bits whose sign is that of the best copy's code.
        thumbnail: JPEG, base64, where one was kept.
    """

    pts: float
    weight: float
    presence: float
    agreement: float | None = None
    thumbnail: str | None = None


@dataclass(frozen=True, slots=True)
class Power:
    """What this trace could have found: without it, "no evidence" says nothing.

    Attributes:
        bits: Bits compared.
        log10_p_needed: What one copy's unadjusted p had to reach to be named.
        detectable_error: Largest bit error rate of the pooled bits at which a marked copy is named
            with a probability of 0.95; None where no copy could have been named.
        table: (bit error rate, probability of being named), by the exact binomial.
    """

    bits: int
    log10_p_needed: float
    detectable_error: float | None
    table: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class NullCalibration:
    """What the extractor and the ledger gave on footage that is known to be unmarked.

    Attributes:
        hours: Of footage.
        traces: Traces made of it.
        lowest_log10_p_adjusted: The most surprising of them.
        named: Traces that named anybody.
    """

    hours: float
    traces: int
    lowest_log10_p_adjusted: float
    named: int


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model that took part.

    Attributes:
        role: Such as `extractor`.
        name: In the model catalogue.
        sha256: Hex digest of its file.
    """

    role: str
    name: str
    sha256: str

    @classmethod
    def extractor(cls, carrier: Carrier, sha256: str, engine: str) -> ModelUse:
        """What read soft bits; its engine is named where it is not the pair's own file.

        Args:
            carrier: The pair.
            sha256: Of the file that ran.
            engine: What ran it, as `backend/version/precision`.
        """
        name = f"{carrier.model}@{carrier.version}"
        backend, _, rest = engine.partition("/")
        version, _, precision = rest.rpartition("/")
        if (backend, precision) != ("onnxruntime-cpu", "fp32"):
            name += f", {precision} on {backend} {version}"
        return cls("extractor", name, sha256)


@dataclass(frozen=True, slots=True)
class Trace:
    """The answer.

    Attributes:
        verdict: IDENTIFIED names one recipient; PROBABLE wants a person to look; MULTIPLE found
            several recipients; MARKED_UNKNOWN found a mark of nobody in the ledger; NO_EVIDENCE
            found none, with the stated power; INSUFFICIENT had too little to look at.
        statement: The verdict in a sentence or two, for people.
        suspect: What was looked at.
        accused: Copies at or beyond the probable limit, the best first; and the two of a pair that
            is beyond the limit for naming together.
        runner_up: The best copy of another recipient than the first's, accused or not.
        margin: T of the best copy less T of the runner-up in the same window.
        joint_log10_p_adjusted: That the two copies which fit best together, in one window, both do
            so by chance. Small means that one of the two is in it.
        trials: What was tried.
        identified: Adjusted p at or below which a copy is named.
        probable: Adjusted p at or below which a person has to look.
        windows: The best copy of every window, in order of time, the longer first.
        frames: What each frame of the view that was used said.
        pooled: Soft bits of the window of the best copy, summed.
        view: The view that was used.
        presence: Pooled presence score, 0..1; a hint, never evidence.
        power: What could have been found.
        left_out: Rows of the ledger that were not compared, by reason.
        head: The ledger as it was read.
        models: Models that took part.
        calibration: On unmarked footage, where there is one.
        rerun: One command that makes this trace again, where there is one.
        code_version: Of the program.
        made_at: ISO 8601, UTC.
        format: Of this document.
    """

    verdict: Verdict
    statement: str
    suspect: Suspect
    accused: tuple[Accused, ...]
    runner_up: Accused | None
    margin: float | None
    joint_log10_p_adjusted: float | None
    trials: Trials
    identified: float
    probable: float
    windows: tuple[WindowResult, ...]
    frames: tuple[FrameUse, ...]
    pooled: tuple[float, ...]
    view: str
    presence: float
    power: Power
    left_out: dict[str, int]
    head: LedgerHead
    models: tuple[ModelUse, ...]
    calibration: NullCalibration | None
    rerun: str | None
    code_version: str
    made_at: str
    format: str = "reelsight-trace/1"
