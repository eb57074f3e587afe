"""EmbeddingService: texts and pictures to vectors of one space, for many requests at a time.

Texts go through the text lane; a picture is a clip of one frame, and takes the way of every other
clip: decode lane, then the engine. Knows neither HTTP nor Serve.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor
from deployments.problems import ClipFailed
from deployments.text_lane import TextLane, TextRows
from reelsight.errors import ModelError, Overloaded, RequestError
from reelsight.media.magic import is_still
from reelsight.plan import TaggingPlan
from reelsight.steps import ClipRequest

__all__ = ["EmbedAnswer", "EmbedJob", "Embedder", "EmbeddingService"]


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """What one request wants embedded.

    Attributes:
        inputs: Texts, and the bytes of picture files, in any order; at least one.
        deadline: time.monotonic() after which nobody waits for it.
    """

    inputs: tuple[str | bytes, ...]
    deadline: float


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    """The vectors.

    Attributes:
        rows: float32 [N, D], L2-normalised, in the order of the inputs.
        tokens: Tokens of text that were read.
        pictures: How many inputs were pictures.
    """

    rows: npt.NDArray[np.float32]
    tokens: int
    pictures: int


class Embedder(Protocol):
    """Embeds texts and pictures, wherever that is done."""

    async def embed(self, job: EmbedJob) -> EmbedAnswer:
        """As EmbeddingService."""


class EmbeddingService:
    """Belongs to one event loop.

    Args:
        plan: The plan in force: its limits, and what the engine takes.
        lane: Decodes pictures.
        engine: Embeds them.
        texts: Embeds texts; None where that is switched off.
    """

    def __init__(
        self,
        plan: Callable[[], TaggingPlan],
        lane: DecodeLane,
        engine: EngineDoor,
        texts: TextLane | None,
    ) -> None:
        self._plan, self._lane, self._engine, self._texts = plan, lane, engine, texts

    async def embed(self, job: EmbedJob) -> EmbedAnswer:
        """Embed all inputs of a request; one that cannot be fails it, and is named.

        Raises:
            RequestError: `request.not_a_picture`.
            ClipFailed: A picture cannot be decoded.
            ModelError: `model.no_text_tower`.
            Overloaded: Too many wait, or the deadline passed.
            EngineError: The engine is broken.
        """
        texts = tuple(each for each in job.inputs if isinstance(each, str))
        is_text = [isinstance(each, str) for each in job.inputs]
        try:
            async with asyncio.timeout(max(0.0, job.deadline - time.monotonic())):
                read, seen = await _all(self._read(texts, job), self._see(job))
        except TimeoutError:
            raise Overloaded("the deadline passed", code="request.deadline") from None
        rows = np.empty((len(job.inputs), self._plan().spec.dim), np.float32)
        if read is not None:
            rows[is_text] = read.rows
        if seen is not None:
            rows[np.logical_not(is_text)] = seen
        tokens = 0 if read is None else read.tokens
        return EmbedAnswer(rows, tokens, len(job.inputs) - len(texts))

    async def _read(self, texts: tuple[str, ...], job: EmbedJob) -> TextRows | None:
        if not texts:
            return None
        if self._texts is None:
            raise ModelError(
                "texts are not embedded here",
                code="text.off",
                hint="Set serve.embeddings.text, or send pictures alone.",
            )
        return await asyncio.wrap_future(self._texts.submit(texts, job.deadline))

    async def _see(self, job: EmbedJob) -> npt.NDArray[np.float32] | None:
        pictures = [(i, each) for i, each in enumerate(job.inputs) if isinstance(each, bytes)]
        for index, data in pictures:
            if not is_still(data):
                raise RequestError(
                    f"input {index} is no JPEG, PNG or WebP: it starts with {data[:12]!r}",
                    status=422,
                    code="request.not_a_picture",
                    hint="A clip's frames are embedded for its tags: POST /v1/tags.",
                )
        if not pictures:
            return None
        # One request never asks for more places than there are, so it cannot crowd itself out.
        turn = asyncio.Semaphore(self._lane.width)
        frames = await _all(*(self._decode(i, data, job, turn) for i, data in pictures))
        return await self._engine.embed(np.concatenate(frames), deadline=job.deadline)

    async def _decode(
        self, index: int, data: bytes, job: EmbedJob, turn: asyncio.Semaphore
    ) -> npt.NDArray[np.uint8]:
        """uint8 [1, S, S, 3]."""
        async with turn:
            request = ClipRequest(f"input-{index}", "upload:")
            loaded = await self._lane.load(request, data, self._plan(), job.deadline)
        if loaded.failure is not None:
            told = replace(loaded.failure, message=f"input {index}: {loaded.failure.message}")
            raise ClipFailed(told)
        assert loaded.frames is not None
        return loaded.frames.pixels


async def _all(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Every result; the first error ends the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
