"""Labels: how they are written, built into a bank, and found again."""

from reelsight.labels.bank_file import BANK_SUFFIX, load_bank, save_bank
from reelsight.labels.build import build_bank, build_bank_for
from reelsight.labels.choose import choose_bank, own_bank
from reelsight.labels.definition import BankDefinition, LabelDefinition
from reelsight.labels.release import BankPointer, BankRef, BankState, Release
from reelsight.labels.shelf import BankShelf

__all__ = [
    "BANK_SUFFIX",
    "BankDefinition",
    "BankPointer",
    "BankRef",
    "BankShelf",
    "BankState",
    "LabelDefinition",
    "Release",
    "build_bank",
    "build_bank_for",
    "choose_bank",
    "load_bank",
    "own_bank",
    "save_bank",
]
