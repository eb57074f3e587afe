"""Calibration: ranges against direct runs, the three methods, the cache, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from engines.backend import BuildWatch
from engines.precision import calibration as calibration_module
from engines.precision.calibration import Calibration, Method, calibrate, least_divergence
from engines.precision.frameset import FrameSet
from engines.precision.observer import BINS, Histogram, observe_histograms
from reelsight.errors import ConfigError, EngineError, ReelsightError
from tests.engines.precision import handmade

Frames = Callable[[str], FrameSet]


def tensor(path: Path, name: str, frames: FrameSet) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One activation, run directly."""
    proto = onnx.load(str(path))
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray[Any, np.dtype[np.float32]] = session.run([name], {"frames": frames.frames})[0]
    return found


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower whose MLPs have one channel far beyond the others."""
    return handmade.vit(tmp_path_factory.mktemp("heavy") / "vit.onnx", heavy=30.0)


def refused(code: str, master: Path, frames: FrameSet, cache: Path, **more: Any) -> ReelsightError:
    with pytest.raises(ReelsightError) as caught:
        calibrate(master, frames, more.pop("method", "minmax"), cache, **more)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", ["b0.swapped", "b1.gelu", "b1.rows2", "patches", "embedding"])
def test_ranges_are_those_of_a_direct_run(
    name: str, vit: Path, frames: Frames, calibration: Callable[[str], Calibration]
) -> None:
    values = tensor(vit, name, frames("vit"))
    span = calibration("vit").spans[name]
    # Batches of another size may sum in another order.
    assert (span.low, span.high) == pytest.approx((values.min(), values.max()), rel=1e-5)
    assert span.limit == max(-span.low, span.high)


def test_histogram_of_batches_is_the_histogram_of_all(vit: Path, frames: Frames) -> None:
    values = np.abs(tensor(vit, "b1.gelu", frames("vit"))).ravel()
    top = float(values.max())
    found = observe_histograms(vit, frames("vit").frames, {"b1.gelu": top}, 1, lambda part: None)
    histogram = found["b1.gelu"]
    expected = np.histogram(values[values > 0], BINS, (0, top))[0]
    assert histogram.counts.sum() + histogram.zeros == values.size
    # A value on a border, or moved by the order of summation, may fall into the next bin.
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= values.size * 1e-4


def test_zeros_are_counted_apart() -> None:
    histogram = Histogram(2.0)
    histogram.add(np.array([[0, 0, -2, 0.5]], np.float32))
    assert (histogram.zeros, histogram.counts.sum(), histogram.counts[-1]) == (2, 2, 1)


def test_methods_differ_on_heavy_tails(heavy: Path, frames: Frames, tmp_path: Path) -> None:
    """What goes unseen where entropy silently equals minmax."""
    limits = {
        method: calibrate(heavy, frames("vit"), method, tmp_path).spans["b1.gelu"].limit
        for method in ("minmax", "entropy", "percentile")
    }
    assert limits["entropy"] < 0.8 * limits["minmax"]
    assert limits["percentile"] < 0.98 * limits["minmax"]
    assert limits["entropy"] != limits["percentile"]


def test_percentile_is_that_of_the_values(heavy: Path, frames: Frames, tmp_path: Path) -> None:
    made = calibrate(heavy, frames("vit"), "percentile", tmp_path, percentile=99.0)
    values = np.abs(tensor(heavy, "b1.gelu", frames("vit")))
    bin_width = float(values.max()) / BINS
    expected = float(np.percentile(values, 99.0))
    assert made.spans["b1.gelu"].limit == pytest.approx(expected, abs=1.5 * bin_width)
    low, high = made.limits["b1.gelu"]
    assert low == made.spans["b1.gelu"].low > -0.2, "a limit does not widen the side that is short"
    assert high == made.spans["b1.gelu"].limit


def test_least_divergence_cuts_a_stray_value_and_keeps_a_flat_histogram() -> None:
    flat = np.full(BINS, 100, np.int64)
    assert least_divergence(flat) == BINS
    bell = (1e6 * np.exp(-0.5 * (np.arange(BINS) / 80) ** 2)).astype(np.int64)
    bell[-1] = 1
    assert 128 <= least_divergence(bell) < 600


def test_cache_answers_without_a_run(
    vit: Path, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate(vit, frames("vit"), "entropy", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1

    def never(*args: object) -> None:
        raise AssertionError("the tower was run again")

    monkeypatch.setattr(calibration_module, "_measure", never)
    again = calibrate(vit, frames("vit"), "entropy", tmp_path)
    assert again == first
    assert again.sha256 == first.sha256
    for other in (
        {"method": "minmax"},
        {"method": "percentile", "percentile": 99.5},
        {"frames": FrameSet(frames("vit").frames[:8])},
    ):
        wanted: dict[str, Any] = {"frames": frames("vit"), "method": "entropy", **other}
        with pytest.raises(AssertionError, match="run again"):
            calibrate(vit, wanted.pop("frames"), wanted.pop("method"), tmp_path, **wanted)


def test_another_master_is_another_calibration(vit: Path, frames: Frames, tmp_path: Path) -> None:
    other = handmade.vit(tmp_path / "other.onnx", seed=1)
    cache = tmp_path / "cache"
    assert calibrate(vit, frames("vit"), "minmax", cache).sha256 != (
        calibrate(other, frames("vit"), "minmax", cache).sha256
    )
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "limit", "format", "no json", "list"])
def test_damaged_cache_is_refused_with_the_reason(
    damage: str, vit: Path, frames: Frames, tmp_path: Path
) -> None:
    calibrate(vit, frames("vit"), "minmax", tmp_path)
    (path,) = tmp_path.iterdir()
    document = json.loads(path.read_text())
    if damage == "limit":
        document["spans"]["b1.gelu"][2] *= 2
    if damage == "format":
        document["format"] = 99
    text = {"cut": path.read_text()[:200], "no json": "{", "list": "[1]"}
    path.write_text(text.get(damage, json.dumps(document)))
    error = refused("engine.calibration_damaged", vit, frames("vit"), tmp_path)
    assert str(path) in error.message
    assert "Delete" in error.hint


def test_file_under_another_name_is_refused(vit: Path, frames: Frames, tmp_path: Path) -> None:
    calibrate(vit, frames("vit"), "minmax", tmp_path)
    (right,) = tmp_path.iterdir()
    calibrate(vit, FrameSet(frames("vit").frames[:8]), "minmax", tmp_path)
    (other,) = set(tmp_path.iterdir()) - {right}
    right.write_bytes(other.read_bytes())
    error = refused("engine.calibration_damaged", vit, frames("vit"), tmp_path)
    assert "another" in error.message


def test_unwritable_cache_is_said_and_leaves_nothing(
    vit: Path, frames: Frames, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    refused("engine.unwritable", vit, frames("vit"), tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_cancel_stops_it_and_leaves_nothing(vit: Path, frames: Frames, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []

    def on_progress(phase: str, part: float) -> None:
        seen.append((phase, part))
        if phase == "histograms" and part > 0:
            watch.cancel()

    watch = BuildWatch(on_progress)
    error = refused(
        "engine.build_cancelled", vit, frames("vit"), tmp_path, watch=watch, method="entropy"
    )
    assert "cancelled" in error.message
    assert list(tmp_path.iterdir()) == []
    assert seen[0] == ("ranges", 0.0)
    assert seen == sorted(seen, key=lambda item: (item[0] == "histograms", item[1]))


def test_frames_of_another_size_are_refused(mini: Path, frames: Frames, tmp_path: Path) -> None:
    refused("engine.calibration_failed", mini, frames("vit"), tmp_path)


def test_tower_that_computes_infinity_is_refused(frames: Frames, tmp_path: Path) -> None:
    broken = handmade.vit(tmp_path / "vit.onnx", stem_gain=1e38)
    error = refused("engine.bad_activations", broken, frames("vit"), tmp_path / "cache")
    assert "'patches'" in error.message


def test_unknown_method_and_percentile_are_refused(
    vit: Path, frames: Frames, tmp_path: Path
) -> None:
    method: Method = "mse"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="minmax, entropy, percentile"):
        calibrate(vit, frames("vit"), method, tmp_path)
    with pytest.raises(ConfigError, match="percentile"):
        calibrate(vit, frames("vit"), "percentile", tmp_path, percentile=40)


def test_missing_master_is_said(frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        calibrate(tmp_path / "none.onnx", frames("vit"), "minmax", tmp_path)
    assert caught.value.code == "engine.graph_unreadable"


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from engines.precision.calibration import calibrate
from engines.precision.frameset import FrameSet
frames = np.random.default_rng(0).integers(0, 256, (int(sys.argv[1]), 32, 32, 3), np.uint8)
calibrate(Path(sys.argv[2]), FrameSet(frames), "percentile", Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_frames(vit: Path, tmp_path: Path) -> None:
    """A frame's activations take 300 KB here: kept, those of 2,000 frames would be 600 MB."""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", _MEASURE, str(count), str(vit), str(tmp_path / str(count))],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for count in (16, 2000)
    ]
    assert peaks[1] - peaks[0] < 60_000, peaks
