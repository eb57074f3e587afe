"""Leaks as they are found: real encodes of marked films, and whom a trace names.

The pair is the untrained reference, so what is shown is what surrounds the networks: right names,
and nobody innocent whatever is thrown at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engines.runtimes.ort_marks import OpenPair, open_pair
from reelsight.copies.embedding import Embedder
from reelsight.copies.encoder import EncoderSettings
from reelsight.copies.reading import read_marks
from reelsight.copies.views import PLAIN, SEARCH, View
from reelsight.engine import EngineHost
from reelsight.marks.codeword import codeword
from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import Ledger, Order, SignedHead, open_store
from reelsight.marks.match import CodeTable
from reelsight.marks.policy import Marking
from reelsight.marks.tracing import Tracer
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.mark import Identity
from reelsight.nouns.mark_trace import Suspect, Trace
from tests.made_films import Film, Pictures, pictures, write_film, write_pictures
from tests.reference_pair import write_pair

LATER = "2999-01-01T00:00:00.000000Z"
ASSET = "a" * 64
FILM = Film(frames=72, width=426, height=240)
PIRATE = replace(FILM, crf=28)
ROWS = 40
LIMITS = MediaLimits()


@dataclass(frozen=True)
class World:
    """A tenant, a pair, and the copies of one film."""

    home: Path
    pair: OpenPair
    host: EngineHost
    ledger: Ledger
    keyring: Keyring

    def embed(self, asset: Path, name: str, keyring: Keyring, target: Path) -> Path:
        key = keyring.issuing
        bits = (codeword(key, Identity("film", name), 64).signs > 0).astype(np.float32)
        embedder = Embedder(
            self.pair.writer,
            self.host,
            LIMITS,
            strength_db=36.0,
            encoding=EncoderSettings(23, "veryfast"),
        )
        embedder.embed(asset, target, lambda _: bits)
        return target

    def copy(self, name: str, keyring: Keyring | None = None) -> Path:
        """The copy of a recipient, made once."""
        target = self.home / f"{name}-{(keyring or self.keyring).issuing.id}.mp4"
        if not target.exists():
            self.embed(self.home / "asset.mp4", name, keyring or self.keyring, target)
        return target

    def trace(self, clip: Path, views: tuple[View, ...] = PLAIN, count: int = 32) -> Trace:
        data, sampling = clip.read_bytes(), Sampling("count", count=count)
        seen, frames = decode("c", "u", data, sampling, self.host.spec.geometry, LIMITS)
        attempts = read_marks(self.host, seen, frames, views)
        table = CodeTable.of(self.ledger.copies(), self.keyring, bits=64, received_at=LATER)
        head = SignedHead(self.ledger.store.head())
        tracer = Tracer(self.ledger, self.keyring, table, head, Marking())
        return tracer.trace(Suspect("leak", seen.sha256 or "", LATER), attempts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    pair = open_pair(write_pair(home / "pair"))
    keyring = Keyring((TenantKey(bytes(range(32))),))
    write_film(home / "asset.mp4", FILM)
    host = EngineHost(pair.reader)
    with open_store(str(home / "ledger"), create=True) as store:
        ledger = Ledger(store, keyring)
        for name in ("anna", "eve", *(f"r{i}" for i in range(ROWS))):
            identity = Identity("film", name)
            ledger.issue(Order(identity, ASSET, "file", pair.pair.carrier), "max")
        yield World(home, pair, host, ledger, keyring)
    host.close()


def shown(path: Path) -> Pictures:
    """RGB pictures of a film, as a pirate's tool gets them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.asarray(np.stack(frames), np.uint8)


def accused(trace: Trace) -> set[str]:
    return {one.source.recipient for one in trace.accused}


def scaled(film: Pictures, width: int, height: int) -> Pictures:
    images = [Image.fromarray(picture).resize((width, height)) for picture in film]
    return np.stack([np.asarray(image, np.uint8) for image in images])


def boxed(film: Pictures) -> Pictures:
    return np.pad(film, ((0, 0), (40, 40), (0, 0), (0, 0)))


def cropped(film: Pictures) -> Pictures:
    """The middle 80 %."""
    return np.ascontiguousarray(film[:, 24:216, 43:383])


def brighter(film: Pictures) -> Pictures:
    return np.asarray(np.clip(film.astype(np.float32) * 1.25, 0, 255), np.uint8)


