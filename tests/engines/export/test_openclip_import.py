"""Without the export extra, importing costs nothing and using says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engines.export import openclip_import
from reelsight.errors import ModelError


def test_importing_the_package_imports_neither_torch_nor_open_clip() -> None:
    program = (
        "import sys, engines.export.resolve, engines.export.parity, engines.export.tokenizer;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'open_clip', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("missing", ["torch", "open_clip"])
def test_missing_extra_names_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "open_clip":
        pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(ModelError, match=missing) as caught:
        openclip_import.import_open_clip()
    assert caught.value.code == "model.export_extra_missing"
    assert caught.value.hint == "pip install 'reelsight[export]'"
