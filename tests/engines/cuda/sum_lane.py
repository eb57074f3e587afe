"""A lane made by hand, which computes over host memory what the fake engine does."""

from __future__ import annotations

import numpy as np

from engines.cuda.slots import Slot
from reelsight.engine.fake import FakeEngine, fake_spec
from reelsight.errors import EngineError
from tests.engines.cuda.host_device import HostDevice

SPEC = fake_spec(buckets=(2, 4, 8))


class SumLane:
    """Embeds as the fake engine does, with one scratch buffer that a second batch would spoil."""

    def __init__(self, device: HostDevice, bucket: int) -> None:
        self._device, self.bucket = device, bucket
        self._engine = FakeEngine(fake_spec(buckets=(bucket,)))
        self.computed: list[int] = []
        self.refuse: str | None = None
        self.closed = False

    def enqueue(self, slot: Slot) -> None:
        assert not self.closed
        if self.refuse is not None:
            raise EngineError("refused as told", code=self.refuse)
        shape = (self.bucket, 64, 64, 3)
        source = self._device.buffers[slot.device_in.address]
        target = self._device.buffers[slot.device_out.address]

        def compute() -> None:
            frames = source[: int(np.prod(shape))].reshape(shape)
            self.computed.append(int(frames.flat[0]))
            rows = self._engine.run(frames).reshape(-1).view(np.uint8)
            target[: rows.size] = rows

        slot.stream.do(compute)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.closed = True
