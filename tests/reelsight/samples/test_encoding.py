"""Encoders leave the machine to others."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

import av
import numpy as np
import pytest

from reelsight.samples.encoding import encoded


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes are Linux's")
@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="PyAV without SVT-AV1")
def test_nobody_is_left_in_real_time() -> None:
    def classes() -> set[int]:
        found = set()
        for task in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # It has ended meanwhile.
                found.add(os.sched_getscheduler(int(task)))
        return found

    before, seen = os.sched_getscheduler(0), set()
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream: Any = container.add_stream("libsvtav1", rate=25, options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for level in range(3):
            picture = np.full((128, 128, 3), 60 * level, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(encoded(stream, frame))
            seen |= classes()
        container.mux(encoded(stream, None))
    assert before == os.sched_getscheduler(0)
    assert not (seen | classes()) & {os.SCHED_FIFO, os.SCHED_RR}
