"""Critical labels: near a threshold, an engine of higher precision decides.

The frames concerned are run again there, and its embeddings take the place of the first engine's:
every label of such a frame is scored by the better embedding, and a Report's tags still follow from
the embeddings that it holds. Where the second engine cannot answer, the request fails: what a
critical label is must not depend on how busy an engine was.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from deployments.aside import aside
from deployments.engine_door import EngineDoor, Pixels
from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.errors import ConfigError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Rechecked
from reelsight.settings import Settings
from reelsight.tagging import confidences

__all__ = ["EnginePair", "Recheck", "critical_recipe"]

Half = npt.NDArray[np.float16]
_PRECISION = {
    "fp32": 3,
    "fp16": 2,
    "fp16-norms32": 2,
    "bf16": 2,
    "int8-fp32": 1,
    "int8": 1,
    "fp8": 1,
}
# As in `service`.
_SCORES = 10_000
_log = logging.getLogger(__name__)


class Recheck:
    """Runs frames again where a critical label is near its threshold. It belongs to one event loop.

    Args:
        engine: The second engine.
        spec: What it is.
        band: How near, in confidence.
    """

    def __init__(self, engine: EngineDoor, spec: EngineSpec, band: float) -> None:
        self._engine, self._band = engine, band
        self._name, self._hash = (
            f"{spec.backend}/{spec.backend_version}/{spec.precision}",
            spec.hash,
        )
        self._bank: LabelBank | None = None
        self._critical: LabelBank | None = None

    async def settle(
        self, pixels: Pixels, rows: Half, bank: LabelBank, deadline: float
    ) -> tuple[Half, Rechecked | None]:
        """The embeddings that decide, and what was run again.

        Args:
            pixels: uint8 [N, S, S, 3] RGB.
            rows: float16 [N, D] of the first engine.
            bank: What they are scored against.
            deadline: time.monotonic() after which nobody waits.

        Raises:
            EngineInputError: The second engine cannot take these frames.
            Overloaded: It has no time for them.
            EngineError: It is broken.
        """
        critical = self._critical_of(bank)
        if critical is None:
            return rows, None
        long = len(rows) * len(critical) >= _SCORES
        near = np.abs(await aside(long, confidences, rows, critical) - 0.5) <= self._band
        frames = np.flatnonzero(near.any(axis=1))
        if not len(frames):
            return rows, None
        better = await self._engine.embed(np.ascontiguousarray(pixels[frames]), deadline=deadline)
        settled = rows.copy()
        settled[frames] = better.astype(np.float16)
        labels = tuple(critical.labels[i].name for i in np.flatnonzero(near.any(axis=0)))
        return settled, Rechecked(labels, tuple(frames.tolist()), self._name, self._hash)

    def _critical_of(self, bank: LabelBank) -> LabelBank | None:
        if bank is not self._bank:
            rows = [i for i, label in enumerate(bank.labels) if label.critical]
            self._bank, self._critical = bank, bank.part(rows) if rows else None
        return self._critical


class EnginePair:
    """Two engines as one door: frames go to the first, life is that of both.

    Args:
        first: Embeds.
        second: Decides critical labels.
    """

    def __init__(self, first: EngineDoor, second: EngineDoor) -> None:
        self._first, self._second = first, second

    async def embed(self, pixels: Pixels, *, deadline: float | None) -> npt.NDArray[np.float32]:
        return await self._first.embed(pixels, deadline=deadline)

    async def stalled_s(self) -> float:
        return max(await self._first.stalled_s(), await self._second.stalled_s())


def critical_recipe(settings: Settings, serving: EngineRecipe) -> EngineRecipe | None:
    """The second engine; None where none is asked for, or it would be no more precise.

    Args:
        settings: serve.critical_engine.
        serving: The engine that serves.

    Raises:
        ConfigError: It is not an engine of the same model.
        ReelsightError: It does not resolve.
    """
    asked = settings.serve.critical_engine
    if asked is None:
        return None
    engine = settings.engine.model_copy(
        update={"backend": asked.backend, "precision": asked.precision}
    )
    recipe = recipe_for(settings.model_copy(update={"engine": engine}))
    own, other = serving.spec, recipe.spec
    if (own.model_hash, own.geometry, own.dim) != (other.model_hash, other.geometry, other.dim):
        raise ConfigError(
            f"serve.critical_engine is {other.model} ({other.model_hash[:12]}), "
            f"the engine that serves is {own.model} ({own.model_hash[:12]})"
        )
    if _PRECISION.get(other.precision, 0) <= _PRECISION.get(own.precision, 0):
        _log.info("no second engine: %s is no more precise than %s", other.precision, own.precision)
        return None
    return recipe
