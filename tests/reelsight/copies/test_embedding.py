"""Marked copies as files: what is in them, what is kept, and which assets are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.codec.context import Flags

from engines.runtimes.ort_marks import OpenPair, open_pair
from reelsight.copies.embedding import EmbeddedCopy, Embedder
from reelsight.copies.encoder import EncoderSettings
from reelsight.copies.reading import read_marks
from reelsight.engine import EngineHost
from reelsight.errors import ConfigError, LedgerBusy, MarkError, MediaError
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from tests.made_films import Film, pictures, write_film, write_pictures
from tests.reference_pair import BITS, write_pair

CODE = np.random.default_rng(3).integers(0, 2, BITS).astype(np.float32)
LIMITS = MediaLimits()
FAST = EncoderSettings(crf=23, preset="veryfast")
# Of the residual, before it is enlarged, rounded and clipped.
STRENGTH = 36.0


def code_at(at_s: float) -> npt.NDArray[np.float32]:
    del at_s
    return CODE


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenPair, EngineHost]]:
    pair = open_pair(write_pair(tmp_path_factory.mktemp("pair")))
    host = EngineHost(pair.reader)
    yield pair, host
    host.close()


@pytest.fixture
def embedder(opened: tuple[OpenPair, EngineHost]) -> Embedder:
    pair, host = opened
    return Embedder(pair.writer, host, LIMITS, strength_db=STRENGTH, encoding=FAST)


def wrong_bits(path: Path, host: EngineHost, code: npt.NDArray[np.float32] = CODE) -> int:
    """Read a file as a suspect is read."""
    sampling = Sampling("count", count=16)
    clip, frames = decode("c", "u", path.read_bytes(), sampling, host.spec.geometry, LIMITS)
    (plain, _) = read_marks(host, clip, frames)
    return int(((plain.soft.sum(0) > 0) != (code > 0.5)).sum())


def facts(path: Path) -> dict[str, Any]:
    """What a player goes by."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = list(container.decode(stream))
        unit = stream.time_base or Fraction(1)
        return {
            "pts": [float((frame.pts or 0) * unit) for frame in frames],
            "end": float(((frames[-1].pts or 0) + frames[-1].duration) * unit),
            "size": (stream.width, stream.height),
            "rotation": frames[0].rotation,
            "aspect": stream.sample_aspect_ratio,
            "colours": (context.color_primaries, context.color_trc, context.colorspace),
            "range": context.color_range,
            "format": context.pix_fmt,
            "rate": stream.average_rate,
        }


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        found = [p for p in container.demux(stream) if p.size]
        return [(float((p.pts or 0) * (p.time_base or 1)), bytes(p)) for p in found]


FILMS = {
    "plain": Film(),
    "bars": Film(height=240, bars=30),
    "turned": Film(rotation=90),
    "turned back, stretched": Film(rotation=270, sar=Fraction(4, 3)),
    "upside down": Film(rotation=180),
    "uneven times, late start": Film(uneven=True, start=6400),
    "full range": Film(pix_fmt="yuvj420p", full_range=True),
    "10 bits": Film(pix_fmt="yuv420p10le", colour=9),
    "all chroma": Film(pix_fmt="yuv444p"),
}


@pytest.mark.parametrize("film", FILMS.values(), ids=FILMS.keys())
def test_a_copy_keeps_everything_but_its_luma(
    tmp_path: Path, embedder: Embedder, opened: tuple[OpenPair, EngineHost], film: Film
) -> None:
    asset = write_film(tmp_path / "asset.mp4", film)
    made = embedder.embed(asset, tmp_path / "copy.mp4", code_at)
    before, after = facts(asset), facts(tmp_path / "copy.mp4")
    assert after.pop("pts") == pytest.approx(before.pop("pts"), abs=1e-6)
    assert after.pop("end") == pytest.approx(before.pop("end"), abs=1e-6)
    assert after == before
    assert made.sha256 == hashlib.sha256((tmp_path / "copy.mp4").read_bytes()).hexdigest()
    assert (made.frames, made.proof.wrong) == (film.frames, 0)
    assert made.psnr_db == pytest.approx(STRENGTH, abs=1.5)
    assert 0.8 < made.ssim < 1.0
    # The rows that are half a bar belong to either, by what the encoder left of them.
    assert made.active.top == pytest.approx(film.bars, abs=1)
    assert wrong_bits(tmp_path / "copy.mp4", opened[1]) == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_sound_is_copied_bit_for_bit(tmp_path: Path, embedder: Embedder, suffix: str) -> None:
    asset = write_film(tmp_path / "asset.mp4", Film(audio=True))
    copy = tmp_path / f"copy{suffix}"
    made = embedder.embed(asset, copy, code_at)
    assert made.copied == ("stream 1 (audio)",)
    assert float(facts(copy)["rate"]) == pytest.approx(float(facts(asset)["rate"]), rel=1e-3)
    ours, theirs = packets(copy, "audio"), packets(asset, "audio")
    assert [data for _, data in ours] == [data for _, data in theirs]
    # Matroska rounds to milliseconds, and knows no time before 0: it moves sound and picture alike.
    pairs = ((ours, facts(copy)["pts"][0]), (theirs, facts(asset)["pts"][0]))
    ours_at, theirs_at = ([at - zero for at, _ in found] for found, zero in pairs)
    assert ours_at == pytest.approx(theirs_at, abs=1.6e-3)


