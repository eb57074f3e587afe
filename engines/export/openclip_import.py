"""Import torch and open_clip, late, with a typed error when they are not installed.

This module knows one quirk of the field and hides it: open_clip imports torchvision, and the
torchvision wheel of the package index does not import beside a CPU build of torch, because its
compiled operators do not load and its Python side then registers fakes for operators that nobody
declared. Declaring their schemas first is enough: export calls none of them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from reelsight.errors import ModelError

__all__ = ["EXPORT_HINT", "import_extra", "import_open_clip", "import_torch"]

EXPORT_HINT = "pip install 'reelsight[export]'"

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A torch.library.Library takes its schemas with it when it is collected.
_libraries: list[Any] = []


def import_torch() -> ModuleType:
    """The torch module.

    Raises:
        ModelError: `model.export_extra_missing` when torch is not installed.
    """
    return import_extra("torch")


def import_open_clip() -> ModuleType:
    """The open_clip module, also beside a CPU torch whose torchvision has no compiled operators.

    Raises:
        ModelError: `model.export_extra_missing` when open_clip or torch is not installed.
    """
    import_extra("torch")
    try:
        return import_extra("open_clip")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _forget("torchvision", "open_clip")
    _declare_torchvision_schemas()
    return import_extra("open_clip")


def import_extra(name: str) -> ModuleType:
    """A module that only the export extra installs.

    Raises:
        ModelError: `model.export_extra_missing` when it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"{name} cannot be imported here ({error}), and exporting a model needs it.",
            code="model.export_extra_missing",
            hint=EXPORT_HINT,
        ) from error


def _forget(*packages: str) -> None:
    """Drop what a failed import left behind, so that the next one starts afresh."""
    for name in list(sys.modules):
        if name.split(".")[0] in packages:
            del sys.modules[name]


def _declare_torchvision_schemas() -> None:
    if _libraries:
        return
    library = import_torch().library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
