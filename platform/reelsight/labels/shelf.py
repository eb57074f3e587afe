"""The shelf: a directory of released banks, found by name or path."""

from __future__ import annotations

from pathlib import Path

from reelsight.errors import BankError
from reelsight.labels.bank_file import BANK_SUFFIX, load_bank, save_bank
from reelsight.labels.release import BankRef
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
        return save_bank(bank, self.path(BankRef.of(bank)))

    def path(self, ref: BankRef) -> Path:
        """Where a bank is, if it is here."""
        return self.directory / f"{ref}{BANK_SUFFIX}"

    def get(self, ref: BankRef) -> LabelBank:
        """Load a bank by its content.

        Raises:
            BankError: It is not here, is damaged, or its content is not what its name says.
        """
        bank = load_bank(self.path(ref))
        if BankRef.of(bank) != ref:
            raise BankError(f"{self.path(ref)} holds {bank!r}", code="bank.damaged")
        return bank

    def paths(self) -> list[Path]:
        """Every bank file, newest last."""
        found = self.directory.glob(f"*{BANK_SUFFIX}")
        return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name))

    def find(self, ref: str, *, model_hash: str | None = None) -> LabelBank:
        """Load a bank by file path, by name (its newest release), or by `<name>-<hash12>`.

        Args:
            ref: What to look for.
            model_hash: Prefer a bank of this model, where several models have one of that name.

        Raises:
            BankError: Nothing fits; the message lists what is there.
        """
        path = Path(ref)
        if path.name.endswith(BANK_SUFFIX) or path.is_file():
            return load_bank(path)
        named = [
            p for p in reversed(self.paths()) if ref in (_stem(p), _stem(p).rpartition("-")[0])
        ]
        banks = [load_bank(p) for p in named]
        if banks:
            return next((b for b in banks if b.model_hash == model_hash), banks[0])
        raise BankError(
            f"no bank {ref!r}; there are {[_stem(p) for p in self.paths()] or 'none'} in "
            f"{self.directory}",
            code="bank.missing",
            hint="See `reelsight bank list`, or give the path of a bank file.",
        )


def _stem(path: Path) -> str:
    return path.name.removesuffix(BANK_SUFFIX)
