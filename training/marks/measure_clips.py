"""Measure a pair on films: python -m training.marks.measure_clips PAIR FILM... --out FILE.

The protocol of the published baseline: 24 consecutive frames at 848 pixels of width, encoded with
the preset medium, every fourth decoded frame read; the accuracy of frames, and of the mean of their
logits. Only onnxruntime, PyAV and Pillow are needed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from reelsight.marks.bound import binomial_log10_tail
from training.marks.codec_pool import CodecJob, recode_pictures
from training.marks.film import Box, Floats, Pair, Yuv, active_box, mark_film, read_film, squash

__all__ = ["ATTACKS", "measure"]

_H264 = CodecJob("h264", 23, "medium")
_EVERY = 4
Attack = Callable[[Yuv, Box], tuple[Yuv, Box]]


def _encoded(job: CodecJob) -> Attack:
    def run(frames: Yuv, box: Box) -> tuple[Yuv, Box]:
        return recode_pictures(frames, job), box

    return run


def _luma(frames: Yuv) -> Yuv:
    return frames[:, : frames.shape[1] * 2 // 3]


def _resized(frames: Yuv, scale: float, *, back: bool) -> Yuv:
    luma = _luma(frames)
    height, width = luma.shape[1:]
    out = []
    for plane in luma:
        picture = Image.fromarray(plane)
        small = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
        out.append(np.asarray(small.resize((width, height)) if back else small))
    return np.stack(out)


def _half(*, back: bool) -> Attack:
    def run(frames: Yuv, box: Box) -> tuple[Yuv, Box]:
        small = _resized(recode_pictures(frames, _H264), 0.5, back=back)
        return small, box if back else tuple(side // 2 for side in box)  # type: ignore[return-value]

    return run


def _crop(*, registered: bool) -> Attack:
    """The centre 80 % of each side; registered when its place in the asset is known."""

    def run(frames: Yuv, box: Box) -> tuple[Yuv, Box]:
        luma = _luma(recode_pictures(frames, _H264))
        height, width = luma.shape[1:]
        down, across = height // 10, width // 10
        cut = luma[:, down : height - down, across : width - across]
        if not registered:
            return cut, (0, cut.shape[1], 0, cut.shape[2])
        return np.pad(cut, ((0, 0), (down, down), (across, across)), mode="edge"), box

    return run


def _brighter(frames: Yuv, box: Box) -> tuple[Yuv, Box]:
    luma = _luma(recode_pictures(frames, _H264)).astype(np.float32)
    return np.clip((luma - 16) * 1.3 + 16, 16, 235).astype(np.uint8), box


def _logo_and_caption(frames: Yuv, box: Box) -> tuple[Yuv, Box]:
    luma = _luma(recode_pictures(frames, _H264)).copy()
    height, width = luma.shape[1:]
    for index, plane in enumerate(luma):
        image = Image.fromarray(plane)
        pen = ImageDraw.Draw(image)
        pen.ellipse((width * 0.86, height * 0.05, width * 0.96, height * 0.2), 220, 30, 3)
        pen.rectangle((width * 0.1, height * 0.8, width * 0.9, height * 0.93), 30)
        pen.text((width * 0.13, height * 0.83), "breaking news, live from the studio", 225)
        luma[index] = np.asarray(image)
    return luma, box


ATTACKS: dict[str, Attack] = {
    "none": lambda frames, box: (frames, box),
    "h264-23": _encoded(_H264),
    "h264-28": _encoded(CodecJob("h264", 28, "medium")),
    "h264-34": _encoded(CodecJob("h264", 34, "medium")),
    "hevc-28": _encoded(CodecJob("hevc", 28, "medium")),
    "h264-23, half and back": _half(back=True),
    "h264-23, half": _half(back=False),
    "h264-23, crop 80 %": _crop(registered=False),
    "h264-23, crop 80 %, registered": _crop(registered=True),
    "h264-23, brightness 1.3": _brighter,
    "h264-23, logo and caption": _logo_and_caption,
}


def measure(frames: Yuv, pair: Pair, *, strength: float, payloads: int) -> dict[str, Any]:
    """All attacks on one film.

    Args:
        frames: The film.
        pair: The networks.
        strength: PSNR of the residual, dB.
        payloads: Random payloads to average over.
    """
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ATTACKS}
    costs, marking, reading, read = [], 0.0, 0.0, 0
    for seed in range(payloads):
        bits: Floats = np.random.default_rng([91, seed]).integers(0, 2, pair.bits).astype("f4")
        begun = time.perf_counter()
        marked, box = mark_film(frames, pair, bits, strength=strength)
        marking += time.perf_counter() - begun
        error = (_luma(marked).astype(np.float64) - _luma(frames)) * (255 / 219)
        costs.append(10 * math.log10(255**2 / max(1e-9, float((error**2).mean()))))
        for name, run in ATTACKS.items():
            attacked, where = run(marked, box)
            begun = time.perf_counter()
            logits, _ = pair.read(squash(attacked[::_EVERY], where, pair.size))
            reading += time.perf_counter() - begun
            read += len(logits)
            truth = bits > 0.5
            pooled = (logits.mean(0) > 0) == truth
            frame = float(((logits > 0) == truth).mean())
            rows[name].append(
                (frame, float(pooled.mean()), binomial_log10_tail(pair.bits, int((~pooled).sum())))
            )
    names = ("frame", "pooled", "log10_p")
    return {
        "psnr_luma": round(float(np.mean(costs)), 2),
        "mark_ms": round(marking / payloads / len(frames) * 1e3, 2),
        "read_ms": round(reading / read * 1e3, 2),
        "attacks": {
            name: {n: round(float(v), 4) for n, v in zip(names, np.mean(row, 0), strict=True)}
            for name, row in rows.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", type=Path)
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strength", type=float, default=42.0)
    parser.add_argument("--payloads", type=int, default=3)
    parser.add_argument("--first", type=int, default=24)
    parser.add_argument("--width", type=int, default=848)
    options = parser.parse_args()
    pair = Pair(options.pair)
    report = {}
    for path in options.films:
        frames = read_film(path, first=options.first, count=24, width=options.width)
        report[path.name] = measure(
            frames, pair, strength=options.strength, payloads=options.payloads
        )
        print(
            path.name,
            {k: v for k, v in report[path.name].items() if k != "attacks"},
            "active",
            active_box(frames),
        )
        for name, row in report[path.name]["attacks"].items():
            print(
                f"  {name:32} {row['frame']:.3f} {row['pooled']:.3f} {row['log10_p']:7.1f}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
