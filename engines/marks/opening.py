"""The extractor of a pair at the precision that the settings ask for.

FP32 on the CPU is the pair's own file and needs no package. Everything else is a package of the
registry that passed the gate, chosen as engines of tags are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engines.catalog import registry_of
from engines.marks.reader import reader_model
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.settings import Settings

if TYPE_CHECKING:
    from reelsight.engine.protocol import Engine
    from reelsight.nouns.mark_pair import MarkPair

__all__ = ["PackagedReader", "wanted_reader"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackagedReader:
    """A package of an extractor that was chosen.

    Attributes:
        spec: What it will be.
        open: Makes the engine; picklable, called where the device is.
    """

    spec: EngineSpec
    open: Callable[[], Engine]


def wanted_reader(pair: MarkPair, spec: EngineSpec, settings: Settings) -> PackagedReader | None:
    """The package that `marks.precision` and `marks.backend` ask for; None for the pair's own file.

    Args:
        pair: Whose extractor.
        spec: Of the extractor as `OrtMarkReader` opens it.
        settings: With registry, trust and caches.

    Raises:
        PackageError: `package.none_usable`, with the reason for each package.
        ConfigError: No such precision or backend.
    """
    marks = settings.marks
    if marks.precision == "fp32" and marks.backend in ("auto", "onnxruntime-cpu"):
        return None
    from engines.package.fetch import choose_package, open_packaged
    from engines.package.negotiator import Wish

    model = reader_model(pair, spec)
    wish = Wish(model, marks.precision, marks.backend)
    negotiation, ref = choose_package(wish, registry_of(settings), settings.packages_dir)
    choice = negotiation.require()
    if ref is None or choice.listed is None:
        return None
    _log.info("the extractor is package %s: %s", choice.path, choice.reason)
    opening = partial(open_packaged, ref, model, threads=settings.engine.threads)
    return PackagedReader(choice.listed.require().spec, opening)
