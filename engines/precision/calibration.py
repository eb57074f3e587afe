"""Calibration: the ranges of a master's activations over a frame set, as one hashed JSON file.

Three ways to choose the range that a quantised activation represents: `minmax` (all that was seen),
`entropy` (the least Kullback-Leibler divergence, as TensorRT's calibrator chose it) and
`percentile`. The ranges themselves are measured by `observer`; what is done with them is not known
here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from engines.backend import BuildWatch
from engines.precision.frameset import FrameSet
from engines.precision.observer import BINS, Histogram, observe_histograms, observe_ranges
from engines.precision.onnx_graph import OnnxGraph, sha256_of
from engines.precision.quantise import Scheme, activations
from engines.precision.selection import select
from engines.precision.writing import writing
from reelsight.atomic import write_whole
from reelsight.errors import ConfigError, EngineError

__all__ = ["Calibration", "Method", "Span", "calibrate", "least_divergence", "method_named"]

_FORMAT = 1
Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)
# Levels of one sign in 8 bits: what the divergence compares a histogram with.
_LEVELS = 128
_DEFAULT_PERCENTILE = 99.99


@dataclass(frozen=True, slots=True)
class Span:
    """What one activation did over the frames.

    Attributes:
        low, high: Lowest and highest value.
        limit: Magnitude that quantisation shall represent; the larger of the two for `minmax`.
    """

    low: float
    high: float
    limit: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Activation ranges of one master over one frame set.

    Attributes:
        method: How `limit` was chosen.
        parameters: Of the method, such as {"percentile": 99.99}.
        master_sha256: Of the master (hex), see sha256_of.
        frames_sha256: Of the frame set (hex).
        frames: How many frames.
        onnxruntime: Version that ran the master.
        spans: By tensor: every FP32 activation that is computed.
    """

    method: Method
    parameters: dict[str, float]
    master_sha256: str
    frames_sha256: str
    frames: int
    onnxruntime: str
    spans: dict[str, Span]

    @property
    def magnitudes(self) -> dict[str, float]:
        """Largest magnitude seen, by tensor."""
        return {name: max(-s.low, s.high) for name, s in self.spans.items()}

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value to represent, by tensor."""
        return {n: (max(s.low, -s.limit), min(s.high, s.limit)) for n, s in self.spans.items()}

    @property
    def sha256(self) -> str:
        """sha256 (hex) over everything else."""
        return hashlib.sha256(_canonical(self._document())).hexdigest()

    def save(self, path: Path) -> Path:
        """Write as JSON, whole.

        Raises:
            EngineError: `engine.unwritable`.
        """
        document = {**self._document(), "sha256": self.sha256}
        with writing(path):
            return write_whole(path, json.dumps(document, indent=1, sort_keys=True).encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what save() wrote.

        Raises:
            EngineError: `engine.calibration_damaged`, with what is wrong.
        """
        try:
            document = json.loads(path.read_bytes())
            if document["format"] != _FORMAT:
                raise _damaged(path, f"its format is {document['format']!r}")
            found = cls(
                method=document["method"],
                parameters=dict(document["parameters"]),
                master_sha256=str(document["master_sha256"]),
                frames_sha256=str(document["frames_sha256"]),
                frames=int(document["frames"]),
                onnxruntime=str(document["onnxruntime"]),
                spans={
                    name: Span(*(float(v) for v in row)) for name, row in document["spans"].items()
                },
            )
            expected = document["sha256"]
        except OSError as error:
            raise _damaged(path, str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, repr(error)) from error
        if found.sha256 != expected:
            raise _damaged(path, "its content does not match its hash")
        return found

    def _document(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "method": self.method,
            "parameters": self.parameters,
            "master_sha256": self.master_sha256,
            "frames_sha256": self.frames_sha256,
            "frames": self.frames,
            "onnxruntime": self.onnxruntime,
            "spans": {name: [s.low, s.high, s.limit] for name, s in self.spans.items()},
        }


def method_named(name: str) -> Method:
    """A method by its name.

    Raises:
        ConfigError: `config.calibration`: there is none of that name.
    """
    for method in METHODS:
        if method == name:
            return method
    raise ConfigError(
        f"no calibration method {name!r}; there are {', '.join(METHODS)}",
        code="config.calibration",
    )


