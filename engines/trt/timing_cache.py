"""The timing cache: what TensorRT timed in earlier builds, kept in one file.

The file is read whole before a build and replaced whole after it. Builds that share it may lose
each other's timings, never the file.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engines.trt.recorder import Trouble
from reelsight.atomic import write_whole
from reelsight.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TimingCache"]

_CODE = "engine.timing_cache"


class TimingCache:
    """A file of timings, in use by one build.

    Args:
        path: The file; it need not be there yet.

    Raises:
        EngineError: `engine.timing_cache` when the file cannot be read or its directory cannot be
            written: found out before a build that takes minutes, not after it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
            self._content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise EngineError(
                f"the timing cache {path} cannot be used: {error}",
                code=_CODE,
                hint="Name a file in a directory that can be written, or build without one.",
            ) from error

    def give_to(self, config: trt.IBuilderConfig, trouble: Trouble) -> None:
        """Let a build start from the timings.

        Raises:
            EngineError: TensorRT does not take the file: damaged, or of another GPU or version.
        """
        cache = config.create_timing_cache(self._content)
        if cache is None or trouble.errors or not config.set_timing_cache(cache, False):
            raise trouble.failure(
                f"the timing cache {self._path} is not of this GPU and library, or damaged",
                code=_CODE,
                hint="Delete the file, or name another one for each GPU and version.",
            )

    def take_from(self, config: trt.IBuilderConfig, trouble: Trouble) -> str:
        """Write what the build knows now.

        Returns:
            sha256 (hex) of the file.

        Raises:
            EngineError: TensorRT gives no cache, or the file cannot be written; what was there
                before is untouched.
        """
        cache = config.get_timing_cache()
        content = None if cache is None else cache.serialize()
        if content is None:
            raise trouble.failure("TensorRT does not give back its timing cache", code=_CODE)
        whole = bytes(content)
        try:
            write_whole(self._path, whole)
        except OSError as error:
            raise EngineError(
                f"the timing cache {self._path} cannot be written: {error}", code=_CODE
            ) from error
        return hashlib.sha256(whole).hexdigest()
