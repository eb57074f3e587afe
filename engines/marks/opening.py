"""Opening the extractor of a pair at the precision that the settings ask for.

FP32 on the CPU is the pair's own file and needs no package. Everything else is a package of the
registry that passed the gate, chosen as engines of tags are.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.catalog import registry_of
from engines.marks.reader import reader_model
from engines.runtimes.ort_marks import OpenPair
from reelsight.settings import Settings

if TYPE_CHECKING:
    from reelsight.engine.protocol import Engine
    from reelsight.nouns.mark_pair import MarkPair

__all__ = ["with_wanted_reader"]

_log = logging.getLogger(__name__)


def with_wanted_reader(opened: OpenPair, settings: Settings) -> OpenPair:
    """The pair with the extractor that `marks.precision` and `marks.backend` ask for.

    Args:
        opened: As `open_pair` gave it; its reader is closed where another one takes its place.
        settings: With registry, trust and caches.

    Raises:
        PackageError: `package.none_usable`, with the reason for each package.
        ConfigError: No such precision or backend.
        EngineError: The package cannot be opened here.
    """
    marks = settings.marks
    if marks.precision == "fp32" and marks.backend in ("auto", "onnxruntime-cpu"):
        return opened
    found = _packaged(opened.pair, opened.reader, settings)
    if found is None:
        return opened
    opened.reader.close()
    return replace(opened, reader=found)


def _packaged(pair: MarkPair, reader: Engine, settings: Settings) -> Engine | None:
    """A package's engine; None where the FP32 file is the best that is usable."""
    from engines.package.fetch import choose_package, open_packaged
    from engines.package.negotiator import Wish

    marks = settings.marks
    model = reader_model(pair, reader.spec)
    wish = Wish(model, marks.precision, marks.backend)
    negotiation, ref = choose_package(wish, registry_of(settings), settings.packages_dir)
    choice = negotiation.require()
    if ref is None:
        return None
    _log.info("the extractor is package %s: %s", choice.path, choice.reason)
    return open_packaged(ref, model, threads=settings.engine.threads)
