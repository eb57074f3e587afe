"""A bank on disk: one safetensors file with the text matrix and the canonical JSON of the labels.

The JSON is the one metadata entry, so equal banks are equal files and a changed byte changes the
hash.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reelsight.atomic import write_whole
from reelsight.errors import BankError
from reelsight.nouns.label_bank import BANK_FORMAT, Label, LabelBank

__all__ = ["BANK_SUFFIX", "load_bank", "save_bank"]

BANK_SUFFIX = ".bank.safetensors"


def save_bank(bank: LabelBank, path: Path) -> Path:
    """Write a bank to `path` atomically; an existing file is replaced.

    Raises:
        BankError: The directory cannot be written.
    """
    content = save({"matrix": bank.matrix}, metadata={"bank": bank.document()})
    try:
        return write_whole(path, content)
    except OSError as error:
        raise BankError(f"cannot write {path}: {error}", code="bank.unwritable") from error


def load_bank(path: Path) -> LabelBank:
    """Read a bank file.

    Raises:
        BankError: The file is missing, is not a bank, or is damaged.
    """
    if not path.is_file():
        raise BankError(f"no bank file at {path}", code="bank.missing")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("bank")
            matrix = file.get_tensor("matrix")
    except (SafetensorError, OSError) as error:
        raise BankError(f"{path} is not a label bank: {error}") from error
    if text is None:
        raise BankError(f"{path} is a safetensors file without a bank in it")
    return _parse(text, matrix, path)


def _parse(text: str, matrix: npt.NDArray[np.float32], path: Path) -> LabelBank:
    try:
        document = json.loads(text)
        if document["format"] != BANK_FORMAT:
            raise BankError(f"{path} has bank format {document['format']}, expected {BANK_FORMAT}")
        labels = tuple(
            Label(
                name=item["name"],
                prompts=tuple(item["prompts"]),
                threshold=float(item["threshold"]),
                aliases={lang: tuple(names) for lang, names in item["aliases"].items()},
                critical=bool(item.get("critical", False)),
            )
            for item in document["labels"]
        )
        return LabelBank(
            name=document["name"],
            model=document["model"],
            model_hash=document["model_hash"],
            logit_scale=float(document["logit_scale"]),
            labels=labels,
            matrix=matrix,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BankError(f"{path} holds a malformed bank: {error!r}") from error