def test_chroma_and_bars_are_not_touched(
    tmp_path: Path, opened: tuple[OpenPair, EngineHost]
) -> None:
    pair, host = opened
    film = Film(height=240, bars=30)
    asset = write_film(tmp_path / "asset.mp4", film)
    lossless = replace(FAST, crf=0.0)
    embedder = Embedder(pair.writer, host, LIMITS, strength_db=STRENGTH, encoding=lossless)
    embedder.embed(asset, tmp_path / "copy.mp4", code_at)
    found = []
    for path in (asset, tmp_path / "copy.mp4"):
        with av.open(str(path)) as container:
            found.append(np.stack([f.to_ndarray() for f in container.decode(video=0)]))
    before, after = found
    assert (before[:, 240:] == after[:, 240:]).all()
    assert (before[:, :29] == after[:, :29]).all()
    assert (before[:, 211:240] == after[:, 211:240]).all()
    assert (before[:, 32:208] != after[:, 32:208]).mean() > 0.5


def test_a_code_that_changes_is_written_where_it_belongs(
    tmp_path: Path, embedder: Embedder, opened: tuple[OpenPair, EngineHost]
) -> None:
    asset = write_film(tmp_path / "asset.mp4", Film(frames=72, cut_at=30))
    made = embedder.embed(
        asset, tmp_path / "copy.mp4", lambda at_s: CODE if at_s < 1.5 else 1 - CODE
    )
    assert made.proof.wrong == 0
    sampling = Sampling("rate", rate=24.0)
    data = (tmp_path / "copy.mp4").read_bytes()
    clip, frames = decode("c", "u", data, sampling, opened[1].spec.geometry, LIMITS)
    plain = read_marks(opened[1], clip, frames)[0]
    agreeing = ((plain.soft > 0) == (CODE > 0.5)).mean(axis=1)
    before = frames.pts < 1.5
    assert before.sum() == 37
    assert agreeing[before].min() > 0.85
    assert agreeing[~before].max() < 0.15