def calibrate(
    master: Path,
    frames: FrameSet,
    method: Method,
    cache_dir: Path,
    watch: BuildWatch | None = None,
    *,
    percentile: float = _DEFAULT_PERCENTILE,
    threads: int = 1,
) -> Calibration:
    """The calibration of a master over frames, from the cache when it holds the same.

    Args:
        master: The exported FP32 tower.
        frames: Representative frames, 500 or more for a deployment, degraded ones among them.
        method: `minmax`, `entropy` or `percentile`.
        cache_dir: Where calibrations are kept, one JSON file each.
        watch: Told the progress; may cancel.
        percentile: Of the magnitudes, for that method: over 50 and up to 100.
        threads: Intra-op threads of the observing runs.

    Raises:
        ConfigError: Unknown method or impossible percentile.
        EngineError: `engine.calibration_damaged` for a cached file that is not what its name says,
            `engine.unwritable`, `engine.bad_activations`, `engine.calibration_failed`, or
            `engine.build_cancelled`.
    """
    method_named(method)
    if not 50 < percentile <= 100:
        raise ConfigError(f"percentile {percentile} is not in (50, 100]", code="config.calibration")
    parameters = {} if method == "minmax" else {"bins": float(BINS)}
    if method == "percentile":
        parameters["percentile"] = percentile
    digest = sha256_of(master)
    wanted = (method, parameters, digest, frames.sha256)
    key = hashlib.sha256(_canonical(wanted)).hexdigest()
    path = cache_dir / f"{method}-{digest[:12]}-{key[:16]}.json"
    if path.exists():
        cached = Calibration.load(path)
        found = (cached.method, cached.parameters, cached.master_sha256, cached.frames_sha256)
        if found != wanted:
            raise _damaged(path, "it is of another master, frame set or method than its name says")
        return cached
    watch = watch or BuildWatch()
    spans = _measure(master, frames, method, percentile, watch, threads)
    made = Calibration(
        method, parameters, digest, frames.sha256, len(frames), ort.__version__, spans
    )
    made.save(path)
    return made


def _measure(
    master: Path,
    frames: FrameSet,
    method: Method,
    percentile: float,
    watch: BuildWatch,
    threads: int,
) -> dict[str, Span]:
    read = _quantisable(master)
    ranges = observe_ranges(master, frames.frames, read, threads, _phase(watch, "ranges"))
    limits = {name: max(-low, high) for name, (low, high) in ranges.items()}
    if method != "minmax":
        tops = {name: limits[name] for name in sorted(read)}
        histograms = observe_histograms(
            master, frames.frames, tops, threads, _phase(watch, "histograms")
        )
        for name, histogram in histograms.items():
            limits[name] = _limit(histogram, method, percentile)
    return {name: Span(low, high, limits[name]) for name, (low, high) in ranges.items()}


def _quantisable(master: Path) -> set[str]:
    """Every tensor that some scheme quantises."""
    graph = OnnxGraph(master, weights=False)
    selection = select(graph)
    schemes: tuple[Scheme, ...] = get_args(Scheme)
    return {name for scheme in schemes for name in activations(graph, selection, scheme)}


def _phase(watch: BuildWatch, name: str) -> Callable[[float], None]:
    return lambda part: watch.progress(name, part)


def _limit(histogram: Histogram, method: Method, percentile: float) -> float:
    if histogram.top <= 0:
        return histogram.top
    if method == "percentile":
        seen = np.cumsum(histogram.counts) + histogram.zeros
        bins = int(np.searchsorted(seen, seen[-1] * percentile / 100)) + 1
    else:
        bins = least_divergence(histogram.counts)
    return histogram.top * min(bins, BINS) / BINS


def least_divergence(counts: npt.NDArray[np.int64]) -> int:
    """How many bins to keep so that 128 levels tell the least less than the histogram does.

    The reference distribution takes what lies beyond into its last bin; the candidate spreads each
    level's mass over the bins that held any. Szymon Migacz, 8-bit Inference with TensorRT, 2017.

    Args:
        counts: int64 [bins] of magnitudes, zeros left out: they are represented exactly.
    """
    total = float(counts.sum())
    best, least = len(counts), np.inf
    for bins in range(_LEVELS, len(counts) + 1):
        inside = counts[:bins].astype(np.float64)
        held = inside > 0
        edges = np.arange(_LEVELS) * bins // _LEVELS
        widths = np.diff(edges, append=bins)
        sums, held_in = np.add.reduceat(inside, edges), np.add.reduceat(held, edges, dtype=np.int64)
        spread = np.repeat(sums / np.maximum(held_in, 1), widths) * held
        inside[-1] += total - inside.sum()
        mass = spread.sum()
        if mass <= 0:
            continue
        p, q = inside / total, np.maximum(spread / mass, 1e-12)
        used = p > 0
        divergence = float(np.sum(p[used] * np.log(p[used] / q[used])))
        if divergence < least:
            best, least = bins, divergence
    return best


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _damaged(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"the calibration {path} cannot be used: {reason}",
        code="engine.calibration_damaged",
        hint="Delete the file; it is measured again.",
    )
