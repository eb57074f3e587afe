"""What the commands about marks share: their options, the settings, and the pair of networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.runtimes.ort_marks import OpenPair
    from reelsight.settings import Settings

__all__ = ["LedgerOption", "PairOption", "load", "opened", "opened_to_trace", "pair_of", "user"]

LedgerOption = Annotated[
    str | None, typer.Option("--ledger", help="SQLite file or postgresql:// URL.")
]
PairOption = Annotated[
    Path | None,
    typer.Option("--pair", help="Directory of embedder.onnx, extractor.onnx and CARD.md."),
]


def load(
    config: Path | None,
    ledger: str | None,
    pair: Path | None = None,
    precision: str | None = None,
) -> Settings:
    """Settings with the ledger, the pair and the extractor's precision that flags name."""
    from reelsight.settings import Settings

    named = None if pair is None else str(pair)
    flags = {"marks.ledger": ledger, "marks.pair": named, "marks.precision": precision}
    return Settings.load(config, flags)


def pair_of(settings: Settings) -> Path | None:
    """The directory of the pair: the settings', else the shipped one; None where neither is."""
    from reelsight.models import MARK

    if settings.marks.pair is not None:
        return settings.marks.pair
    return MARK if (MARK / "CARD.md").is_file() else None


def opened(settings: Settings) -> OpenPair:
    """The pair of the settings, or the shipped one, checked and ready.

    Raises:
        ConfigError: `config.no_mark_pair`: none is named.
        ModelError: It is no pair.
        EngineError: It cannot be run.
    """
    from engines.runtimes.ort_marks import open_pair
    from reelsight.errors import ConfigError

    pair = pair_of(settings)
    if pair is None:
        raise ConfigError(
            "no pair of networks is named, and none is shipped",
            code="config.no_mark_pair",
            hint="Give --pair DIR or set marks.pair; `python -m training.marks` trains one.",
        )
    engine = settings.engine
    return open_pair(pair, buckets=engine.buckets, threads=engine.threads)


def opened_to_trace(settings: Settings) -> OpenPair:
    """The pair with the extractor that `marks.precision` asks for.

    Raises:
        ConfigError, ModelError, EngineError: As opened.
        PackageError: No package of that precision is usable here.
    """
    from engines.marks.opening import with_wanted_reader

    return with_wanted_reader(opened(settings), settings)


def user() -> str:
    """The user's name, by the system and not by the environment."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
