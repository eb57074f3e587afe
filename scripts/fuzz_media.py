"""`python -m scripts.fuzz_media --files N`: decode N broken files and say what became of them.

Case number K is the same file on every machine with the same encoders; `--first K --files 1 --keep`
makes one again. The exit code is 1 when a file crashed a child, hung, leaked another file's pixels,
or ended in an error without a code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.reelsight.media.corpus import KINDS, hostile_file
from tests.reelsight.media.corpus_bombs import lay_canary
from tests.reelsight.media.corpus_runner import GOOD, Bounds, Outcome, run_seeds

_STATUSES = (*GOOD, "unclassified", "leaked", "crashed", "hung")
_EVERY = 5000


def main() -> int:
    """Run, print the table and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="how many files")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--wall-s", type=float, default=Bounds.wall_s, help="seconds a file")
    parser.add_argument("--memory-mib", type=int, default=Bounds.memory_mib, help="MiB a child")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    args = parser.parse_args()
    bounds = Bounds(wall_s=args.wall_s, memory_mib=args.memory_mib)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        canary = lay_canary(Path(folder))
        for outcome in run_seeds(range(args.first, args.first + args.files), canary, bounds):
            outcomes.append(outcome)
            if len(outcomes) % _EVERY == 0:
                print(f"{len(outcomes)} files, {time.monotonic() - began:.0f} s", file=sys.stderr)
            if outcome.status not in GOOD:
                print(outcome, file=sys.stderr)
                _keep(outcome, canary, args.keep)
    _print_table(outcomes, time.monotonic() - began)
    return int(any(outcome.status not in GOOD for outcome in outcomes))


def _keep(outcome: Outcome, canary: Path, folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{outcome.seed}-{outcome.name}").write_bytes(
            hostile_file(outcome.seed, canary).data
        )


def _print_table(outcomes: list[Outcome], seconds: float) -> None:
    counts = Counter((outcome.kind, outcome.status) for outcome in outcomes)
    totals = Counter(outcome.status for outcome in outcomes)
    print("| kind | files | " + " | ".join(_STATUSES) + " | peak MiB | longest s |")
    print("|---|" + "---|" * (len(_STATUSES) + 3))
    for kind in KINDS:
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        if mine:
            cells = [str(len(mine)), *(str(counts[kind, status]) for status in _STATUSES)]
            cells.append(f"{max(outcome.peak_mib for outcome in mine):.0f}")
            cells.append(f"{max(outcome.seconds for outcome in mine):.2f}")
            print(f"| {kind} | " + " | ".join(cells) + " |")
    print(f"| all | {len(outcomes)} | " + " | ".join(str(totals[s]) for s in _STATUSES) + " | | |")
    codes = Counter(outcome.detail for outcome in outcomes if outcome.status == "refused")
    print("\nrefused: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    print(f"{seconds:.0f} s, {1000 * seconds / max(1, len(outcomes)):.1f} ms a file")


if __name__ == "__main__":
    sys.exit(main())
