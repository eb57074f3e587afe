"""Frames that a decoder left on the GPU: copied, filled up and ordered there.

The pipeline runs over a double whose streams work as late as they can. What torch does with such
frames is run on its CPU; on a GPU the whole way is.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reelsight.models
from engines.backend import BuildRequest, BuildWatch
from engines.cuda.pipeline import Pipeline
from engines.cuda.slots import Slot, SlotRing
from engines.precision.plan import plan_named
from reelsight.engine.fake import FakeEngine, fake_spec
from reelsight.engine.protocol import DeviceFramesEngine
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.model import Model
from tests.engines.cuda.host_device import HostDevice
from tests.engines.cuda.test_pipeline import SumLane

SPEC = fake_spec(buckets=(2, 4, 8))
FRAME = 64 * 64 * 3

Frames = npt.NDArray[np.uint8]


def noise(n: int, seed: int = 0, size: int = 64) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def rows_of(frames: Frames) -> npt.NDArray[np.float32]:
    return FakeEngine(fake_spec(buckets=(len(frames),))).run(frames)


class LateBatch:
    """Frames that are written to the device when somebody waits for it, and not before."""

    def __init__(self, device: HostDevice, frames: Frames) -> None:
        self._device, self._count = device, len(frames)
        self._memory = device.memory(frames.nbytes)
        self._stream, self._written = device.stream(), device.event()
        lying = device.buffers[self._memory.address]
        self._stream.do(lambda: np.copyto(lying, frames.reshape(-1)))
        self._written.record(self._stream)
        self.puts: list[tuple[int, int, int]] = []
        self.fail: str | None = None

    def __len__(self) -> int:
        return self._count

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        self.puts.append((start, count, bucket))

        def fill(slot: Slot) -> None:
            if self.fail is not None:
                raise EngineError("refused as told", code=self.fail)
            slot.stream.wait_for(self._written)
            slot.stream.do(lambda: self._copy(slot, start, count, bucket))  # type: ignore[attr-defined]

        return ring.take_filled(fill)

    def free(self) -> None:
        self._stream.run()
        for part in (self._memory, self._stream, self._written):
            part.free()

    def _copy(self, slot: Slot, start: int, count: int, bucket: int) -> None:
        to = self._device.buffers[slot.device_in.address]
        lying = self._device.buffers[self._memory.address]
        to[: count * FRAME] = lying[start * FRAME : (start + count) * FRAME]
        to[count * FRAME : bucket * FRAME] = 0


class Lent:
    """A batch that can be seen to go."""

    def __init__(self, batch: LateBatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch)

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        return self._batch.put(ring, start, count, bucket)


@pytest.fixture
def device() -> Iterator[HostDevice]:
    device = HostDevice()
    with device.current():
        yield device
    assert device.live == 0


@pytest.fixture
def lanes(device: HostDevice) -> dict[int, SumLane]:
    return {bucket: SumLane(device, bucket) for bucket in SPEC.buckets}


@pytest.fixture
def pipeline(device: HostDevice, lanes: dict[int, SumLane]) -> Iterator[Pipeline[SumLane]]:
    made = Pipeline(SPEC, device, lanes.values(), slots=2)
    yield made
    made.close()


@pytest.mark.parametrize(("n", "bucket"), [(1, 2), (2, 2), (3, 4), (5, 8), (8, 8)])
def test_any_number_is_filled_up_and_gives_its_own_rows(
    pipeline: Pipeline[SumLane], device: HostDevice, n: int, bucket: int
) -> None:
    frames = noise(n)
    batch = LateBatch(device, frames)
    rows = pipeline.submit_batch(batch).result()
    np.testing.assert_array_equal(rows, rows_of(frames))
    assert batch.puts == [(0, n, bucket)]
    assert "copy_in" not in device.calls, "nothing goes through the host"
    batch.free()


def test_they_take_turns_with_batches_from_the_host(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    lying, given = noise(3, 1), noise(4, 2)
    batch = LateBatch(device, lying)
    first, second = pipeline.submit_batch(batch), pipeline.submit(given)
    with pytest.raises(EngineError) as caught:
        pipeline.submit_batch(batch)
    assert caught.value.code == "engine.slots_full"
    np.testing.assert_array_equal(second.result(), rows_of(given))
    np.testing.assert_array_equal(first.result(), rows_of(lying))
    batch.free()


def test_a_bucket_that_was_given_up_runs_in_parts_on_the_device(
    pipeline: Pipeline[SumLane], lanes: dict[int, SumLane], device: HostDevice
) -> None:
    lanes[8].refuse = lanes[4].refuse = "engine.out_of_memory"
    frames = noise(5)
    batch = LateBatch(device, frames)
    np.testing.assert_array_equal(pipeline.submit_batch(batch).result(), rows_of(frames))
    assert batch.puts == [(0, 5, 8), (0, 4, 4), (0, 2, 2), (2, 2, 2), (4, 1, 2)]
    assert "copy_in" not in device.calls
    batch.free()


@pytest.mark.parametrize("n", [0, 9])
def test_what_no_bucket_holds_is_refused(
    pipeline: Pipeline[SumLane], device: HostDevice, n: int
) -> None:
    batch = LateBatch(device, noise(n))
    with pytest.raises(EngineError, match=f"batch of {n} is beyond") as caught:
        pipeline.submit_batch(batch)
    assert caught.value.code == "engine.bad_batch"
    batch.free()


def test_a_batch_that_cannot_be_copied_costs_no_slot(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    batch = LateBatch(device, noise(2))
    batch.fail = "engine.failed"
    for _ in range(5):
        with pytest.raises(EngineError, match="refused as told"):
            pipeline.submit_batch(batch)
    batch.fail = None
    np.testing.assert_array_equal(pipeline.submit_batch(batch).result(), rows_of(noise(2)))
    batch.free()


def test_frames_are_kept_until_their_rows_were_read(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    """A decoder's memory goes to its next clip as soon as nobody holds the frames."""
    batch = LateBatch(device, noise(2))
    lent = Lent(batch)
    held = weakref.ref(lent)
    ticket = pipeline.submit_batch(lent)
    del lent
    assert held() is not None
    ticket.result()
    assert held() is None
    batch.free()


