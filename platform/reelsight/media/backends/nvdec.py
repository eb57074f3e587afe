"""NvdecBackend: the video engine of an NVIDIA GPU through PyNvVideoCodec, for trusted sources.

Pictures are scaled and turned into RGB where they were decoded, by torch; what crosses to the host
is as large as what an engine takes, or nothing. The library's own demuxer runs in this process and
knows no caps, which is why untrusted bytes stay away. Its own conversion to RGB guesses BT.601 and
is not used.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from reelsight.errors import first_line
from reelsight.media.backends.device_plan import Yuv
from reelsight.media.backends.indexed import Chosen, Facts, choose, facts_of
from reelsight.media.backends.nvdec_remux import as_mp4
from reelsight.media.backends.nvdec_session import NvdecSession
from reelsight.media.backends.seam import Capabilities, unsuited
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

if TYPE_CHECKING:
    from reelsight.media.backends.device_frames import DeviceFrames, DeviceQueue, DeviceTensor
    from reelsight.media.backends.device_scale import DeviceScaler

__all__ = ["NvdecBackend", "yuv_of"]

# Most surfaces held at a time, in number and in bytes of the GPU's memory.
_SURFACES, _SURFACE_BYTES = 32, 256 << 20
# FFmpeg's name of a pixel format, and bits of a sample. 4:2:0 is all that every NVDEC gives.
_FORMATS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
# Least width and height that the hardware takes, as NVIDIA's table of formats has them; smaller
# pictures fail in the library without a reason.
_LEAST = {"h264": (48, 16), "hevc": (144, 144), "vp9": (128, 128), "av1": (128, 128)}
# Codecs whose chroma lies left where the stream does not say; with the others it lies between.
# FFmpeg reads it so, and what the stream does say (rarely: top left, in HDR) is not looked at.
_LEFT = frozenset({"h264", "hevc"})


class NvdecBackend:
    """One kept NVDEC session on one GPU, owned by one thread.

    Args:
        gpu: Index of the GPU.
        library: The module PyNvVideoCodec, or what stands for it; imported when None.
        device: torch's name of where surfaces lie; the GPU when None.
    """

    name = "nvdec"
    capabilities = Capabilities(
        codecs=frozenset({"h264", "hevc", "vp9", "av1"}),
        containers=frozenset({"mov", "matroska"}),
        policies=frozenset({"rate", "count"}),
        accuracies=frozenset({"exact"}),
        trusted_only=True,
        device="cuda",
    )

    def __init__(self, gpu: int = 0, library: Any = None, device: str | None = None) -> None:
        self._gpu = gpu
        self._library = library
        self._device = device or f"cuda:{gpu}"
        self._opened: _Opened | None = None

    def unusable(self) -> str | None:
        try:
            if self._library is None:
                ctypes.CDLL("libcuda.so.1")
                # Without the driver's video libraries it raises RuntimeError.
                importlib.import_module("PyNvVideoCodec")
        except (ImportError, OSError, RuntimeError) as error:
            return f"there is no NVIDIA driver or no PyNvVideoCodec ({first_line(error)})"
        try:
            torch = importlib.import_module("torch")
        except (ImportError, OSError) as error:
            return f"pictures are scaled by torch, which cannot be loaded ({error})"
        if self._device.startswith("cuda") and not torch.cuda.is_available():
            return "pictures are scaled by torch, which sees no GPU"
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
        clip, frames = self.decode_to_device(clip_id, uri, data, sampling, geometry, limits)
        with self._dropped_when_it_fails():
            return clip, frames.to_host()

    def decode_to_device(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
    ) -> tuple[Clip, DeviceFrames]:
        """Sample a clip's frames and leave them on the GPU.

        The last of them may still be being scaled: whoever takes them through DLPack, in a stream
        of their own, waits in that stream and not on the host.

        Args and errors are those of `decode`.
        """
        from reelsight.media.backends.device_frames import DeviceFrames  # noqa: PLC0415

        if lacking := self.capabilities.lacks(sampling):
            raise unsuited(self.name, lacking)
        clip = Clip.of_bytes(clip_id, uri, data)
        facts = facts_of(self.name, data, limits, self.capabilities, guesses_matrix=False)
        yuv = yuv_of(facts)
        if facts.header.demuxer != "mov" or facts.header.frames is None:
            data = as_mp4(data, limits)
        with self._dropped_when_it_fails():
            opened = self._open()
            opened.point_at(data, max(yuv.width, yuv.height))
            chosen = choose(self.name, facts, opened.count(), sampling, limits)
            pixels = opened.scaled(chosen, yuv, facts, geometry)
        return facts.header.fill(clip, facts.end_s), DeviceFrames(clip.clip_id, pixels, chosen)

    def close(self) -> None:
        self._drop()
        self._opened = None

    def _open(self) -> _Opened:
        if self._opened is None:
            library = self._library or importlib.import_module("PyNvVideoCodec")
            self._opened = _Opened(library, self._gpu, self._device)
        return self._opened

    @contextmanager
    def _dropped_when_it_fails(self) -> Iterator[None]:
        """Whatever failed, ours or the driver's: a session in an unknown state is not reused."""
        try:
            yield
        except (ValueError, BufferError, RuntimeError) as error:
            # A surface that does not fit, or torch's words for the GPU's, memory's end among them.
            self._drop()
            raise unsuited(self.name, first_line(error)) from error
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.drop()


