"""Times as the ledger writes them: UTC, one fixed width, so that their order is that of text."""

from __future__ import annotations

from datetime import UTC, datetime

from reelsight.errors import MarkError

__all__ = ["parse_time", "require_utc", "utc_now", "utc_text"]


def utc_text(moment: datetime) -> str:
    """`2026-11-21T23:17:13.000000Z`.

    Raises:
        MarkError: `mark.time`, the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise MarkError(f"{moment} has no time zone", code="mark.time")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> str:
    """Now, by this machine's clock."""
    return utc_text(datetime.now(UTC))


def require_utc(text: str) -> str:
    """A time as `utc_text` writes it, unchanged: others would not compare as text does.

    Raises:
        MarkError: `mark.time`, it is written otherwise.
    """
    if parse_time(text) != text:
        raise MarkError(
            f"{text!r} is not written as times are compared",
            code="mark.time",
            hint=f"Write {parse_time(text)}.",
        )
    return text


def parse_time(text: str) -> str:
    """An ISO 8601 time with its zone, or a date (its first moment in UTC), as `utc_text` writes it.

    Raises:
        MarkError: `mark.time`, it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise MarkError(
            f"{text!r} is no time", code="mark.time", hint="Write 2026-11-21T18:00:00+01:00."
        ) from None
    return utc_text(moment.replace(tzinfo=UTC) if len(text) <= 10 else moment)
