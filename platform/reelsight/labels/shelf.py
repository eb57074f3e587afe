"""The shelf: a directory of released banks, found by name or path."""

from __future__ import annotations

from pathlib import Path

from reelsight.errors import BankError
from reelsight.labels.bank_file import BANK_SUFFIX, load_bank, save_bank
from reelsight.nouns.label_bank import LabelBank

__all__ = ["BankShelf"]


class BankShelf:
    """Bank files in one directory, named `<name>-<hash12>.bank.safetensors`.

    Args:
        directory: Where released banks live; made on the first put.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, bank: LabelBank) -> Path:
        """Store a bank; equal banks land on the same file."""
        return save_bank(bank, self.directory / f"{bank.name}-{bank.hash[:12]}{BANK_SUFFIX}")

    def paths(self) -> list[Path]:
        """Every bank file, newest last."""
        found = self.directory.glob(f"*{BANK_SUFFIX}")
        return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name))

    def find(self, ref: str) -> LabelBank:
        """Load a bank by file path, name (its newest release) or `<name>-<hash12>`.

        Raises:
            BankError: Nothing fits; the message lists what is there.
        """
        path = Path(ref)
        if path.is_file() or path.name.endswith(BANK_SUFFIX):
            return load_bank(path)
        for candidate in reversed(self.paths()):
            stem = candidate.name.removesuffix(BANK_SUFFIX)
            if ref in (stem, stem.rpartition("-")[0]):
                return load_bank(candidate)
        known = [p.name.removesuffix(BANK_SUFFIX) for p in self.paths()]
        raise BankError(
            f"no bank {ref!r}; there are {known or 'none'} in {self.directory}",
            code="bank.missing",
            hint="See `reelsight bank list`, or give the path of a bank file.",
        )
