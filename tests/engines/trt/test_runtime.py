"""The runtime over doubles: results, order of work, life of buffers, and every way to fail.

A HostDevice stands for the GPU and a module over ONNX Runtime for TensorRT 11. What a real GPU does
is asked in test_on_gpu.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reelsight.models
from engines.backend import Artifact, BuildRequest, BuildWatch
from engines.precision.plan import plan_named
from engines.runtimes.ort_cpu import OrtCpuEngine
from engines.trt.backend import TensorRtBackend
from engines.trt.runtime import TrtEngine
from reelsight.engine.protocol import PipelinedEngine
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.model import Model
from tests.engines.cuda.host_device import HostDevice
from tests.engines.trt.fake_tensorrt import FakeTensorRT

BUCKETS = (2, 4, 8)
MEMORY = (FakeTensorRT.ErrorCodeTRT.FAILED_ALLOCATION, "Requested size was 99: out of memory")


@pytest.fixture
def model() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture
def built(backend: TensorRtBackend, model: Model, tmp_path: Path) -> Artifact:
    return backend.build(request(model), tmp_path, BuildWatch())


def request(model: Model, **options: Any) -> BuildRequest:
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()
    return BuildRequest(model, plan_named("fp32"), model.image, digest, BUCKETS, options)


@pytest.fixture
def opened(
    backend: TensorRtBackend, built: Artifact, model: Model, tmp_path: Path
) -> Callable[[], TrtEngine]:
    return lambda: backend.open(built.spec, tmp_path, model, threads=1)


def pictures(n: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 224, 224, 3), np.uint8)


@pytest.fixture
def reference(model: Model) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    return OrtCpuEngine(model, buckets=BUCKETS).run


def close_to(rows: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """The same library computes both; only the sums' order differs with the batch."""
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_it_gives_the_rows_of_its_model(
    opened: Callable[[], TrtEngine], reference: Callable[..., Any], built: Artifact
) -> None:
    engine = opened()
    assert isinstance(engine, PipelinedEngine)
    assert engine.spec == built.spec
    for bucket in BUCKETS:
        frames = pictures(bucket, seed=bucket)
        close_to(engine.run(frames), reference(frames))
    engine.close()


def test_two_batches_are_in_flight_and_read_in_any_order(
    opened: Callable[[], TrtEngine], reference: Callable[..., Any], trt: FakeTensorRT
) -> None:
    engine = opened()
    first, second = pictures(4, seed=1), pictures(4, seed=2)
    expected = [reference(first), reference(second)]
    order = [int(first.flat[0]), int(second.flat[0])]
    assert order[0] != order[1]
    tickets = [engine.submit(first), engine.submit(second)]
    first[:] = 0  # The caller's own again: it was copied.
    close_to(tickets[1].result(), expected[1])
    assert trt.computed == order, "a context served the second batch before the first"
    close_to(tickets[0].result(), expected[0])
    engine.close()


def test_a_third_batch_waits_for_a_read_result(opened: Callable[[], TrtEngine]) -> None:
    engine = opened()
    tickets = [engine.submit(pictures(2)) for _ in range(engine.slots)]
    with pytest.raises(EngineError) as caught:
        engine.submit(pictures(2))
    assert caught.value.code == "engine.slots_full"
    for ticket in tickets:
        ticket.result()
    engine.run(pictures(2))
    engine.close()


def test_a_ticket_is_read_once(opened: Callable[[], TrtEngine]) -> None:
    engine = opened()
    ticket = engine.submit(pictures(2))
    ticket.result()
    with pytest.raises(EngineError) as caught:
        ticket.result()
    assert caught.value.code == "engine.ticket_read"
    engine.close()


def test_a_read_result_is_the_callers_own(opened: Callable[[], TrtEngine]) -> None:
    engine = opened()
    rows = engine.run(pictures(2, seed=1))
    kept = rows.copy()
    for seed in range(4):
        engine.run(pictures(2, seed=seed))
    assert np.array_equal(rows, kept)
    engine.close()


