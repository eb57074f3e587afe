"""`python -m benchmarks.marks`: the null and the power of leak tracing, into results/ and docs/.

About three minutes on two cores. With `--pair DIR` a pair is measured as well, on real clips beside
invisible-watermark (`benchmarks.marks.pair`): half an hour more, most of it rivaGAN's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marks.null import codes_of_nobody, matching_time, null_tails, null_traces
from benchmarks.marks.plot import plot
from benchmarks.marks.power import power_curves

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--suspects", type=int, default=10, help="of each family")
    parser.add_argument("--traces", type=int, default=3000, help="whole traces of nobody's copy")
    parser.add_argument(
        "--copies", type=int, default=1000, help="of each point of the power curves"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/marks-null.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/marks-null.svg")
    parser.add_argument("--pair", type=Path, help="measure this pair beside its peers, too")
    parser.add_argument("--without-null", action="store_true", help="the pair alone")
    options, others = parser.parse_known_args()
    if options.pair is not None:
        from benchmarks.marks import pair

        pair.main([str(options.pair), *others])
    elif others:
        parser.error(f"unknown: {others}")
    if options.without_null:
        return
    document = measure(options.codes, options.suspects, options.traces, options.copies)
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    options.plot.write_text(plot(document), encoding="utf-8")


def measure(codes: int, suspects: int, traces: int, copies: int) -> dict[str, Any]:
    """Everything, as the document that the table and the plot are made of."""
    seed, rows, identified = 20261121, 1_000_000, 1e-6
    drawn = codes_of_nobody(codes)
    some = np.ascontiguousarray(drawn[:, : min(codes, 10_000)])
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "protocol": {
            "codes": codes,
            "suspects": suspects,
            "seed": seed,
            "power_rows": rows,
            "identified": identified,
            "copies": copies,
        },
        "null": null_tails(drawn, suspects, seed),
        "traces": null_traces(some, traces, seed),
        "power": power_curves(copies, rows, identified, seed),
        "matching": matching_time(drawn, 15),
        "machine": {
            "cpu": names[0] if names else platform.processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_at_end": round(os.getloadavg()[0], 1),
        },
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


if __name__ == "__main__":
    main()