LEAKS: dict[str, tuple[Callable[[Pictures], Pictures], tuple[View, ...]]] = {
    "encoded again": (lambda film: film, PLAIN),
    "half as large": (lambda film: scaled(film, 214, 120), PLAIN),
    "squeezed": (lambda film: scaled(film, 320, 240), PLAIN),
    "with bars": (boxed, PLAIN),
    "mirrored": (lambda film: np.ascontiguousarray(film[:, :, ::-1]), PLAIN),
    "brighter": (brighter, PLAIN),
    "a second of it": (lambda film: film[24:48], PLAIN),
    "its middle": (cropped, SEARCH),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_whose_copy_leaked(world: World, tmp_path: Path, kind: str) -> None:
    attack, views = LEAKS[kind]
    film = attack(shown(world.copy("anna")))
    about = replace(PIRATE, frames=len(film), width=film.shape[2], height=film.shape[1])
    trace = world.trace(write_pictures(tmp_path / "leak.mp4", about, film), views)
    assert trace.verdict == "IDENTIFIED"
    assert accused(trace) == {"anna"}
    assert trace.trials.attempts == len(views)
    assert trace.view == {"mirrored": "mirrored", "its middle": "the middle 80 %"}.get(
        kind, "as it is"
    )


def test_two_copies_cut_together(world: World, tmp_path: Path) -> None:
    film = np.concatenate([shown(world.copy(name)) for name in ("anna", "eve")])
    about = replace(PIRATE, frames=len(film))
    trace = world.trace(write_pictures(tmp_path / "leak.mp4", about, film), count=96)
    assert trace.verdict == "MULTIPLE"
    assert accused(trace) == {"anna", "eve"}


def test_two_copies_averaged(world: World, tmp_path: Path) -> None:
    both = [shown(world.copy(name)).astype(np.float32) for name in ("anna", "eve")]
    film = ((both[0] + both[1]) / 2).astype(np.uint8)
    trace = world.trace(write_pictures(tmp_path / "leak.mp4", PIRATE, film))
    assert trace.verdict == "MULTIPLE"
    assert accused(trace) == {"anna", "eve"}


def test_a_copy_that_was_marked_again(world: World, tmp_path: Path) -> None:
    """Both marks are in it; neither hides the other, and nobody else is named."""
    again = world.embed(world.copy("anna"), "eve", world.keyring, tmp_path / "again.mp4")
    trace = world.trace(again)
    assert trace.verdict in ("MULTIPLE", "IDENTIFIED")
    assert accused(trace) <= {"anna", "eve"}


def test_a_mark_of_another_tenant(world: World) -> None:
    foreign = Keyring((TenantKey(bytes(32)),))
    trace = world.trace(world.copy("anna", foreign), SEARCH)
    assert trace.verdict == "MARKED_UNKNOWN"
    assert not trace.accused


def test_a_carrier_of_another_pair(world: World, tmp_path: Path) -> None:
    other = open_pair(write_pair(tmp_path / "pair", seed=2))
    host = EngineHost(other.reader)
    stranger = replace(world, pair=other, host=host)
    try:
        stranger.embed(world.home / "asset.mp4", "anna", world.keyring, tmp_path / "a.mp4")
    finally:
        host.close()
    trace = world.trace(tmp_path / "a.mp4")
    assert not trace.accused


def flat(level: int) -> Callable[[Pictures], Pictures]:
    return lambda film: np.full_like(film, level)


NOBODYS: dict[str, tuple[Callable[[Pictures], Pictures], str]] = {
    "unmarked": (lambda film: film, "NO_EVIDENCE"),
    "one frame": (lambda film: film[:1], "NO_EVIDENCE"),
    "16 x 16": (lambda film: scaled(film, 16, 16), "INSUFFICIENT"),
    "black": (flat(0), "INSUFFICIENT"),
    "flat": (flat(128), "INSUFFICIENT"),
    "a still": (lambda film: np.repeat(film[:1], 48, axis=0), "NO_EVIDENCE"),
}


@pytest.mark.parametrize("kind", NOBODYS)
def test_nobody_is_named_for_nothing(world: World, tmp_path: Path, kind: str) -> None:
    attack, verdict = NOBODYS[kind]
    film = attack(pictures(FILM))
    about = replace(PIRATE, frames=len(film), width=film.shape[2], height=film.shape[1])
    trace = world.trace(write_pictures(tmp_path / "found.mp4", about, film), SEARCH)
    assert trace.verdict == verdict
    assert not trace.accused


@pytest.mark.parametrize("seed", range(6))
def test_unmarked_films_of_all_kinds(world: World, tmp_path: Path, seed: int) -> None:
    film = Film(seed=50 + seed, frames=36, crf=(18, 28, 36)[seed % 3], bars=(0, 20)[seed % 2])
    trace = world.trace(write_film(tmp_path / "found.mp4", film), SEARCH)
    assert not trace.accused
    assert trace.verdict == "NO_EVIDENCE"


def test_real_footage_is_nobodys(world: World, videos_dir: Path) -> None:
    for name in ("street_30s_h264.mp4", "short_h265_10bit.mp4", "rotated_90.mov"):
        trace = world.trace(videos_dir / name, SEARCH)
        assert not trace.accused, name
        assert trace.verdict in ("NO_EVIDENCE", "INSUFFICIENT"), name


def test_one_frame_of_a_copy(world: World, tmp_path: Path) -> None:
    """It may be enough; whoever is named for it is the right one."""
    film: npt.NDArray[np.uint8] = shown(world.copy("anna"))[30:31]
    trace = world.trace(write_pictures(tmp_path / "one.mp4", replace(PIRATE, frames=1), film))
    assert accused(trace) <= {"anna"}
    assert len(trace.frames) == 1


def test_a_film_filmed_over_by_noise(world: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    film = shown(world.copy("anna")).astype(np.int16)
    loud = np.clip(film + rng.normal(0, 60, film.shape), 0, 255).astype(np.uint8)
    trace = world.trace(write_pictures(tmp_path / "leak.mp4", replace(PIRATE, crf=40), loud))
    assert accused(trace) <= {"anna"}
