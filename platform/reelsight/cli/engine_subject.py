"""What an engine is built of and judged by: a model's image tower, or the extractor of a pair."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from reelsight.cli.engine_frames import JudgingFrames, frames_for
from reelsight.errors import ConfigError, FetchError, MediaError

if TYPE_CHECKING:
    from engines.gate.judging import Truth
    from engines.gate.mark_gate import MarkTruth
    from engines.precision.frameset import FrameSet
    from engines.runtimes.ort_marks import OpenPair
    from reelsight.copies.rehearsal import Take
    from reelsight.engine.protocol import Engine
    from reelsight.nouns.model import Model
    from reelsight.settings import Settings

__all__ = ["Subject", "SubjectPairOption", "subject_of"]

SubjectPairOption = Annotated[
    Path | None,
    typer.Option("--pair", help="The extractor of this pair instead of a model's image tower."),
]

_SEED = 20261122
# Clips that are open at a time.
_MOST_CLIPS = 48


class Subject(Protocol):
    """Whose engine is built, and what judges it."""

    @property
    def model(self) -> Model:
        """What engines are made of."""

    def open_reference(self) -> Engine:
        """The FP32 engine whose answers count as right."""

    def collect(self, source: Path | None, count: int) -> tuple[JudgingFrames, Truth]:
        """Frames to calibrate and to judge with, and what has to stay in them.

        Raises:
            ConfigError: `config.frames`: nothing usable there.
        """


def subject_of(settings: Settings, pair: Path | None) -> Subject:
    """The extractor of a pair where one is named, else the model of the settings."""
    return _Tower(settings) if pair is None else _Extractor(settings, pair)


class _Tower:
    """A model's image tower, judged by the labels of a bank."""

    def __init__(self, settings: Settings) -> None:
        from engines.catalog import find_model

        self._settings = settings
        self.model = find_model(settings.model, settings.cache_dir)

    def open_reference(self) -> Engine:
        from engines.catalog import master_recipe

        return master_recipe(self._settings, self.model).open_engine()

    def collect(self, source: Path | None, count: int) -> tuple[JudgingFrames, Truth]:
        from engines.catalog import master_recipe
        from reelsight.labels import BankShelf, choose_bank

        settings = self._settings
        recipe = master_recipe(settings, self.model)
        bank = choose_bank(settings.bank, BankShelf(settings.banks_dir), recipe)
        return frames_for(settings, self.model, source, count), bank


class _Extractor:
    """The extractor of a pair, judged by bits that its embedder wrote."""

    def __init__(self, settings: Settings, pair: Path) -> None:
        from engines.marks.reader import reader_master

        self._settings, self._directory = settings, pair
        opened = self._open()
        self.model = reader_master(
            opened.pair, opened.reader.spec, settings.cache_dir / "extractors"
        )

    def _open(self) -> OpenPair:
        from engines.runtimes.ort_marks import open_pair

        engine = self._settings.engine
        return open_pair(self._directory, buckets=engine.buckets, threads=engine.threads)

    def open_reference(self) -> Engine:
        return self._open().reader

    def collect(self, source: Path | None, count: int) -> tuple[JudgingFrames, Truth]:
        from reelsight.copies.rehearsal import RECODINGS

        clips = _clips(source)
        # A clip gives frames to one of both alone; the gate's come first, every plan needs them.
        halves: tuple[list[Take], ...] = ([], [])
        own: dict[int, list[Take]] = {}
        running = {number: self._rehearsed(path, number) for number, path in enumerate(clips)}
        while running and any(_frames(half) < count / 2 for half in halves):
            for number, takes in list(running.items()):
                half = own.get(number)
                if half is not None and _frames(half) >= count / 2:
                    running.pop(number).close()
                    continue
                found = list(islice(takes, len(RECODINGS)))
                if not found:
                    del running[number]
                    continue
                own.setdefault(number, min(halves, key=_frames)).extend(found)
        for takes in running.values():
            takes.close()
        judging, calibrating = halves
        if not judging:
            raise ConfigError(
                f"{source} gave no frames that a mark can be in",
                code="config.frames",
                hint="Name a directory of clips with texture, 96 pixels or more on each side.",
            )
        gate, truth = _stacked(judging)
        words = (
            f"{len(gate)} frames of {len(truth.rows_of)} cases from {len(own)} clips of {source}, "
            f"marked at {self._settings.marks.strength_db:g} dB"
        )
        return JudgingFrames(_stacked(calibrating)[0] if calibrating else None, gate, words), truth

    def _rehearsed(self, path: Path, number: int) -> Generator[Take]:
        """Takes of one clip; none from where it fails."""
        from reelsight.copies.rehearsal import rehearse

        settings = self._settings
        with suppress(FetchError, MediaError):
            yield from rehearse(
                path,
                self._open().writer,
                settings.media.limits,
                strength_db=settings.marks.strength_db,
                seed=_SEED + number,
                name=f"clip {number} ({path.name})",
            )


def _frames(takes: list[Take]) -> int:
    return sum(len(take.luma) for take in takes)


def _clips(source: Path | None) -> list[Path]:
    from reelsight.cli.paths import videos_below

    if source is None or not source.is_dir():
        raise ConfigError(
            "an extractor is judged on real clips, and no directory of them was given",
            code="config.frames",
            hint="Name clips like those that will be marked: --frames DIRECTORY.",
        )
    found = [Path(path) for path in videos_below(source)]
    if not found:
        raise ConfigError(f"no clips below {source}", code="config.frames")
    return found[:: -(-len(found) // _MOST_CLIPS)]


def _stacked(takes: list[Take]) -> tuple[FrameSet, MarkTruth]:
    """Frames of takes as an engine takes them, and what is marked in them."""
    import numpy as np

    from engines.gate.mark_gate import MarkTruth
    from engines.precision.frameset import FrameSet

    luma = np.concatenate([take.luma for take in takes])
    bits = max((len(take.code) for take in takes if take.code is not None), default=0)
    rows = [
        np.repeat(
            np.zeros((1, bits), np.uint8) if take.code is None else take.code[None].astype("u1"),
            len(take.luma),
            axis=0,
        )
        for take in takes
    ]
    truth = MarkTruth(
        codes=np.concatenate(rows),
        marked=np.concatenate([np.full(len(t.luma), t.code is not None) for t in takes]),
        cases=tuple(take.case for take in takes for _ in take.luma),
    )
    return FrameSet(np.repeat(luma[..., None], 3, axis=-1)), truth
