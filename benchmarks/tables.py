"""Make the tables of the pages from results/*.json, or check that they are current.

A table stands between `<!-- table:NAME -->` and `<!-- /table -->` and is never edited by hand.
NAME is of the file; where a file makes several tables, NAME:PART.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.decode.cost_table import cost_table
from benchmarks.decode.nvdec_table import nvdec_table
from benchmarks.decode.table import truth_table
from benchmarks.engines.agreement_table import agreement_table
from benchmarks.engines.table import engines_table
from benchmarks.marks.gpu_table import marks_gpu_table
from benchmarks.marks.pair_table import pair_table
from benchmarks.marks.table import marks_table
from benchmarks.online.gpu_table import gpu_table
from benchmarks.online.table import online_table, overload_table, soak_table

__all__ = ["main", "render"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/benchmarks.md", "docs/engines.md", "docs/decode.md", "docs/marks.md")
_BLOCK = re.compile(r"(<!-- table:(?P<name>[\w:-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def pipeline_cpu(document: dict[str, Any]) -> str:
    """The pipeline benchmark: one row a contender and model, and what was measured where."""
    lines = [
        "| model | contender | frames / CPU s | CPU ms / frame | frames / s, whole run "
        "| start-up, CPU s | spread | same best label as ours |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case in document["cases"]:
        for name, row in case["systems"].items():
            same = row.get("agreement", {}).get("same_best_label")
            lines.append(
                f"| {case['model']} | {name} | {row['frames_per_cpu_s']:.1f} "
                f"| {1000 * row['cpu_s_per_frame']:.1f} | {row['frames_per_s_whole_run']:.1f} "
                f"| {row['startup_cpu_s']:.1f} | {row['spread']} "
                f"| {'' if same is None else f'{same:.1%}'} |"
            )
    ratios = "; ".join(
        f"{case['model']}: "
        + ", ".join(
            f"{value:.2f}x {key.removeprefix('frames_per_cpu_s / ')}"
            for key, value in case["ratios"].items()
            if key.startswith("frames_per_cpu_s")
        )
        for case in document["cases"]
    )
    machine, versions = document["machine"], document["versions"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    stack = ", ".join(f"{name} {number}" for name, number in versions.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Ours over theirs, frames per CPU second: {ratios}.",
            "",
            f"Measured on {where} (load {machine['load_at_start']} at the start), "
            f"{document['repeat']} repeats, with {stack}.",
        ]
    )


def poison_cpu(document: dict[str, Any]) -> str:
    """The poisoned run beside the clean one, and what became of the clips."""
    runs, outcome, settings = document["runs"], document["outcome"], document["settings"]
    lines = ["| run | rows | s by the clock | CPU s |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {run['rows']:,} | {run['wall_s']:.1f} | {run['cpu_s']:.1f} |"
        for name, run in runs.items()
    ]
    deaths = "; ".join(f"{n} x {what}" for what, n in outcome["deaths"].items())
    machine = document["machine"]
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Slower by {document['slowdown']['wall_s']:.1%} by the clock and by "
            f"{document['slowdown']['cpu_s']:.1%} of CPU time. Of {outcome['healthy']:,} healthy "
            f"clips {outcome['healthy_tagged']:,} are tagged, "
            f"{outcome['healthy_tags_as_in_the_clean_run']:,} of them with the very tags of the "
            f"clean run; of {outcome['poisoned']} poisoned ones {outcome['poisoned_dead']} are "
            f"dead letters after at most {outcome['most_attempts']} attempts ({deaths}); "
            f"{outcome['rows_lost_or_twice']} rows are lost or there twice.",
            "",
            f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"with {stack}; a clip may take {settings['timeout_s']:g} s and "
            f"{settings['memory_mb']} MiB.",
        ]
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "pipeline-cpu": pipeline_cpu,
    "engines-cpu": engines_table,
    "engines-h200": engines_table,
    "trained-h200": agreement_table,
    "decode-cpu": cost_table,
    "decode-h200": nvdec_table,
    "decode-truth": truth_table,
    "poison-cpu": poison_cpu,
    "marks-null": marks_table,
    "marks-cpu": pair_table,
    "marks-h200": marks_gpu_table,
    "online-cpu": online_table,
    "online-cpu:overload": overload_table,
    "online-cpu:soak": soak_table,
    "online-h200": gpu_table,
}
# Their pages stand before anyone has had the machine.
_AWAITED = {
    "marks-cpu": "Not measured yet: the rows come with a trained pair.",
    "marks-h200": "Not measured yet: the rows come with a trained pair.",
}


def render(page: str, results: Path) -> str:
    """The page with every table made anew.

    Args:
        page: Markdown with table markers.
        results: Directory of NAME.json files.

    Raises:
        KeyError: A marker names a table that nobody makes.
        FileNotFoundError: A marker names a table whose results are not there, and not awaited.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        file = results / f"{name.partition(':')[0]}.json"
        if name in _AWAITED and not file.exists():
            return f"{match[1]}{_AWAITED[name]}\n{match[3]}"
        document = json.loads(file.read_text(encoding="utf-8"))
        return f"{match[1]}{TABLES[name](document)}\n{match[3]}"

    return _BLOCK.sub(table, page)


def main() -> None:
    """Rewrite the pages; with --check, exit 1 when one is not current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    options = parser.parse_args()
    stale = {}
    for path in (ROOT / name for name in PAGES):
        page = path.read_text(encoding="utf-8")
        made = render(page, RESULTS)
        if made != page:
            stale[path] = made
    if options.check and stale:
        names = ", ".join(path.name for path in stale)
        sys.exit(f"not current: {names}: run python -m benchmarks.tables")
    for path, made in stale.items():
        path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
