"""The architecture that is trained, with random weights: for what compilers make of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from engines.marks.reader import reader_master
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_marks import OrtMarkReader
from reelsight.nouns.mark_pair import MarkPair
from reelsight.nouns.model import Model
from reelsight.samples.backgrounds import procedural
from tests.reference_pair import write_card

__all__ = ["untrained_frames", "untrained_reader"]

BUCKETS = (1, 8)


@lru_cache(maxsize=1)
def untrained_reader() -> tuple[Model, OrtMarkReader]:
    """The extractor as a model, and as the pair's own file; skips where torch is not installed."""
    torch = pytest.importorskip("torch", reason="the training package needs torch")
    pytest.importorskip("onnxscript", reason="pip install 'reelsight[export]'")
    from training.marks.embedder import Embedder
    from training.marks.export_marks import export_pair
    from training.marks.extractor import Extractor
    from training.marks.recipe import Shape

    torch.manual_seed(7)
    extractor = Extractor(Shape())
    for module in extractor.modules():
        # A block starts as its shortcut, and each layer shrinks what it is given: other scales let
        # all layers speak, and pictures differ at the end.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 0.7, 0.1)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    directory = Path(mkdtemp(prefix="untrained-pair-"))
    export_pair(Embedder(Shape()), extractor, directory)
    write_card(directory, "untrained")
    pair = MarkPair.load(directory)
    reader = OrtMarkReader(pair, buckets=BUCKETS)
    return reader_master(pair, reader.spec, directory), reader


def untrained_frames(count: int) -> FrameSet:
    """Drawn pictures, their luma in all three channels."""
    pictures = [procedural(np.random.default_rng([3, i]), 256, 256)[..., 1] for i in range(count)]
    return FrameSet(np.repeat(np.stack(pictures)[..., None], 3, axis=-1))
