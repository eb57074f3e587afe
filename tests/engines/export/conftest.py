"""Fixtures of the export tests: without the export extra they skip and say why."""

from __future__ import annotations

from typing import Any

import pytest

from reelsight.errors import ModelError


@pytest.fixture(scope="session")
def open_clip() -> Any:
    """The open_clip module."""
    from engines.export.openclip_import import import_open_clip

    for name in ("onnx", "onnxscript"):
        pytest.importorskip(
            name, reason=f"{name} is not installed: pip install 'reelsight[export]'"
        )
    try:
        return import_open_clip()
    except ModelError as error:
        pytest.skip(f"{error.message} {error.hint}")


@pytest.fixture(scope="session")
def torch(open_clip: Any) -> Any:
    """The torch module, two threads."""
    from engines.export.openclip_import import import_torch

    return import_torch()
