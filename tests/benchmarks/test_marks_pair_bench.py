"""The benchmark of a pair, small: the reference pair, made films, few attacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.marks import pair as pair_bench
from benchmarks.marks.attacks import ATTACKS, Film, read_film
from benchmarks.marks.compare import SPARSE, Clip, read_clip
from benchmarks.marks.contenders import Peer, contenders
from benchmarks.marks.pair import measure_pair
from benchmarks.marks.pair_table import pair_table
from tests import made_films
from tests.reference_pair import write_pair


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("footage")
    for seed in range(3):
        film = made_films.Film(seed=seed, frames=30, width=426, height=240)
        made_films.write_film(home / f"film{seed}.mp4", film)
    return home


@pytest.fixture(scope="module")
def clips(footage: Path) -> list[Clip]:
    # A "second" of four pictures: made films are short.
    paths = [footage / f"film{seed}.mp4" for seed in range(2)]
    return [read_clip(path, first=0, rate=4, width=320) for path in paths]


def test_a_small_run_makes_the_table(footage: Path, clips: list[Clip], tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair", convolutions=True)
    names = ("none", "H.264 CRF 28", "CRF 23, mirrored", SPARSE)
    found = measure_pair(
        pair, clips, [footage / "film2.mp4"], strength_db=34, peers=("dwtDct",), names=names
    )
    ours = found["clips"][0]["contenders"]["reelsight"]
    assert list(ours["attacks"]) == list(names)
    # Drawn at 34 dB of luma; what is outside of 0 to 255 is cut off.
    assert ours["psnr_db"] == pytest.approx(34, abs=1.5)
    for name in ("none", "H.264 CRF 28", SPARSE):
        assert ours["attacks"][name]["named"], (name, ours["attacks"][name])
    mirrored = ours["attacks"]["CRF 23, mirrored"]
    assert mirrored["pooled"] < 0.8 < mirrored["searched"]
    assert mirrored["views"] == 10
    low = found["int8"]
    assert low["drop_points"] <= 0.7
    assert min(cost["cpu_ms"] for cost in low["costs"].values()) > 0
    text = pair_table(found)
    assert "Bright clip (film0.mp4):" in text
    assert "INT8 reads" in text
    assert "1 fps, CRF 23" in text
    there = "dwtDct" not in found["absent"]
    assert ("Not measured: dwtDct: invisible-watermark does not load" in text) != there


def test_every_attack_gives_pictures_of_a_film(clips: list[Clip]) -> None:
    film: Film = clips[0].dense[:4]
    high, wide = film[0].y.shape
    sides = {}
    for name, run in ATTACKS.items():
        if name.startswith(("H.265", "VP9")):
            continue
        attacked = run(film)
        assert len(attacked) == len(film)
        for picture in attacked:
            assert picture.u.shape == picture.v.shape
            assert tuple(2 * side for side in picture.u.shape) == picture.y.shape
        sides[name] = attacked[0].y.shape
    assert sides["CRF 23, half size"] == (high // 2, wide // 2)
    assert sides["CRF 23, letterbox"][0] > high
    assert sides["CRF 23, middle 80 %"] == pytest.approx((0.8 * high, 0.8 * wide), abs=4)
    mirrored = ATTACKS["CRF 23, mirrored"](film)[0].y[:, ::-1].astype(float)
    assert np.corrcoef(mirrored.ravel(), film[0].y.ravel())[0, 1] > 0.95


def test_an_untrained_pair_goes_into_no_results(
    footage: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pair_bench, "measure_pair", lambda *given, **named: {})
    monkeypatch.setattr(pair_bench, "pair_table", lambda document: "the table")
    results = tmp_path / "marks-cpu.json"
    monkeypatch.setattr(pair_bench, "RESULTS", results)
    given = [str(write_pair(tmp_path / "pair")), "--footage", str(footage), "--first", "0"]
    named = ["--clips", "film0.mp4", "film1.mp4"]
    monkeypatch.setattr(pair_bench, "rate_of", lambda path: 4)
    pair_bench.main([*given, *named, "--results", str(results)])
    assert not results.exists()
    assert "never trained: nothing is written" in capsys.readouterr().out
    pair_bench.main([*given, *named, "--results", str(tmp_path / "mine.json")])
    assert (tmp_path / "mine.json").exists()


def test_a_clip_that_is_too_short(footage: Path) -> None:
    with pytest.raises(SystemExit, match="30 pictures of 31"):
        read_film(footage / "film0.mp4", first=0, count=31, width=320)


def test_a_peer_reads_what_it_wrote(clips: list[Clip], tmp_path: Path) -> None:
    pytest.importorskip("imwatermark", reason="part of make bench-marks alone")
    peer = Peer("dwtDctSvd")
    code = np.random.default_rng(1).integers(0, 2, 32).astype(np.float32)
    marked = peer.embed(peer.prepare(clips[0].dense[:2]), code)
    soft = peer.read(marked)[0].soft
    assert ((soft > 0) == (code > 0.5)).mean() > 0.95
    _, missing = contenders(write_pair(tmp_path / "pair"), 40, ("nobody",))
    assert list(missing) == ["nobody"]
