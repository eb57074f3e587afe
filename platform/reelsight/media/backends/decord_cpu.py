"""DecordBackend: decord 0.6.0 on the CPU, for trusted sources.

decord carries an FFmpeg of 2021 that nobody mends: no AV1, and its demuxer guesses formats and runs
in this process. It repeats the picture before one that it cannot decode and says nothing, so a clip
is refused as soon as that happens.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.media.backends.indexed import decode_indexed, facts_of
from reelsight.media.backends.seam import Capabilities, unsuited
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["DecordBackend"]


class DecordBackend:
    """The decoder that many pipelines are written with; never chosen unless named."""

    name = "decord"
    capabilities = Capabilities(
        codecs=frozenset({"h264", "hevc", "vp8", "vp9", "mpeg4"}),
        containers=frozenset({"mov", "matroska"}),
        policies=frozenset({"rate", "count"}),
        accuracies=frozenset({"exact"}),
        trusted_only=True,
        device="cpu",
    )

    def unusable(self) -> str | None:
        try:
            import decord  # noqa: F401, PLC0415
        except (ImportError, OSError) as error:
            return f"decord cannot be loaded ({error}); pip install decord==0.6.0"
        return None

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
    ) -> tuple[Clip, Frames]:
        if lacking := self.capabilities.lacks(sampling):
            raise unsuited(self.name, lacking)
        clip = Clip.of_bytes(clip_id, uri, data)
        facts = facts_of(self.name, data, limits, self.capabilities, guesses_matrix=True)
        return decode_indexed(self.name, facts, _Opened(data), clip, sampling, geometry, limits)

    def close(self) -> None:
        """Nothing is kept."""


class _Opened:
    """One clip in decord."""

    upright = True

    def __init__(self, data: bytes) -> None:
        import decord  # noqa: PLC0415

        self._failure = decord.DECORDError
        try:
            self._reader: Any = decord.VideoReader(io.BytesIO(data), num_threads=1, fault_tol=1)
        except (decord.DECORDError, AssertionError, RuntimeError) as error:
            raise unsuited("decord", _first_line(error)) from error

    def count(self) -> int:
        return len(self._reader)

    def stamps(self) -> npt.NDArray[np.float64] | None:
        spans = self._reader.get_frame_timestamp(range(len(self._reader)))
        return np.asarray(spans, np.float64)[:, 0]

    def pictures(self, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        at = 0
        for number in numbers:
            try:
                if number > at:
                    self._reader.skip_frames(number - at)
                picture = self._reader.next().asnumpy()
            except (self._failure, RuntimeError, StopIteration) as error:
                why = f"it gives no picture {number} ({_first_line(error)})"
                raise unsuited("decord", why) from error
            at = number + 1
            yield picture


def _first_line(error: BaseException) -> str:
    """The reason alone: its messages carry a time, a source line and a stack of C++ frames."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line.rpartition(".cc:")[2].partition(": ")[2] or line or type(error).__name__
