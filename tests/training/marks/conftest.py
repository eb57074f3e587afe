"""Fixtures of the mark's training: without torch, the tests that need it skip and say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reelsight.samples.backgrounds import procedural


@pytest.fixture(scope="session", autouse=True)
def torch() -> Iterator[Any]:
    """The torch module on one thread: small networks lose by more, and results repeat."""
    module = pytest.importorskip("torch", reason="training needs torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.fixture(scope="session")
def photo_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of 40 pictures that stand in for photographs."""
    pytest.importorskip("torch", reason="training needs torch")
    from training.marks.pack import pack

    directory = tmp_path_factory.mktemp("photos")
    files = []
    for index in range(40):
        pixels = procedural(np.random.default_rng([8, index]), 100, 80)
        files.append(directory / f"{index:02}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=95)
    out = directory / "photos.npz"
    pack(files, out, side=80)
    return out
