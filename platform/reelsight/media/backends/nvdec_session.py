"""NvdecSession: one decoder of PyNvVideoCodec, pointed at one clip after the other.

Creating one costs 50 to 70 ms, another clip 5 to 6 ms. It knows the library's rules and no pixels:
a surface is good until the next call, the n-th picture is found by the container's own index, and
what failed once may answer wrongly later, so its user drops it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from reelsight.errors import MediaError, first_line
from reelsight.media.backends.seam import unsuited

__all__ = ["NvdecSession"]

# Decoders of other codecs and depths that a session keeps beside the current one.
_DECODERS_KEPT = 4
# Longest side in pixels that a decoder has room for from the start; within it, another picture
# size costs a reconfiguration, beyond it a new decoder.
_SIDE = 2048


class NvdecSession:
    """A kept decoder. It belongs to one thread.

    Args:
        library: The module PyNvVideoCodec.
        gpu: Index of the GPU.
        stream: CUstream in which surfaces are written.
    """

    def __init__(self, library: Any, gpu: int, stream: int) -> None:
        self._library, self._gpu, self._stream = library, gpu, stream
        self._decoder: Any = None
        self._side = 0
        self._file: int | None = None

    def point_at(self, data: bytes, side: int) -> None:
        """Read another clip from here on.

        Args:
            data: The whole file.
            side: Longer side of its pictures, pixels.

        Raises:
            MediaError: `media.backend_unsuited`: the library refuses it.
        """
        file = os.memfd_create("clip")
        # The demuxer reads from the file as long as the clip lasts, and two clips in a row never
        # have one name.
        before, self._file = self._file, file
        try:
            with open(file, "wb", closefd=False) as sink:
                sink.write(data)
            if side > max(self._side, _SIDE):
                self._decoder = None
            self._open(f"/proc/self/fd/{file}", max(side, _SIDE))
        except Exception as error:
            raise _refusal(error) from error
        finally:
            if before is not None:
                os.close(before)

    def count(self) -> int:
        """How many pictures the clip has, by the library.

        Raises:
            MediaError: `media.backend_unsuited`.
        """
        try:
            return len(self._decoder)
        except Exception as error:
            raise _refusal(error) from error

    def surfaces(self, numbers: Sequence[int]) -> list[Any]:
        """Decode pictures; everything that an earlier call gave may be overwritten.

        Args:
            numbers: Of pictures in display order, ascending.

        Returns:
            A DLPack producer for each, in the GPU's memory.

        Raises:
            MediaError: `media.backend_unsuited`: decoding failed, or gave another number of them.
        """
        try:
            found = list(self._decoder.get_batch_frames_by_index(list(numbers)))
        except Exception as error:
            raise _refusal(error) from error
        if len(found) != len(numbers):
            raise unsuited("nvdec", f"of {len(numbers)} pictures asked for it gave {len(found)}")
        return found

    def drop(self) -> None:
        """Free the decoder; the next clip gets a new one. Idempotent."""
        self._decoder, self._side = None, 0
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, path: str, side: int) -> None:
        if self._decoder is not None:
            self._decoder.reconfigure_decoder(path)
            return
        self._decoder = self._library.SimpleDecoder(
            path,
            gpu_id=self._gpu,
            cuda_stream=self._stream,
            use_device_memory=True,
            max_width=side,
            max_height=side,
            decoder_cache_size=_DECODERS_KEPT,
            output_color_type=self._library.OutputColorType.NATIVE,
        )
        self._side = side


def _refusal(error: Exception) -> MediaError:
    """What the library says: it raises bare Exceptions and its own C++ classes alike."""
    return unsuited("nvdec", first_line(error).strip())
