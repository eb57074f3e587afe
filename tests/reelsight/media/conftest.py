from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.reelsight.media.made_clips import Image, Recipe, encode, number_in


@pytest.fixture(scope="session")
def coded() -> Callable[..., bytes]:
    """Encode a clip from the fields of a Recipe."""
    return lambda **fields: encode(Recipe(**fields))


@pytest.fixture(scope="session")
def shown() -> Callable[[Image], int]:
    """Which frame a sampled picture is."""
    return number_in
