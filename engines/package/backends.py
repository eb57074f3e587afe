"""Which backends there are, in the order in which they are preferred.

They are imported when they are asked for: their own imports take time and may not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engines.backend import Backend
from engines.runtimes.ort_backend import OrtBackend
from reelsight.errors import ConfigError

__all__ = ["BACKENDS", "backend_named"]


def _tensorrt() -> Backend:
    from engines.trt.backend import TensorRtBackend
    from engines.trt.flavour import TENSORRT

    return TensorRtBackend(TENSORRT)


def _tensorrt_rtx() -> Backend:
    from engines.trt.backend import TensorRtBackend
    from engines.trt.flavour import TENSORRT_RTX

    return TensorRtBackend(TENSORRT_RTX)


def _aotinductor() -> Backend:
    from engines.inductor.backend import InductorBackend

    return InductorBackend()


# Fastest first, as far as it can be said without measuring.
_FACTORIES: dict[str, Callable[[], Backend]] = {
    "tensorrt": _tensorrt,
    "tensorrt-rtx": _tensorrt_rtx,
    "aotinductor": _aotinductor,
    "onnxruntime-cuda": partial(OrtBackend, "onnxruntime-cuda"),
    "onnxruntime-cpu": partial(OrtBackend, "onnxruntime-cpu"),
}
BACKENDS = tuple(_FACTORIES)


def backend_named(name: str) -> Backend:
    """A backend, whether it is usable here or not.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in _FACTORIES:
        raise ConfigError(
            f"no backend {name!r} builds packages; there are {', '.join(BACKENDS)}",
            code="config.backend",
        )
    return _FACTORIES[name]()