# What torch does with them.


class Lying:
    """Frames of torch's that pretend to lie on a GPU, and note who asks for them."""

    def __init__(self, tensor: Any, device: tuple[int, int] = (2, 0)) -> None:
        self._tensor, self._device = tensor, device
        self.asked: list[tuple[int | None, bool]] = []
        self.entered = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._tensor.shape)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked.append((stream, self.entered))
        return self._tensor.__dlpack__()


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="frames on the device are torch's")


@pytest.fixture
def slot(torch: Any) -> Any:
    memory = SimpleNamespace(tensor=torch.full((8 * FRAME,), 7, dtype=torch.uint8))
    return SimpleNamespace(device_in=memory, stream=SimpleNamespace(handle=77))


def filled(batch: Any, slot: Any, start: int, count: int, bucket: int) -> Frames:
    """The slot's input after a batch was put into it."""
    ring = SimpleNamespace(take_filled=lambda fill: (fill(slot), slot)[1])
    assert batch.put(ring, start, count, bucket) is slot
    found: Frames = slot.device_in.tensor.numpy().reshape(-1, 64, 64, 3)
    return found


def test_frames_are_copied_in_the_slots_stream_and_the_rest_is_black(
    torch: Any, slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.inductor import runtime

    lying = Lying(torch.from_numpy(frames := noise(5)))

    @contextmanager
    def entered(stream: Any) -> Iterator[None]:
        assert stream is slot.stream
        lying.entered = True
        yield
        lying.entered = False

    monkeypatch.setattr(runtime, "on_stream", entered)
    batch = runtime.DeviceBatch(SPEC, lying)
    assert len(batch) == 5
    found = filled(batch, slot, 1, 3, 4)
    assert (found[:3] == frames[1:4]).all()
    assert (found[3] == 0).all()
    assert (found[4:] == 7).all(), "what the bucket does not read is left alone"
    # By the stream that will read them, and before that one is torch's current stream.
    assert lying.asked == [(77, False)]


@pytest.mark.parametrize("change", ["type", "strides"])
def test_frames_of_another_layout_are_refused(torch: Any, slot: Any, change: str) -> None:
    from engines.inductor.runtime import DeviceBatch

    tensor = torch.zeros((2, 64, 64, 3), dtype=torch.uint8)
    tensor = tensor.to(torch.int8) if change == "type" else tensor.transpose(1, 2)
    with pytest.raises(EngineInputError, match="not contiguous uint8"):
        filled(DeviceBatch(SPEC, Lying(tensor)), slot, 0, 2, 2)


def test_frames_of_another_size_or_place_are_refused(torch: Any) -> None:
    from engines.inductor.runtime import DeviceBatch

    with pytest.raises(EngineInputError, match=r"\[2, 32, 32, 3\], not \[n, 64, 64, 3\]"):
        DeviceBatch(SPEC, Lying(torch.zeros((2, 32, 32, 3), dtype=torch.uint8)))
    for place in ((1, 0), (2, 1)):
        with pytest.raises(EngineInputError, match="not on the first GPU"):
            DeviceBatch(SPEC, Lying(torch.zeros((2, 64, 64, 3), dtype=torch.uint8), place))


# On a GPU.


@pytest.mark.gpu
def test_a_gpu_reads_frames_behind_what_writes_them(torch: Any, tmp_path: Path) -> None:
    """The writer's stream is kept busy first: who does not wait reads what was there before."""
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    from engines.inductor.backend import InductorBackend
    from reelsight.media.backends.device_frames import DeviceQueue, DeviceTensor

    model = Model.load(reelsight.models.MINI)
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()
    wanted = BuildRequest(model, plan_named("fp32"), model.image, digest, (1, 8))
    backend = InductorBackend()
    made = backend.build(wanted, tmp_path, BuildWatch())
    engine = backend.open(made.spec, tmp_path, model, threads=1)
    assert isinstance(engine, DeviceFramesEngine)
    size = model.geometry.size
    frames = noise(8, size=size)
    expected = engine.run(frames)
    queue = DeviceQueue("cuda:0")
    source = torch.from_numpy(frames).cuda()
    for n in (1, 5, 8):
        lying = torch.zeros_like(source[:n])
        torch.cuda.synchronize()
        with queue.current():
            torch.cuda._sleep(200_000_000)
            lying.copy_(source[:n], non_blocking=True)
        ticket = engine.submit_on_device(DeviceTensor(lying, queue.mark()))
        rows = ticket.result()
        assert rows.shape == expected[:n].shape
        np.testing.assert_allclose(rows, expected[:n], atol=1e-3)
    engine.close()
