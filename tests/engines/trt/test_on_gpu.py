"""Everything for real, where a supported GPU, its driver, pycuda and a TensorRT are there.

Each test runs for each flavour that says it is usable; elsewhere it is skipped with the flavour's
own reason. Nothing here needs a network, or a model but the shipped one.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engines.backend import Artifact, BuildRequest, BuildWatch
from engines.export.parity import FP32_MASTER, Tolerance, probe_frames
from engines.gate.measures import centred_cosine
from engines.runtimes.ort_cpu import OrtCpuEngine
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT, TENSORRT_RTX
from engines.trt.runtime import TrtEngine
from reelsight.engine.host import EngineHost
from reelsight.engine.protocol import PipelinedEngine
from reelsight.errors import EngineError
from reelsight.nouns.model import Model

pytestmark = pytest.mark.tensorrt

BUCKETS = (1, 4, 16)
# The arithmetic that each plan may differ by from FP32 on the CPU. FP16 and BF16 round to 11 and 8
# bits over some fifty layers; 8-bit ranges here come from four frames and say nothing of accuracy,
# only that the graph computes what it should.
TOLERANCES = {
    "fp32": FP32_MASTER,
    "fp16": Tolerance(max_abs=0.02, min_centred_cosine=0.999),
    "fp16-norms32": Tolerance(max_abs=0.02, min_centred_cosine=0.999),
    "bf16": Tolerance(max_abs=0.05, min_centred_cosine=0.98),
    "int8": Tolerance(max_abs=0.3, min_centred_cosine=0.6),
    "fp8": Tolerance(max_abs=0.3, min_centred_cosine=0.6),
}


@pytest.fixture(params=[TENSORRT, TENSORRT_RTX], ids=lambda flavour: flavour.name)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> TensorRtBackend:
    made = TensorRtBackend(request.param)
    found = made.probe()
    if not found.usable:
        pytest.skip(found.reason)
    return made


@pytest.fixture
def mini(model_named: Callable[[str], Model]) -> Model:
    return model_named("reelsight-mini")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "package"
    directory.mkdir()
    return directory


@pytest.fixture
def built(
    backend: TensorRtBackend, mini: Model, request_for: Callable[..., BuildRequest], out: Path
) -> Artifact:
    return backend.build(request_for(mini, "fp16", BUCKETS), out, BuildWatch())


@pytest.fixture
def engine(
    backend: TensorRtBackend, built: Artifact, mini: Model, out: Path
) -> Iterator[TrtEngine]:
    opened = backend.open(built.spec, out, mini, threads=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_plan_gives_the_masters_rows(
    backend: TensorRtBackend,
    mini: Model,
    request_for: Callable[..., BuildRequest],
    out: Path,
    precision: str,
) -> None:
    try:
        made = backend.build(request_for(mini, precision, BUCKETS), out, BuildWatch())
    except EngineError as error:
        if error.code != "engine.precision":
            raise
        pytest.skip(error.message)
    assert backend.refusal(made.spec, made.target) is None
    frames = probe_frames(mini.geometry.size, 16)
    reference = OrtCpuEngine(mini, buckets=(16,)).run(frames)
    engine = backend.open(made.spec, out, mini, threads=1)
    try:
        cold = engine.run(frames)
        engine.warmup()
        rows = engine.run(frames)
    finally:
        engine.close()
    tolerance = TOLERANCES[precision]
    for given in (cold, rows):
        assert np.isfinite(given).all()
        assert np.abs(given - reference).max() <= tolerance.max_abs
        assert centred_cosine(reference, given).min() >= tolerance.min_centred_cosine


def test_graphs_slots_and_buckets_do_not_change_a_row(engine: TrtEngine) -> None:
    assert isinstance(engine, PipelinedEngine)
    engine.warmup()
    report = engine.report()
    assert report["given_up"] == []
    frames = probe_frames(engine.spec.geometry.size, 16)
    whole = engine.run(frames)
    again = [engine.run(frames) for _ in range(4)]
    assert all(np.array_equal(whole, rows) for rows in again)
    for bucket in BUCKETS:
        for start in range(0, 16, bucket):
            part = np.ascontiguousarray(frames[start : start + bucket])
            rows = engine.run(part)
            # Kernels are chosen for each bucket: FP16 sums in another order.
            assert np.abs(rows - whole[start : start + bucket]).max() <= 0.02


def test_many_batches_in_flight_come_back_as_their_own(engine: TrtEngine) -> None:
    engine.warmup()
    size = engine.spec.geometry.size
    batches = [probe_frames(size, 4, seed=seed) for seed in range(12)]
    expected = [engine.run(batch) for batch in batches]
    buffer = np.empty_like(batches[0])
    waiting: list[tuple[int, object]] = []
    rows: dict[int, npt.NDArray[np.float32]] = {}
    for index, batch in enumerate(batches):
        if len(waiting) == engine.slots:
            done, ticket = waiting.pop(0)
            rows[done] = ticket.result()  # type: ignore[attr-defined]
        buffer[:] = batch
        waiting.append((index, engine.submit(buffer)))
        buffer[:] = 0
    for done, ticket in waiting:
        rows[done] = ticket.result()  # type: ignore[attr-defined]
    for index, right in enumerate(expected):
        assert np.array_equal(rows[index], right), index


def test_it_serves_from_another_thread_through_a_host(engine: TrtEngine) -> None:
    host = EngineHost(engine)
    frames = probe_frames(engine.spec.geometry.size, 7)
    rows: list[npt.NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda: rows.append(host.run(frames))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host.close()
    assert len(rows) == 4
    assert all(np.allclose(other, rows[0], atol=0.02) for other in rows)


def test_the_inspector_names_layers(engine: TrtEngine) -> None:
    report = engine.report()
    assert report["layers"]
    assert len(report["device_bytes"]) == len(BUCKETS)
    assert report["gpu_bytes"]["free"] > 0


def test_memory_is_given_back(
    backend: TensorRtBackend, built: Artifact, mini: Model, out: Path
) -> None:
    left = []
    for _ in range(4):
        opened = backend.open(built.spec, out, mini, threads=1)
        opened.warmup()
        opened.close()
        opened.close()
        probe = backend.open(built.spec, out, mini, threads=1)
        left.append(probe.report()["gpu_bytes"]["free"])
        probe.close()
    # The first opening loads kernels that stay; each later one has to give back what it took.
    assert left[-1] >= left[1] - (16 << 20)


@pytest.mark.parametrize("damage", ["short", "flipped", "other"])
def test_a_damaged_plan_is_an_error_and_no_crash(
    backend: TensorRtBackend, built: Artifact, mini: Model, out: Path, damage: str
) -> None:
    """Hashes keep such files away; this is for the file that was never right."""
    plan = out / "engine.plan"
    content = plan.read_bytes()
    plan.write_bytes(
        {
            "short": content[: len(content) // 2],
            "flipped": bytes([content[0] ^ 0xFF]) + content[1:],
            "other": b"not a plan at all" * 100,
        }[damage]
    )
    with pytest.raises(EngineError) as caught:
        backend.open(built.spec, out, mini, threads=1)
    assert caught.value.code == "engine.unloadable"


def test_a_plan_of_other_buckets_is_refused(
    backend: TensorRtBackend, built: Artifact, mini: Model, out: Path
) -> None:
    other = dataclasses.replace(built.spec, buckets=(1, 4, 32))
    with pytest.raises(EngineError, match="not the buckets") as caught:
        backend.open(other, out, mini, threads=1)
    assert caught.value.code == "engine.unloadable"


def test_timings_make_the_next_build_faster_or_equal(
    backend: TensorRtBackend,
    mini: Model,
    request_for: Callable[..., BuildRequest],
    tmp_path: Path,
) -> None:
    if backend.name != TENSORRT.name:
        pytest.skip("TensorRT-RTX times nothing")
    seconds = []
    for turn in range(2):
        place = tmp_path / str(turn)
        place.mkdir()
        request = request_for(mini, "fp16", BUCKETS, timing_cache=str(tmp_path / "timings"))
        seconds.append(backend.build(request, place, BuildWatch()).seconds)
    assert (tmp_path / "timings").stat().st_size > 0
    assert seconds[1] <= seconds[0]


def test_a_build_on_the_gpu_is_cancelled(
    backend: TensorRtBackend, mini: Model, request_for: Callable[..., BuildRequest], out: Path
) -> None:
    watch = BuildWatch(lambda phase, part: watch.cancel() if phase == "Building engine" else None)
    with pytest.raises(EngineError) as caught:
        backend.build(request_for(mini, "fp16", BUCKETS), out, watch)
    assert caught.value.code == "engine.build_cancelled"
    assert list(out.iterdir()) == []
