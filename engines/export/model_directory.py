"""Write a model directory so that it appears whole or not at all.

What is in it is said by who fills it; this module knows the files' hashes and the swap.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from reelsight.digest import file_sha256

__all__ = ["MODEL_JSON_FORMAT", "file_entry", "write_model_directory"]

MODEL_JSON_FORMAT = 1


def write_model_directory(directory: Path, fill: Callable[[Path], dict[str, Any]]) -> Path:
    """Fill an empty directory and put it where the model shall be.

    Args:
        directory: Replaced when it exists; untouched when `fill` raises.
        fill: Writes the files into the directory that it is given; returns model.json's content.
    """
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        document = fill(scratch)
        (scratch / "model.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        _replace(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def file_entry(path: Path) -> dict[str, Any]:
    """What model.json says of a file, and of the weights beside it."""
    entry: dict[str, Any] = {"path": path.name, "sha256": file_sha256(path)}
    data = path.with_name(path.name + ".data")
    if data.is_file():
        entry["data"] = {"path": data.name, "sha256": file_sha256(data)}
    return entry


def _replace(scratch: Path, directory: Path) -> None:
    """Put scratch in directory's place; whatever is in the way steps aside first, every time."""
    while True:
        try:
            os.replace(scratch, directory)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-old-", dir=directory.parent))
        with suppress(FileNotFoundError):  # Another process was quicker.
            os.replace(directory, old / "model")
        shutil.rmtree(old, ignore_errors=True)