def test_warmup_records_a_graph_for_every_bucket_and_slot(
    opened: Callable[[], TrtEngine], device: HostDevice, trt: FakeTensorRT, reference: Any
) -> None:
    engine = opened()
    engine.warmup()
    assert engine.report()["graphs"] == {"2": 2, "4": 2, "8": 2}
    enqueued = len([call for call in trt.calls if call.startswith("execute")])
    frames = pictures(4, seed=9)
    close_to(engine.run(frames), reference(frames))
    close_to(engine.run(frames), reference(frames))
    assert device.calls.count("launch") == 2
    assert len([call for call in trt.calls if call.startswith("execute")]) == enqueued
    engine.close()
    assert device.calls.count("free:graph") == 6


def test_without_graphs_every_batch_is_enqueued(
    opened: Callable[[], TrtEngine], device: HostDevice, reference: Callable[..., Any]
) -> None:
    device.captures = False
    engine = opened()
    engine.warmup()
    frames = pictures(4)
    close_to(engine.run(frames), reference(frames))
    assert "launch" not in device.calls
    engine.close()


@pytest.mark.parametrize("code", ["engine.no_graphs", "engine.out_of_memory", "engine.failed"])
def test_a_graph_that_cannot_be_made_costs_only_time(
    opened: Callable[[], TrtEngine],
    device: HostDevice,
    reference: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    real = device.capture

    def second_fails(stream: Any, enqueue: Callable[[], None]) -> Any:
        graph = real(stream, enqueue)
        if device.calls.count("capture") == 2:
            raise EngineError("no graph today", code=code)
        return graph

    monkeypatch.setattr(device, "capture", second_fails)
    engine = opened()
    engine.warmup()
    report = engine.report()
    assert report["graphs"] == {"2": 1, "4": 2, "8": 2}
    assert report["warnings"] == ["no CUDA graph for batches of 2: no graph today"]
    for _ in range(engine.slots):
        frames = pictures(2)
        close_to(engine.run(frames), reference(frames))
    engine.close()
    assert device.live == 0


@pytest.mark.parametrize(
    ("frames", "kind", "words"),
    [
        (np.zeros((2, 224, 224, 3), np.float32), EngineInputError, "float32"),
        (np.zeros((2, 192, 192, 3), np.uint8), EngineInputError, "192"),
        (np.zeros((2, 3, 224, 224), np.uint8), EngineInputError, "uint8"),
        (np.zeros((224, 224, 3), np.uint8), EngineInputError, "uint8"),
        (np.zeros((2, 224, 448, 3), np.uint8)[:, :, ::2], EngineInputError, "C-contiguous"),
        (np.zeros((3, 224, 224, 3), np.uint8), EngineError, "batch of 3 is not one of the buckets"),
        (np.zeros((16, 224, 224, 3), np.uint8), EngineError, "batch of 16"),
    ],
)
def test_wrong_frames_are_refused_before_the_gpu_sees_them(
    opened: Callable[[], TrtEngine],
    device: HostDevice,
    frames: npt.NDArray[Any],
    kind: type[EngineError],
    words: str,
) -> None:
    engine = opened()
    with pytest.raises(kind, match=words):
        engine.run(frames)
    assert "copy_in" not in device.calls
    engine.close()


def test_close_frees_everything_in_order_and_can_be_repeated(
    opened: Callable[[], TrtEngine], device: HostDevice
) -> None:
    engine = opened()
    engine.warmup()
    ticket = engine.submit(pictures(4))
    device.calls.clear()
    engine.close()
    engine.close()
    kinds = [call for call in device.calls if call != "synchronize"]
    assert device.calls[0] == "synchronize"
    assert kinds.index("free:graph") < kinds.index("free:memory")
    assert device.live == 0
    assert device.closed
    for call in (ticket.result, engine.warmup, engine.report, lambda: engine.run(pictures(2))):
        with pytest.raises(EngineError) as caught:
            call()
        assert caught.value.code == "engine.closed"


def test_a_gpu_that_fails_at_the_end_is_let_go_all_the_same(
    opened: Callable[[], TrtEngine], device: HostDevice, trt: FakeTensorRT
) -> None:
    engine = opened()
    device.fail["synchronize"] = {device.calls.count("synchronize") + 1}
    with pytest.raises(EngineError, match="synchronize failed") as caught:
        engine.close()
    assert caught.value.code == "engine.out_of_memory"
    assert len(trt.contexts) == 0
    assert device.live == 0
    assert device.closed
    engine.close()


@pytest.mark.parametrize("content", [b"", b"\x7fELF garbage", b"{"])
def test_a_damaged_plan_is_refused_and_frees_everything(
    opened: Callable[[], TrtEngine], device: HostDevice, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "engine.plan").write_bytes(content)
    with pytest.raises(EngineError, match="magic tag does not match") as caught:
        opened()
    assert caught.value.code == "engine.unloadable"
    assert device.live == 0
    assert device.closed


def test_a_missing_plan_is_named(opened: Callable[[], TrtEngine], tmp_path: Path) -> None:
    (tmp_path / "engine.plan").unlink()
    with pytest.raises(EngineError, match=r"engine\.plan") as caught:
        opened()
    assert caught.value.code == "engine.unloadable"


@pytest.mark.parametrize("change", ["shapes", "dim"])
def test_a_plan_of_another_engine_is_refused(
    opened: Callable[[], TrtEngine], device: HostDevice, tmp_path: Path, change: str
) -> None:
    plan = json.loads((tmp_path / "engine.plan").read_text())
    plan[change] = {"shapes": plan["shapes"][:-1], "dim": 7}[change]
    (tmp_path / "engine.plan").write_text(json.dumps(plan))
    with pytest.raises(EngineError, match="not the engine that its package describes") as caught:
        opened()
    assert caught.value.code == "engine.unloadable"
    assert device.live == 0
    assert device.closed


def test_an_engine_of_another_model_is_refused(
    backend: TensorRtBackend, built: Artifact, model: Model, tmp_path: Path
) -> None:
    other = dataclasses.replace(model, hash="f" * 64)
    with pytest.raises(EngineError, match="is of model") as caught:
        backend.open(built.spec, tmp_path, other, threads=1)
    assert caught.value.code == "engine.unloadable"


def test_large_buckets_are_given_up_when_their_contexts_do_not_fit(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, reference: Callable[..., Any]
) -> None:
    trt.trip["context 2"] = MEMORY
    engine = opened()
    assert list(engine.usable_buckets) == [2]
    assert engine.spec.buckets == BUCKETS
    assert engine.report()["given_up"] == [4, 8]
    frames = pictures(8, seed=3)
    tickets = [engine.submit(frames), engine.submit(frames[:2])]
    close_to(tickets[0].result(), reference(frames))
    close_to(tickets[1].result(), reference(frames[:2]))
    engine.warmup()
    engine.close()


def test_memory_that_runs_out_while_running_gives_up_the_bucket(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, device: HostDevice, reference: Any
) -> None:
    engine = opened()
    waiting, frames = pictures(4, seed=4), pictures(8, seed=5)
    ticket = engine.submit(waiting)
    trt.trip["execute 8"] = MEMORY
    close_to(engine.run(frames), reference(frames))
    close_to(ticket.result(), reference(waiting))
    assert list(engine.usable_buckets) == [2, 4]
    trt.trip["execute 4"] = MEMORY
    close_to(engine.run(frames), reference(frames))
    assert list(engine.usable_buckets) == [2]
    trt.trip["execute 2"] = MEMORY
    with pytest.raises(EngineError) as caught:
        engine.run(frames)
    assert caught.value.code == "engine.out_of_memory"
    trt.trip["execute 2"] = (trt.ErrorCodeTRT.FAILED_EXECUTION, "an illegal memory access")
    with pytest.raises(EngineError) as caught:
        engine.run(frames)
    assert caught.value.code == "engine.failed", "what memory said before is not this failure's"
    engine.close()
    assert device.live == 0


def test_a_bucket_is_given_up_only_when_its_batches_are_done(
    opened: Callable[[], TrtEngine], device: HostDevice, reference: Callable[..., Any]
) -> None:
    engine = opened()
    engine.warmup()
    first, second = pictures(8, seed=7), pictures(8, seed=8)
    ticket = engine.submit(first)
    device.fail["launch"] = {device.calls.count("launch") + 1}
    close_to(engine.run(second), reference(second))
    assert list(engine.usable_buckets) == [2, 4]
    close_to(ticket.result(), reference(first))
    engine.close()


def test_contexts_are_freed_when_a_later_one_fails(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, device: HostDevice
) -> None:
    trt.trip["context 3"] = (trt.ErrorCodeTRT.UNSPECIFIED_ERROR, "no such profile")
    with pytest.raises(EngineError, match="no such profile") as caught:
        opened()
    assert len(trt.contexts) == 0, "they wait for the traceback to go"
    assert caught.value.code == "engine.failed"
    assert device.live == 0


def test_when_not_even_the_smallest_bucket_fits_memory_is_named(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, device: HostDevice
) -> None:
    trt.trip["context 1"] = MEMORY
    with pytest.raises(EngineError, match="out of memory") as caught:
        opened()
    assert caught.value.code == "engine.out_of_memory"
    assert "smaller buckets" in caught.value.hint
    assert device.live == 0
    assert device.closed


def test_slots_shrink_to_the_buckets_that_memory_holds(
    opened: Callable[[], TrtEngine], device: HostDevice, reference: Callable[..., Any]
) -> None:
    device.fail["memory"] = {2, 3}
    engine = opened()
    assert list(engine.usable_buckets) == [2]
    frames = pictures(8, seed=6)
    close_to(engine.run(frames), reference(frames))
    engine.close()
    assert device.live == 0


@pytest.mark.parametrize(
    "call", ["set_optimization_profile_async", "set_input_shape", "create_execution_context"]
)
def test_a_refused_call_stops_the_opening_with_tensorrts_words(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, device: HostDevice, call: str
) -> None:
    trt.trip[call] = (trt.ErrorCodeTRT.UNSPECIFIED_ERROR, f"no {call} today")
    with pytest.raises(EngineError, match=f"no {call} today") as caught:
        opened()
    assert caught.value.code == "engine.failed"
    assert device.live == 0
    assert device.closed


@pytest.mark.parametrize("call", ["set_tensor_address", "execute 4"])
def test_a_failed_batch_gives_its_slot_back(
    opened: Callable[[], TrtEngine], trt: FakeTensorRT, reference: Callable[..., Any], call: str
) -> None:
    engine = opened()
    frames = pictures(4)
    trt.trip[call] = (trt.ErrorCodeTRT.FAILED_EXECUTION, "an illegal memory access")
    for _ in range(engine.slots + 1):
        with pytest.raises(EngineError, match="an illegal memory access") as caught:
            engine.submit(frames)
        assert caught.value.code == "engine.failed"
    del trt.trip[call]
    close_to(engine.run(frames), reference(frames))
    engine.close()


def test_a_device_that_fails_while_waiting_is_an_error_of_that_batch(
    opened: Callable[[], TrtEngine], device: HostDevice, reference: Callable[..., Any]
) -> None:
    engine = opened()
    frames = pictures(4)
    device.fail["wait"] = {1}
    ticket = engine.submit(frames)
    with pytest.raises(EngineError, match="wait failed"):
        ticket.result()
    close_to(engine.run(frames), reference(frames))
    engine.close()


def test_the_report_holds_tensorrts_account(opened: Callable[[], TrtEngine]) -> None:
    engine = opened()
    report = engine.report()
    assert report["layers"] == {"Layers": ["all"]}
    assert report["device_bytes"] == [1000, 2000, 3000]
    assert report["gpu"] == "Double 9000"
    engine.close()
