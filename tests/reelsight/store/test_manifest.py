from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsight.errors import ManifestError
from reelsight.store.manifest import Manifest, write_manifest


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_good_manifest_keeps_its_further_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.parquet", {"uri": ["x", "y"], "asset": [7, None], "clip_id": ["a", "b"]}
    )
    manifest = Manifest.open(path)
    assert manifest.rows == 2
    assert manifest.carried == pa.struct({"asset": pa.int64()})
    assert list(manifest) == [
        {"uri": "x", "asset": 7, "clip_id": "a"},
        {"uri": "y", "asset": None, "clip_id": "b"},
    ]


def test_without_further_columns_nothing_is_carried(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.parquet", [{"clip_id": "a", "uri": "x"}])
    assert Manifest.open(path).carried is None


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"clip_id": ["a"]}, "manifest.missing_columns"),
        ({"uri": ["a"]}, "manifest.missing_columns"),
        ({"clip_id": [1], "uri": ["x"]}, "manifest.column_type"),
        ({"clip_id": ["a"], "uri": [b"x"]}, "manifest.column_type"),
        ({"clip_id": ["a", None], "uri": ["x", "y"]}, "manifest.blank_clip_id"),
        ({"clip_id": ["a", ""], "uri": ["x", "y"]}, "manifest.blank_clip_id"),
        ({"clip_id": ["a", "b", "a"], "uri": ["x", "y", "z"]}, "manifest.duplicate_clip_ids"),
        (
            {"clip_id": pa.array([], pa.string()), "uri": pa.array([], pa.string())},
            "manifest.empty",
        ),
    ],
)
def test_a_bad_manifest_is_refused_as_a_whole(
    tmp_path: Path, columns: dict[str, Any], code: str
) -> None:
    path = write(tmp_path / "m.parquet", columns)
    with pytest.raises(ManifestError) as caught:
        Manifest.open(path)
    assert caught.value.code == code
    assert caught.value.hint


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest file at"):
        Manifest.open(tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_text("clip_id,uri\na,x\n")
    with pytest.raises(ManifestError, match="is not a Parquet file"):
        Manifest.open(tmp_path / "m.parquet")
    with pytest.raises(ManifestError) as caught:
        write_manifest(tmp_path / "n.parquet", [])
    assert caught.value.code == "manifest.empty"
