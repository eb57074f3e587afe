from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engines.export.model_directory import write_model_directory


def test_of_two_who_write_one_directory_the_later_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's directory appears after this one looked, and before it put its own there."""
    place = tmp_path / "model"

    def fill(scratch: Path, who: str) -> dict[str, Any]:
        (scratch / "who").write_text(who)
        return {}

    replace = os.replace

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        write_model_directory(place, lambda s: fill(s, "first"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    write_model_directory(place, lambda s: fill(s, "second"))
    assert (place / "who").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
