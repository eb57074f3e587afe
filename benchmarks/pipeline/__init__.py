"""The pipeline benchmark: our backfill beside what people write, same weights, clips and stamps.

`python -m benchmarks.pipeline` runs it. Each contender is one file and one process: `torch_loop`
and `naive_ray` here, `jobs.backfill` for ours.
"""

from __future__ import annotations

__all__: list[str] = []