def test_other_streams_are_told(tmp_path: Path, embedder: Embedder) -> None:
    """A second film in the file is left out, and said to be."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=24) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number, picture in enumerate(pictures(Film())):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 24)
                out.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            out.mux(stream.encode(None))
    made = embedder.embed(path, tmp_path / "copy.mkv", code_at)
    assert made.left_out == ("stream 1 (video)",)


def test_subtitles_are_copied(tmp_path: Path, embedder: Embedder) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,500 --> 00:00:01,500\nsome words\n")
    asset = tmp_path / "asset.mkv"
    with av.open(str(words)) as source, av.open(str(asset), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        text = out.add_stream_from_template(source.streams[0])
        for number, picture in enumerate(pictures(Film())):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = text
                out.mux(packet)
        out.mux(stream.encode(None))
    made = embedder.embed(asset, tmp_path / "copy.mkv", code_at)
    assert made.copied == ("stream 1 (subtitle)",)
    assert packets(tmp_path / "copy.mkv", "subtitles") == packets(asset, "subtitles")


def chapters_of(container: Any) -> list[tuple[str, float, float]]:
    return [
        (c["metadata"]["title"], c["start"] * c["time_base"], c["end"] * c["time_base"])
        for c in container.chapters()
    ]


def test_chapters_and_tags_are_kept(tmp_path: Path, embedder: Embedder) -> None:
    plain, asset = write_film(tmp_path / "plain.mp4", Film(audio=True)), tmp_path / "asset.mp4"
    with av.open(str(plain)) as source, av.open(str(asset), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        streams[1].metadata["language"] = "deu"
        out.metadata["title"] = "a title"
        unit, names = Fraction(1, 1000), ("one", "two")
        chapters: list[Any] = [
            {"id": n, "start": 750 * n, "end": 750 * n + 750, "time_base": unit}
            | {"metadata": {"title": name}}
            for n, name in enumerate(names)
        ]
        out.set_chapters(chapters)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    embedder.embed(asset, tmp_path / "copy.mkv", code_at)
    with av.open(str(tmp_path / "copy.mkv")) as copy, av.open(str(asset)) as source:
        assert copy.metadata["title"] == "a title"
        assert copy.streams.audio[0].metadata["language"] == "deu"
        ours, theirs = chapters_of(copy), chapters_of(source)
        assert [title for title, *_ in ours] == ["one", "two"]
        assert ours == theirs


def test_interlaced_assets_are_refused(tmp_path: Path, embedder: Embedder) -> None:
    asset = tmp_path / "asset.mp4"
    with av.open(str(asset), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for number, picture in enumerate(pictures(Film(frames=30))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(MarkError) as caught:
        embedder.embed(asset, tmp_path / "copy.mp4", code_at)
    assert caught.value.code == "mark.interlaced"


def test_what_the_encoder_does_not_take(tmp_path: Path, embedder: Embedder) -> None:
    asset = tmp_path / "odd.mkv"
    with av.open(str(asset), "w") as out:
        stream = out.add_stream("libvpx", rate=24, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 321, 181, "yuv420p"
        for number, picture in enumerate(pictures(Film(width=321, height=181, frames=30))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(MarkError) as caught:
        embedder.embed(asset, tmp_path / "copy.mp4", code_at)
    assert caught.value.code == "mark.not_encoded"
    assert [path.name for path in tmp_path.iterdir()] == ["odd.mkv"]


def flat(path: Path) -> Path:
    film = Film()
    return write_pictures(path, film, np.full_like(pictures(film), 120))


def black(path: Path) -> Path:
    film = Film()
    return write_pictures(path, film, np.zeros_like(pictures(film)))


REFUSED = {
    "flat": (flat, "mark.flat"),
    "black": (black, "mark.flat"),
    "short": (lambda path: write_film(path, Film(frames=20)), "mark.too_short"),
    "few": (lambda path: write_film(path, Film(frames=8, fps=4)), "mark.too_short"),
    "small": (lambda path: write_film(path, Film(width=96, height=48)), "mark.too_small"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_assets_that_cannot_carry_a_mark(tmp_path: Path, embedder: Embedder, kind: str) -> None:
    make, code = REFUSED[kind]
    with pytest.raises(MarkError) as caught:
        embedder.embed(make(tmp_path / "asset.mp4"), tmp_path / "copy.mp4", code_at)
    assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["asset.mp4"]


def test_a_copy_that_could_not_be_traced_is_not_handed_out(
    tmp_path: Path, opened: tuple[OpenPair, EngineHost]
) -> None:
    pair, host = opened
    weak = Embedder(pair.writer, host, LIMITS, strength_db=60.0, encoding=FAST)
    asset = write_film(tmp_path / "asset.mp4", Film())
    with pytest.raises(MarkError) as caught:
        weak.embed(asset, tmp_path / "copy.mp4", code_at)
    assert caught.value.code == "mark.unreadable"
    assert [path.name for path in tmp_path.iterdir()] == ["asset.mp4"]


def test_what_nobody_was_told_of_is_not_there(tmp_path: Path, embedder: Embedder) -> None:
    asset = write_film(tmp_path / "asset.mp4", Film(frames=30))
    told: list[EmbeddedCopy] = []

    def tell(made: EmbeddedCopy) -> None:
        told.append(made)
        raise LedgerBusy("the ledger is busy")

    with pytest.raises(LedgerBusy):
        embedder.embed(asset, tmp_path / "copy.mp4", code_at, tell)
    assert len(told) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["asset.mp4"]


def test_names_that_are_refused(tmp_path: Path, embedder: Embedder) -> None:
    asset = write_film(tmp_path / "asset.mp4", Film(frames=30))
    for name, code in (("asset.mp4", "mark.exists"), ("copy.avi", "mark.container")):
        with pytest.raises(MarkError) as caught:
            embedder.embed(asset, tmp_path / name, code_at)
        assert caught.value.code == code
    with pytest.raises(MarkError) as nowhere:
        embedder.embed(asset, tmp_path / "none" / "copy.mp4", code_at)
    assert nowhere.value.code == "mark.not_encoded"


@pytest.mark.parametrize("damage", ["no film", "empty", "half", "holes"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_damaged_asset_gives_no_copy(
    tmp_path: Path, embedder: Embedder, damage: str, suffix: str
) -> None:
    asset = write_film(tmp_path / f"asset{suffix}", Film())
    data = asset.read_bytes()
    middle = len(data) // 2
    spoilt = {
        "no film": b"no film at all",
        "empty": b"",
        "half": data[:middle],
        "holes": data[:middle] + bytes(4000) + data[middle + 4000 :],
    }
    asset.write_bytes(spoilt[damage])
    with pytest.raises(MediaError):
        embedder.embed(asset, tmp_path / "copy.mp4", code_at)
    assert [path.name for path in tmp_path.iterdir()] == [asset.name]


def test_settings_of_the_encoder() -> None:
    for wrong in ({"crf": 52.0}, {"preset": "placebo"}):
        with pytest.raises(ConfigError):
            EncoderSettings(**wrong)
