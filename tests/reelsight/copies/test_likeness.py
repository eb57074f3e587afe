"""PSNR and SSIM, against the filters of FFmpeg."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.filter import Graph

from reelsight.copies.likeness import Likeness, ssim
from tests.made_films import Film, pictures

# The filters round to six digits, and sum blocks in integers.
_ROUNDED = 2e-3


def planes(seed: int, noise: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    before = pictures(Film(seed=seed, frames=1, width=200, height=120))[0].mean(axis=2)
    after = before + np.random.default_rng(seed).normal(0, noise, before.shape)
    return before.astype(np.uint8), np.clip(after, 0, 255).astype(np.uint8)


def by_ffmpeg(kind: str, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    graph = Graph()
    high, wide = first.shape
    grey, unit = av.VideoFormat("gray", wide, high), Fraction(1)
    ends = [graph.add_buffer(None, wide, high, grey, None, unit) for _ in "ab"]
    judge, sink = graph.add(kind), graph.add("buffersink")
    for place, end in enumerate(ends):
        end.link_to(judge, 0, place)
    judge.link_to(sink)
    graph.configure()
    for end, plane in zip(ends, (first, second), strict=True):
        frame = av.VideoFrame.from_ndarray(plane, format="gray")
        frame.pts = 0
        end.push(frame)
        end.push(None)
    judged = sink.pull()
    names = {"psnr": "lavfi.psnr.psnr_avg", "ssim": "lavfi.ssim.All"}
    assert isinstance(judged, av.VideoFrame)
    return float(judged.metadata[names[kind]])


@pytest.mark.parametrize("noise", [0.6, 2.0, 12.0])
def test_both_are_those_of_ffmpeg(noise: float) -> None:
    first, second = planes(3, noise)
    likeness = Likeness()
    pair = first.astype(np.float32), second.astype(np.float32)
    likeness.add(*pair, level=1.0)
    likeness.add_structure(*pair, level=1.0)
    assert likeness.psnr_db == pytest.approx(by_ffmpeg("psnr", first, second), abs=0.01)
    assert likeness.ssim == pytest.approx(by_ffmpeg("ssim", first, second), abs=_ROUNDED)


def test_levels_and_ends() -> None:
    first, second = (plane.astype(np.float32) for plane in planes(4, 2.0))
    deep, plain, none = Likeness(), Likeness(), Likeness()
    deep.add(first * 4, second * 4, level=4.0)
    plain.add(first, second, level=1.0)
    none.add(first, first, level=1.0)
    none.add_structure(first[:4], first[:4], level=1.0)
    assert deep.psnr_db == pytest.approx(plain.psnr_db)
    assert (none.psnr_db, none.ssim, Likeness().psnr_db) == (100.0, 1.0, 100.0)
    assert ssim(first, first) == pytest.approx(1.0)
