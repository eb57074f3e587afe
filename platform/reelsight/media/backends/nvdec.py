"""NvdecBackend: the video engine of an NVIDIA GPU through PyNvVideoCodec, for trusted sources.

A session costs 50 to 70 ms to create and 5 to 6 ms to point at another clip, so one is kept. Its
demuxer runs in this process and knows no caps, which is why untrusted bytes stay away. Pictures
come back through host memory; handing them to an engine on the device is not done here.
"""

from __future__ import annotations

import ctypes
import importlib
import os
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

__all__ = ["NvdecBackend"]

# Decoders of other picture sizes and codecs that a session keeps beside the current one.
_DECODERS_KEPT = 8
# Full-size pictures fetched at a time; each is a surface or its copy.
_BATCH = 16


class NvdecBackend:
    """One kept NVDEC session on one GPU.

    Args:
        gpu: Index of the GPU.
        library: The module PyNvVideoCodec, or what stands for it; imported when None.
    """

    name = "nvdec"
    capabilities = Capabilities(
        codecs=frozenset({"h264", "hevc", "vp8", "vp9", "av1"}),
        containers=frozenset({"mov", "matroska"}),
        policies=frozenset({"rate", "count"}),
        accuracies=frozenset({"exact"}),
        trusted_only=True,
        device="cuda",
    )

    def __init__(self, gpu: int = 0, library: Any = None) -> None:
        self._gpu = gpu
        self._given = library
        self._session: Any = None

    def unusable(self) -> str | None:
        if self._given is not None:
            return None
        try:
            ctypes.CDLL("libcuda.so.1")
            importlib.import_module("PyNvVideoCodec")
        except (ImportError, OSError) as error:
            return f"there is no NVIDIA driver or no PyNvVideoCodec ({error})"
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
        file = os.memfd_create("clip")
        try:
            with open(file, "wb", closefd=False) as sink:
                sink.write(data)
            self._point_at(f"/proc/self/fd/{file}")
            size = facts.header.height, facts.header.width
            shape = size[::-1] if facts.orientation.transpose else size
            opened = _Opened(self._session, shape)
            return decode_indexed(self.name, facts, opened, clip, sampling, geometry, limits)
        except Exception:
            # Whatever failed, ours or the driver's: a session in an unknown state is not reused.
            self._session = None
            raise
        finally:
            os.close(file)

    def close(self) -> None:
        self._session = None

    def _point_at(self, path: str) -> None:
        """Open the session, or give the open one another file."""
        library = self._given or importlib.import_module("PyNvVideoCodec")
        try:
            if self._session is not None:
                self._session.reconfigure_decoder(path)
                return
            self._session = library.SimpleDecoder(
                path,
                gpu_id=self._gpu,
                use_device_memory=False,
                decoder_cache_size=_DECODERS_KEPT,
                output_color_type=library.OutputColorType.RGB,
            )
        except Exception as error:
            # PyNvVideoCodec raises bare Exceptions and its own C++ classes alike.
            raise unsuited(self.name, str(error) or type(error).__name__) from error


class _Opened:
    """One clip in a session."""

    upright = False

    def __init__(self, session: Any, shape: tuple[int, int]) -> None:
        self._session = session
        self._shape = shape

    def count(self) -> int:
        return len(self._session)

    def stamps(self) -> npt.NDArray[np.float64] | None:
        return None

    def pictures(self, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        height, width = self._shape
        for start in range(0, len(numbers), _BATCH):
            some = list(numbers[start : start + _BATCH])
            try:
                batch = self._session.get_batch_frames_by_index(some)
            except Exception as error:
                # As above: the library has no error class of its own.
                raise unsuited("nvdec", str(error) or type(error).__name__) from error
            for frame in batch:
                picture: npt.NDArray[Any] = np.from_dlpack(frame)
                if picture.dtype != np.uint8 or picture.size != 3 * height * width:
                    got = f"{picture.dtype}{list(picture.shape)}"
                    raise unsuited("nvdec", f"a picture is {got}, not {height}x{width} RGB")
                # The surface is used again for the next picture.
                yield picture.reshape(height, width, 3).copy()
