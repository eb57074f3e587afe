"""Rescoring: stored Report rows, tagged again by another bank from the embeddings that they hold.

Everything else of a row is passed on as it is, its embeddings to the bit. It needs no clip and no
engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelsight.errors import StoreError
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Tag
from reelsight.nouns.schema import MARKS_VERSION, PROVENANCE_TYPE, SCHEMA_VERSION, TAG_TYPE
from reelsight.tagging.aggregate import tags_of

__all__ = ["Rescoring"]


@dataclass(frozen=True)
class Rescoring:
    """What is done to each row.

    Attributes:
        bank: The new bank; of the model that made the embeddings.
        code_version: Of the code that scores.
    """

    bank: LabelBank
    code_version: str

    @cached_property
    def stamp(self) -> dict[str, str]:
        """The fields of a row's provenance that are not the old ones."""
        bank = self.bank
        return {"bank": bank.name, "bank_hash": bank.hash, "code_version": self.code_version}

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows of the Report schema to the same rows with other tags, in order.

        Dead letters stay dead, for the same reason.

        Args:
            rows: N rows, with any carried columns.

        Raises:
            StoreError: `store.other_schema`: they were written by another version.
        """
        version = (rows.schema.metadata or {}).get(b"reelsight.schema_version", b"none").decode()
        if version not in (SCHEMA_VERSION, MARKS_VERSION):
            raise StoreError(
                f"the rows are of schema version {version}, not {SCHEMA_VERSION} or "
                f"{MARKS_VERSION}",
                code="store.other_schema",
                hint="Re-score them with the version of reelsight that wrote them, or tag anew.",
            )
        tags = [[asdict(tag) for tag in found] for found in self._tags(rows["frames"])]
        columns = {
            "tags": pa.array(tags, pa.list_(TAG_TYPE)),
            "provenance": self._stamped(rows["provenance"].combine_chunks()),
        }
        for name, values in columns.items():
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), values)
        return rows

    def _tags(self, frames: pa.ChunkedArray) -> Iterator[tuple[Tag, ...]]:
        """Tags of every row, none where it has no frames."""
        column = frames.combine_chunks()
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        flat = column.flatten()
        pts, weights = (
            pc.struct_field(flat, name).to_numpy(zero_copy_only=False)
            for name in ("pts", "weight_s")
        )
        dim = self.bank.matrix.shape[1]
        values = pc.struct_field(flat, "embedding").flatten().to_numpy(zero_copy_only=False)
        embeddings = values.reshape(-1, dim)
        ends = np.cumsum(counts)
        for start, end in zip(ends - counts, ends, strict=True):
            part = slice(int(start), int(end))
            yield tags_of(pts[part], weights[part], embeddings[part], self.bank)

    def _stamped(self, provenance: pa.StructArray) -> pa.StructArray:
        fields = [
            pa.array([self.stamp[field.name]] * len(provenance), field.type)
            if field.name in self.stamp
            else pc.struct_field(provenance, field.name)
            for field in PROVENANCE_TYPE
        ]
        return pa.StructArray.from_arrays(fields, fields=list(PROVENANCE_TYPE))
