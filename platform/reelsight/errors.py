"""The one error tree.

Every error that a user can meet has a stable `code`, says at which `stage` it happened, what to do
next (`hint`), whether trying again can help (`retryable`), and the HTTP status that the online door
answers with. This module knows no domain: it only carries words.
"""

from __future__ import annotations

__all__ = [
    "BankConflict",
    "BankError",
    "ConfigError",
    "EngineError",
    "EngineInputError",
    "FetchError",
    "FetchInterruptedError",
    "LedgerBusy",
    "LedgerError",
    "ManifestError",
    "MarkError",
    "MediaError",
    "ModelError",
    "Overloaded",
    "PackageError",
    "PointerUnreachable",
    "QueryError",
    "ReelsightError",
    "RequestError",
    "RunConflict",
    "RunError",
    "StoreError",
    "SubmitError",
    "first_line",
]


class ReelsightError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: What happened, with the offending value.
        code: Stable dotted identifier, for machines; the class default when None.
        hint: What to do next, for people; the class default when None.
    """

    code = "reelsight.error"
    stage = "internal"
    http_status = 500
    retryable = False
    #: Seconds after which another try is worth it, where it is retryable.
    retry_after_s = 1.0
    hint = "Report this with the command that led here."

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.hint))

    def __str__(self) -> str:
        return self.message


def first_line(error: BaseException) -> str:
    """What went wrong at the root, in one line: libraries wrap it in general advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _rebuild(kind: type[ReelsightError], message: str, code: str, hint: str) -> ReelsightError:
    return kind(message, code=code, hint=hint)


def _rebuild_request(message: str, status: int, code: str, hint: str) -> RequestError:
    return RequestError(message, status=status, code=code, hint=hint)


class ConfigError(ReelsightError):
    """A setting, flag or configuration file is not usable."""

    code = "config.invalid"
    stage = "config"
    http_status = 400
    hint = "Settings and their defaults are in docs/reference.md."


class ManifestError(ReelsightError):
    """The manifest cannot be used as a whole."""

    code = "manifest.invalid"
    stage = "manifest"
    http_status = 400
    hint = "A manifest is a Parquet file with unique string columns clip_id and uri."


class FetchError(ReelsightError):
    """The bytes of a clip could not be had."""

    code = "fetch.failed"
    stage = "fetch"
    http_status = 422
    hint = "Check that the uri exists and that this machine may read it."


class FetchInterruptedError(FetchError):
    """The bytes are probably there, but the way to them broke."""

    code = "fetch.interrupted"
    http_status = 503
    retryable = True
    hint = "Try again; if it stays, check the network and the store's status."


class MediaError(ReelsightError):
    """The bytes are not a clip that can be decoded."""

    code = "media.invalid"
    stage = "decode"
    http_status = 422
    hint = "Check the file with a player; re-encode it if it plays."


class ModelError(ReelsightError):
    """A model is unknown, incomplete, or cannot be fetched or exported."""

    code = "model.unusable"
    stage = "model"
    http_status = 400
    hint = "List what is there with `reelsight models`."


class EngineError(ReelsightError):
    """An engine cannot be opened or failed while running."""

    code = "engine.failed"
    stage = "engine"
    hint = "Run `reelsight doctor`, which says which engines run here and why."


class EngineInputError(EngineError):
    """The frames of one clip are not what the engine takes; the engine itself is well."""

    code = "engine.bad_input"
    http_status = 422
    hint = "Report this with the clip: frames are made to fit the engine before they reach it."


class Overloaded(EngineError):
    """The engine's queue is full, or a deadline passed in it."""

    code = "engine.overloaded"
    http_status = 503
    retryable = True
    hint = "Try again later, or add engines."


class PackageError(EngineError):
    """An engine package is damaged, foreign, unsigned, ungated, or was stopped by the gate."""

    code = "package.unusable"
    stage = "package"
    http_status = 400
    hint = "See `reelsight engine list`; build it again with `reelsight engine build`."


class BankError(ReelsightError):
    """A label bank is malformed, damaged, or belongs to another model."""

    code = "bank.invalid"
    stage = "bank"
    http_status = 400
    hint = "Rebuild it with `reelsight bank build labels.yaml`."


class MarkError(ReelsightError):
    """A mark cannot be issued or traced as asked: a key, a code or the question does not fit."""

    code = "mark.invalid"
    stage = "mark"
    http_status = 400
    hint = "How copies are marked and traced is in docs/marks.md."


class LedgerError(ReelsightError):
    """The ledger of issued copies cannot be read or written, or its chain is broken."""

    code = "ledger.failed"
    stage = "ledger"
    hint = "Run `reelsight ledger verify`; it names the first bad row."


class LedgerBusy(LedgerError):
    """Another issuer held the ledger for too long; nothing was written."""

    code = "ledger.busy"
    http_status = 503
    retryable = True
    hint = "Try again; marks.ledger_wait_s is how long an issuer waits."


class BankConflict(BankError):
    """Somebody else has made another bank current meanwhile."""

    code = "bank.conflict"
    http_status = 409
    hint = "See GET /v1/labels for what is current now, and decide again."


class PointerUnreachable(BankError):
    """What says which bank is current can be neither read nor written now."""

    code = "bank.pointer_unreachable"
    http_status = 503
    retryable = True
    hint = "Try again; check the path or the Redis of serve.bank_pointer."


class RequestError(ReelsightError):
    """A request over HTTP that cannot be answered as it is.

    Args:
        message: What is wrong with it.
        status: HTTP status, 4xx.
        code: As for every error.
        hint: As for every error.
    """

    code = "request.invalid"
    stage = "request"
    http_status = 400
    hint = "The routes and their bodies are in /openapi.json."

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.http_status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_request, (self.message, self.http_status, self.code, self.hint))


class StoreError(ReelsightError):
    """Results cannot be written or read."""

    code = "store.failed"
    stage = "store"
    hint = "Check the output directory: space, permissions; then run the same command again."


class QueryError(StoreError):
    """A question that cannot be answered: no such run, or SQL that does not fit."""

    code = "store.bad_query"
    http_status = 400
    hint = "The views are clips, tags, frames, dead_letters, marks, verdicts and reports."


class RunError(ReelsightError):
    """A run broke as a whole: the cluster, a worker, or the network, not a clip."""

    code = "run.failed"
    stage = "run"
    retryable = True
    hint = "Run it again; Ray's logs are under /tmp/ray/session_latest/logs on each node."


class RunConflict(RunError):
    """What was asked for is not what an unfinished run is bound to."""

    code = "run.config_changed"
    http_status = 409
    retryable = False
    hint = "Undo the change to go on with that run, or start another with --new."


class SubmitError(ReelsightError):
    """A cluster's job server refuses what was asked of it."""

    code = "submit.refused"
    stage = "submit"
    http_status = 400
    hint = "Is it the dashboard's address, and do the versions of Ray agree? See docs/submit.md."
