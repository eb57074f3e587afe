"""The table of docs/decode.md from results/decode-truth.json. It runs no decoder."""

from __future__ import annotations

from typing import Any

__all__ = ["BARE", "truth_table"]

BARE = "decord, bare"


def truth_table(document: dict[str, Any]) -> str:
    """The document as Markdown: a row a case, a column a backend."""
    names = document["backends"]
    lines = [
        f"| clip | promise | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for row in document["cases"]:
        cells = " | ".join(row["outcomes"][name] for name in names)
        lines.append(f"| {row['case']} | {row['promise']} | {cells} |")
    kinds = ("right", "refuses", "wrong")
    lines += ["", f"| of {len(document['cases'])} | {' | '.join(kinds)} | breaks |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name in names:
        outcomes = [row["outcomes"][name].split(":")[0] for row in document["cases"]]
        counts = [outcomes.count(kind) for kind in kinds]
        numbers = " | ".join(str(count) for count in (*counts, len(outcomes) - sum(counts)))
        lines.append(f"| {name} | {numbers} |")
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    absent = "".join(f" Not run: {name}." for name in document["not_run"])
    if BARE in names:
        lines += [
            "",
            f"`{BARE}` is decord as most programs use it: frame number floor(t x mean rate).",
        ]
    lines += ["", f"Sampled by {' and '.join(document['samplings'])}, with {versions}.{absent}"]
    return "\n".join(lines)
