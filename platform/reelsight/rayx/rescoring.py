"""Re-scoring as a Ray Data plan: data files of a run -> Reports by another bank.

It has one stage, of tasks on CPUs. There is neither a decoder nor an engine in it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import Dataset, TaskPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from reelsight.errors import StoreError
from reelsight.rayx.cluster import Widths
from reelsight.rayx.transit import COSTS
from reelsight.store.commits import DataFile
from reelsight.store.objects import Objects
from reelsight.store.retag import read_reports
from reelsight.tagging import Rescoring

__all__ = ["rescore_dataset"]

_CPUS = 1.0
_TRIES = 3


def rescore_dataset(
    objects: Objects, files: Sequence[DataFile], rescoring: Rescoring, widths: Widths
) -> Dataset:
    """A lazy dataset of Report rows, one a stored row, with the stage costs beside them.

    Args:
        objects: Where the files lie.
        files: At least one.
        rescoring: What is done to each row.
        widths: As many files are read at a time as there would be decoders.
    """
    places = pa.Table.from_pylist([{"path": f.path, "sha256": f.sha256} for f in files])
    with warnings.catch_warnings():
        # Retry limits have no other way in yet; Ray keeps this one until 2.64.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return (
            ray.data.from_arrow(places)
            .repartition(target_num_rows_per_block=1)
            .map_batches(
                rescore_files,
                fn_kwargs={"objects": objects, "rescoring": rescoring},
                batch_format="pyarrow",
                batch_size=None,
                compute=TaskPoolStrategy(min(widths.decoders, len(files))),
                num_cpus=_CPUS,
                max_retries=_TRIES,
            )
        )


def rescore_files(places: pa.Table, objects: Objects, rescoring: Rescoring) -> Iterator[pa.Table]:
    """Places of data files to their rows with other tags, a table a file."""
    for place in places.to_pylist():
        started = time.perf_counter()
        try:
            rows = rescoring(read_reports(objects, place["path"], place["sha256"]))
        except StoreError as error:
            # Ray carries an error home as text, and its code would not be in it.
            error.add_note(f"code: {error.code}")
            raise
        costs = dict.fromkeys(COSTS, 0.0)
        costs["report_s"] = (time.perf_counter() - started) / rows.num_rows
        for name in COSTS:
            rows = rows.append_column(name, pa.array([costs[name]] * rows.num_rows, pa.float64()))
        yield rows
