"""Two thousand broken files: no crash, no hang, no unnamed error, no pixel of another file."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import pytest

from reelsight.media.decode import decode as whole
from reelsight.media.limits import MediaLimits
from tests.reelsight.media import corpus_runner
from tests.reelsight.media.corpus import KINDS, HostileFile, hostile_file
from tests.reelsight.media.corpus_bombs import external_reference, lay_canary
from tests.reelsight.media.corpus_runner import GOOD, Bounds, Outcome, run_files, run_seeds
from tests.reelsight.media.corpus_seeds import SEEDS, seed_file

FILES = 2000
BOUNDS = Bounds()


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_canary(tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module")
def outcomes(canary: Path) -> list[Outcome]:
    return list(run_seeds(range(FILES), canary, BOUNDS))


def test_every_file_ends_in_frames_or_a_typed_refusal(outcomes: list[Outcome]) -> None:
    assert [outcome.seed for outcome in outcomes] == list(range(FILES))
    assert [outcome for outcome in outcomes if outcome.status not in GOOD] == []
    codes = {outcome.detail for outcome in outcomes if outcome.status == "refused"}
    assert all(code.startswith("media.") for code in codes)


def test_the_corpus_reaches_every_kind_and_every_outcome(outcomes: list[Outcome]) -> None:
    """A corpus that is refused at the door shows nothing about what lies behind."""
    assert {outcome.kind for outcome in outcomes} == set(KINDS)
    shares = Counter(outcome.status for outcome in outcomes)
    assert min(shares[status] for status in GOOD) >= FILES // 50
    by_name = Counter(outcome.name for outcome in outcomes if outcome.status == "ok")
    assert set(SEEDS) <= set(by_name)


def test_memory_stays_within_the_cap(outcomes: list[Outcome]) -> None:
    assert max(outcome.peak_mib for outcome in outcomes) <= BOUNDS.memory_mib


def test_what_leads_elsewhere_is_always_refused(outcomes: list[Outcome]) -> None:
    leading = [o for o in outcomes if o.kind in ("playlist", "external reference")]
    assert {outcome.status for outcome in leading} == {"refused"}


def test_unbroken_they_are_all_fine(canary: Path) -> None:
    files = [HostileFile(seed, "none", name, seed_file(name)) for seed, name in enumerate(SEEDS)]
    assert {o.name: o.status for o in run_files(files, canary.parent, BOUNDS)} == dict.fromkeys(
        SEEDS, "ok"
    )


def test_a_case_is_the_same_file_every_time(canary: Path) -> None:
    for seed in range(200):
        assert hostile_file(seed, canary) == hostile_file(seed, canary)


@pytest.mark.parametrize(
    ("demuxer", "options"),
    [
        ("hls", {"allowed_extensions": "ALL"}),
        ("concat", {"safe": "0"}),
        ("mov", {"enable_drefs": "1", "use_absolute_path": "1"}),
    ],
)
def test_an_incautious_reader_would_have_shown_the_file_beside(
    canary: Path, demuxer: str, options: dict[str, str]
) -> None:
    """So the lists are live, and their refusal means something."""
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"
    data = {
        "hls": f"{head}{canary.with_suffix('.ts')}\n#EXT-X-ENDLIST\n".encode(),
        "concat": f"ffconcat version 1.0\nfile '{canary}'\n".encode(),
        "mov": external_reference(random.Random(0), canary),
    }[demuxer]
    path = canary.parent / "clip.mp4"
    path.write_bytes(data)
    with av.open(str(path), format=demuxer, options=options) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert corpus_runner.shows_canary(np.asarray(picture, np.uint8)[None])
    file = HostileFile(0, "playlist", "clip.mp4", data)
    assert [o.status for o in run_files([file], canary.parent, BOUNDS)] == ["refused"]


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _stand_still() -> None:
    signal.pause()


def _eat() -> bytearray:
    # Far beyond: what the child inherited and lets go of makes room below its limit.
    return bytearray(4 * BOUNDS.memory_mib << 20)


def _end() -> NoReturn:
    os._exit(0)


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (_segfault, "crashed"),
        (_end, "crashed"),
        (_stand_still, "hung"),
        (_eat, "unclassified"),
    ],
)
def test_the_runner_charges_the_file_that_did_it_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, canary: Path, act: Callable[[], object], status: str
) -> None:
    def decode(*args: Any) -> Any:
        if args[1] == "bad":
            act()
        return whole(*args)

    monkeypatch.setattr(corpus_runner, "decode", decode)
    good, bad = HostileFile(0, "none", "good", seed_file("h264.mp4")), canary.read_bytes()
    files = [good, HostileFile(1, "none", "bad", bad), good]
    began = time.monotonic()
    ends = list(run_files(files, canary.parent, Bounds(wall_s=1.0)))
    assert [o.status for o in ends] == ["ok", status, "ok"]
    assert time.monotonic() - began < 20.0
    leak = HostileFile(2, "none", "canary", canary.read_bytes())
    assert [o.status for o in run_files([leak], canary.parent, BOUNDS)] == ["leaked"]


def test_the_bounds_leave_room_for_the_largest_still() -> None:
    """Pillow unpacks into four bytes a pixel, and the white below it takes as many again."""
    assert MediaLimits().max_megapixels * 12 < BOUNDS.memory_mib
