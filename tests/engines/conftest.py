"""Lets the tests of a GPU run where only torch and ONNX are installed beside it."""

from __future__ import annotations

import importlib.util
import sys

if importlib.util.find_spec("pyarrow") is None:
    # Its __init__ imports what moves rows between processes; the engine seam beneath needs none.
    found = importlib.util.find_spec("reelsight.engine")
    assert found is not None
    sys.modules[found.name] = importlib.util.module_from_spec(found)
