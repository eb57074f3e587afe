"""The pair that settings name; workers open its extractor, embedders stay where copies are made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engines.runtimes.ort_marks import OpenPair, OrtMarkReader, open_pair
from reelsight.engine import Engine, MarkRecipe
from reelsight.errors import ConfigError
from reelsight.nouns.mark_pair import MarkPair
from reelsight.settings import Settings

__all__ = ["mark_recipe", "named_pair"]


def named_pair(settings: Settings) -> OpenPair:
    """The pair of `marks.pair`, checked and ready.

    Raises:
        ConfigError: `config.no_mark_pair`: none is named.
        ModelError: It is no pair.
        EngineError: It cannot be run.
    """
    if settings.marks.pair is None:
        raise ConfigError(
            "no pair of networks is named, and none is shipped",
            code="config.no_mark_pair",
            hint="Give --pair DIR or set marks.pair; `python -m training.marks` trains one.",
        )
    engine = settings.engine
    return open_pair(settings.marks.pair, buckets=engine.buckets, threads=engine.threads)


def mark_recipe(settings: Settings) -> MarkRecipe:
    """How to open the extractor of `marks.pair`; both networks are checked and run once here.

    Raises:
        ReelsightError: As `named_pair`.
    """
    opened = named_pair(settings)
    opened.writer.close()
    opened.reader.close()
    buckets, threads = settings.engine.buckets, settings.engine.threads
    factory = partial(_reader, opened.pair.directory, buckets, threads)
    return MarkRecipe(opened.reader.spec, factory, opened.pair.carrier)


def _reader(directory: Path, buckets: tuple[int, ...], threads: int) -> Engine:
    return OrtMarkReader(MarkPair.load(directory), buckets=buckets, threads=threads)
