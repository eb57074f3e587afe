"""The pair that settings name; workers open its extractor, embedders stay where copies are made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engines.marks.opening import wanted_reader
from engines.runtimes.ort_marks import OpenPair, OrtMarkReader, open_pair
from reelsight.engine import Engine, MarkRecipe
from reelsight.models import MARK
from reelsight.nouns.mark_pair import MarkPair
from reelsight.settings import Settings

__all__ = ["mark_recipe", "named_pair", "pair_of", "reading_pair"]


def pair_of(settings: Settings) -> Path:
    """The directory of the pair: the settings', else the shipped one."""
    return settings.marks.pair or MARK


def named_pair(settings: Settings) -> OpenPair:
    """The pair of the settings, or the shipped one, checked and ready; its extractor is in FP32.

    Raises:
        ModelError: It is no pair.
        EngineError: It cannot be run.
    """
    engine = settings.engine
    return open_pair(pair_of(settings), buckets=engine.buckets, threads=engine.threads)


def reading_pair(settings: Settings) -> OpenPair:
    """The same with the extractor that `marks.precision` and `marks.backend` ask for.

    Raises:
        ModelError, EngineError: As `named_pair`.
        PackageError: `package.none_usable`, with the reason for each package.
    """
    opened = named_pair(settings)
    found = wanted_reader(opened.pair, opened.reader.spec, settings)
    if found is None:
        return opened
    opened.reader.close()
    return OpenPair(opened.pair, found.open(), opened.writer)


def mark_recipe(settings: Settings) -> MarkRecipe:
    """How to open the extractor that settings ask for; the pair is checked and run once here.

    A package is chosen here, once: every worker opens that one or says why it cannot.

    Raises:
        ReelsightError: As `reading_pair`.
    """
    opened = named_pair(settings)
    opened.writer.close()
    opened.reader.close()
    carrier, spec = opened.pair.carrier, opened.reader.spec
    found = wanted_reader(opened.pair, spec, settings)
    if found is not None:
        return MarkRecipe(found.spec, found.open, carrier)
    buckets, threads = settings.engine.buckets, settings.engine.threads
    return MarkRecipe(spec, partial(_reader, opened.pair.directory, buckets, threads), carrier)


def _reader(directory: Path, buckets: tuple[int, ...], threads: int) -> Engine:
    return OrtMarkReader(MarkPair.load(directory), buckets=buckets, threads=threads)
