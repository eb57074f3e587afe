"""An engine whose answers are bent on purpose, over a real one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import Engine
from reelsight.nouns.engine_spec import EngineSpec

Floats = npt.NDArray[np.float32]


class Bent:
    """Runs another engine and changes its rows."""

    def __init__(self, engine: Engine, bend: Callable[[Floats], Floats]) -> None:
        self._engine, self._bend = engine, bend

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    @property
    def capabilities(self) -> frozenset[str]:
        return self._engine.capabilities

    def warmup(self) -> None:
        self._engine.warmup()

    def run(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        return self._bend(self._engine.run(pixels).copy())

    def close(self) -> None:
        """The engine belongs to the fixture."""
