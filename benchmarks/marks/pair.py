"""`python -m benchmarks.marks.pair PAIR`: a trained pair beside invisible-watermark, on real clips.

The protocol is that of `benchmarks.marks.compare`; `benchmarks.marks.int8` adds the INT8 extractor.
Numbers of a pair that was never trained say nothing: they are printed, and go into no results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.engines.machine import machine, versions
from benchmarks.footage import rate_of
from benchmarks.marks import compare
from benchmarks.marks.attacks import ATTACKS
from benchmarks.marks.compare import IDENTIFIED, ROWS, SPARSE, Clip, measure_clip, read_clip
from benchmarks.marks.contenders import PEERS, contenders
from benchmarks.marks.int8 import measure_int8
from benchmarks.marks.pair_table import pair_table
from reelsight.cli.paths import videos_below
from reelsight.nouns.mark_pair import MarkPair

__all__ = ["UNTRAINED", "main", "measure_pair"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "marks-cpu.json"
UNTRAINED = frozenset({"reference", "untrained"})
"""Recipes of pairs that were never trained."""
_FOOTAGE = ROOT.parent / "shared" / "data" / "videos"
_CLIPS = ("pancake_h264.mkv", "street_30s_h264.mp4")
_KINDS = ("Bright", "Dark")
_PACKAGES = ("av", "invisible-watermark", "opencv-python", "PyWavelets")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", type=Path)
    parser.add_argument("--footage", type=Path, default=_FOOTAGE, help="directory of clips")
    parser.add_argument("--clips", nargs=2, default=_CLIPS, help="a bright and a dark one of them")
    parser.add_argument("--first", type=int, default=24, help="picture to begin with")
    parser.add_argument("--strength", type=float, default=48.0, help="of our mark, dB")
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--attacks", nargs="+", default=(*ATTACKS, SPARSE))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    pair = MarkPair.load(options.pair)
    paths = [options.footage / name for name in options.clips]
    clips = [read_clip(path, first=options.first, rate=rate_of(path)) for path in paths]
    others = [Path(p) for p in videos_below(options.footage) if Path(p) not in paths]
    document = measure_pair(
        options.pair,
        clips,
        others,
        strength_db=options.strength,
        peers=options.peers,
        names=options.attacks,
    )
    if pair.recipe in UNTRAINED and options.results == RESULTS:
        print(pair_table(document))
        print(f"{pair.carrier.model} was never trained: nothing is written")
        return
    options.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure_pair(
    pair: Path,
    clips: Sequence[Clip],
    calibrated_on: Sequence[Path],
    *,
    strength_db: float,
    peers: Sequence[str] = PEERS,
    names: Sequence[str] = (*ATTACKS, SPARSE),
) -> dict[str, Any]:
    """Everything, as the document that the table is made of.

    Args:
        pair: Directory of the pair.
        clips: A bright and a dark one.
        calibrated_on: Other clips, for INT8.
        strength_db: PSNR of our mark.
        peers: Methods of invisible-watermark.
        names: Of attacks.
    """
    loaded = MarkPair.load(pair)
    found, missing = contenders(pair, strength_db, peers)
    measured = []
    for seed, (kind, clip) in enumerate(zip(_KINDS, clips, strict=True)):
        rows = {}
        for contender in found:
            print(f"{clip.name}: {contender.name}", flush=True)
            rows[contender.name] = measure_clip(clip, contender, names, seed)
        measured.append({"kind": kind, "name": clip.name, "contenders": rows})
    with tempfile.TemporaryDirectory(prefix="bench-marks-") as scratch:
        low = measure_int8(
            pair, clips, names, calibrated_on, strength_db=strength_db, scratch=Path(scratch)
        )
    return {
        "protocol": {
            "rows": ROWS,
            "identified": IDENTIFIED,
            "words": " ".join((compare.__doc__ or "").partition("Protocol: ")[2].split()),
        },
        "pair": {
            "carrier": f"{loaded.carrier.model}@{loaded.carrier.version}",
            "recipe": loaded.recipe,
            "embedder_sha256": loaded.embedder_sha256,
            "extractor_sha256": loaded.extractor_sha256,
            "strength_db": strength_db,
        },
        "clips": measured,
        "int8": low,
        "absent": missing,
        "machine": machine("cpu"),
        "versions": versions() | _more_versions(),
    }


def _more_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