class _Opened:
    """A session and the scaler behind it, in one stream."""

    def __init__(self, library: Any, gpu: int, device: str) -> None:
        from reelsight.media.backends.device_frames import DeviceQueue  # noqa: PLC0415
        from reelsight.media.backends.device_scale import DeviceScaler  # noqa: PLC0415

        self._queue: DeviceQueue = DeviceQueue(device)
        self._scaler: DeviceScaler = DeviceScaler(self._queue.device)
        self._session = NvdecSession(library, gpu, self._queue.handle)
        self._reading: Any = None

    def point_at(self, data: bytes, side: int) -> None:
        self._settle()
        with self._queue.current():
            self._session.point_at(data, side)

    def count(self) -> int:
        return self._session.count()

    def scaled(self, chosen: Chosen, yuv: Yuv, facts: Facts, geometry: Geometry) -> DeviceTensor:
        """Decode the chosen pictures and scale them, some at a time."""
        from reelsight.media.backends.device_frames import DeviceTensor  # noqa: PLC0415

        numbers = chosen.numbers
        surface_bytes = yuv.width * yuv.height * 3 // 2 * (1 if yuv.bits == 8 else 2)
        step = max(1, min(_SURFACES, _SURFACE_BYTES // surface_bytes))
        look: tuple[Yuv, Fraction, Any, Geometry] = yuv, facts.sar, facts.orientation, geometry
        with self._queue.current():
            out = self._scaler.room(len(numbers), geometry)
            for start in range(0, len(numbers), step):
                self._settle()
                some = numbers[start : start + step]
                surfaces = self._session.surfaces(some)
                self._scaler.scale_into(out[start : start + len(some)], surfaces, *look)
                self._reading = self._queue.mark()
        return DeviceTensor(out, self._reading)

    def drop(self) -> None:
        try:
            self._settle()
        finally:
            self._session.drop()

    def _settle(self) -> None:
        """Wait until no surface is read any more: the library's next call overwrites them."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.synchronize()


def yuv_of(facts: Facts) -> Yuv:
    """What the numbers in the surfaces will mean.

    Raises:
        MediaError: `media.backend_unsuited` for pictures that NVDEC does not give as they are.
    """
    header = facts.header
    bits = _FORMATS.get(header.pixel_format)
    if bits is None or facts.matrix is None:
        raise unsuited("nvdec", f"its pictures are {header.pixel_format}, not 4:2:0 of 8 or 10 bit")
    least = _LEAST.get(header.codec, (0, 0))
    if facts.width < least[0] or facts.height < least[1]:
        size = f"{facts.width}x{facts.height}"
        raise unsuited(
            "nvdec", f"it takes {header.codec} from {least[0]}x{least[1]} on, not {size}"
        )
    if facts.interlaced:
        raise unsuited("nvdec", "it is interlaced, and one field would be made up")
    left = header.codec in _LEFT
    return Yuv(facts.width, facts.height, facts.matrix, facts.full_range, left, bits)
