"""What the commands about marks share: their options, the settings, and the pair of networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.runtimes.ort_marks import OpenPair
    from reelsight.nouns.mark_trace import LedgerHead
    from reelsight.settings import Settings

__all__ = ["LedgerOption", "PairOption", "kept_heads", "load", "opened", "opened_to_trace", "user"]

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


def kept_heads(paths: Sequence[Path]) -> list[LedgerHead]:
    """Heads of a ledger that were kept elsewhere.

    Raises:
        ConfigError: `config.head`: one is not there.
    """
    from reelsight.errors import ConfigError
    from reelsight.marks.ledger import parse_head

    heads = []
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"no head at {path}", code="config.head")
        heads.append(parse_head(path.read_text(encoding="utf-8"), str(path)).head)
    return heads


def opened(settings: Settings) -> OpenPair:
    """The pair of the settings, or the shipped one; errors as of `engines.mark_catalog`."""
    from engines.mark_catalog import named_pair

    return named_pair(settings)


def opened_to_trace(settings: Settings) -> OpenPair:
    """The same with the extractor that `marks.precision` asks for."""
    from engines.mark_catalog import reading_pair

    return reading_pair(settings)


def user() -> str:
    """The user's name, by the system and not by the environment."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
