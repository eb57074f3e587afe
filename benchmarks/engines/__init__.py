"""The engines' benchmark: our engines beside the ways of running the same tower that people use.

`python -m benchmarks.engines` runs it. `prepare` makes every file once, in parallel processes;
`rounds` starts one process a contender and measures them in turn; `summary` makes numbers of the
rounds, and `table` a page of the numbers.
"""

from __future__ import annotations

__all__: list[str] = []
