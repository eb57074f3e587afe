"""What torch does with frames that a decoder left on the GPU: on its CPU here, and on a GPU."""

from __future__ import annotations

import hashlib
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
from engines.precision.plan import plan_named
from reelsight.engine.fake import fake_spec
from reelsight.engine.protocol import DeviceFramesEngine
from reelsight.errors import EngineInputError
from reelsight.nouns.model import Model

SPEC = fake_spec(buckets=(2, 4, 8))
FRAME = 64 * 64 * 3

Frames = npt.NDArray[np.uint8]


def noise(n: int, size: int = 64) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


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
