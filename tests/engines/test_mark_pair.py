"""A pair of mark networks as files: what is taken, what is refused, and what they answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes.ort_marks import OrtMarkReader, open_pair
from reelsight.engine import EngineHost
from reelsight.errors import EngineError, EngineInputError, ModelError
from reelsight.nouns.mark_pair import MarkPair
from tests.reference_pair import BITS, SIZE, write_card, write_pair


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(home, tmp_path / "pair"))


def test_what_a_pair_is(home: Path) -> None:
    opened = open_pair(home)
    spec = opened.reader.spec
    assert (spec.geometry.size, spec.geometry.mode, spec.dim) == (SIZE, "active", BITS + 1)
    assert opened.reader.capabilities == {"read_mark"}
    assert (spec.onnx_sha256, spec.model_hash) == (opened.pair.extractor_sha256, opened.pair.hash)
    assert opened.pair.carrier.model == "marks-reference"
    assert opened.pair.hash.startswith(opened.pair.carrier.version)


def test_a_mark_is_written_at_its_strength_and_read_through_a_host(home: Path) -> None:
    opened = open_pair(home, buckets=(1, 4))
    rng = np.random.default_rng(1)
    luma = rng.integers(80, 160, (SIZE, SIZE), np.uint8)
    code = rng.integers(0, 2, BITS).astype(np.float32)
    residual = opened.writer.residual(luma, code, 36.0)
    assert 20 * np.log10(255 / residual.std()) == pytest.approx(36.0, abs=0.1)
    marked = np.clip(luma + residual + 0.5, 0, 255).astype(np.uint8)
    host = EngineHost(opened.reader)
    try:
        pictures = np.repeat(np.stack([marked, luma, marked])[..., None], 3, axis=-1)
        rows = host.run(pictures)
    finally:
        host.close()
    assert ((rows[0, :-1] > 0) == (code > 0.5)).mean() > 0.9
    assert rows[0] == pytest.approx(rows[2], abs=1e-5)
    assert rows[0, -1] > 0 > rows[1, -1]


@pytest.mark.parametrize("name", ["embedder.onnx", "extractor.onnx", "CARD.md"])
def test_a_file_that_is_missing(own: Path, name: str) -> None:
    (own / name).unlink()
    with pytest.raises(ModelError) as caught:
        MarkPair.load(own)
    assert caught.value.code == "model.missing"


@pytest.mark.parametrize("name", ["embedder.onnx", "extractor.onnx"])
def test_a_file_that_was_changed(own: Path, name: str) -> None:
    data = bytearray((own / name).read_bytes())
    data[len(data) // 2] ^= 1
    (own / name).write_bytes(data)
    with pytest.raises(ModelError) as caught:
        open_pair(own)
    assert caught.value.code == "model.damaged"


@pytest.mark.parametrize("change", ["no recipe", "no hash", "a hash twice", "no text"])
def test_a_card_that_does_not_say(own: Path, change: str) -> None:
    card = own / "CARD.md"
    text = card.read_text()
    row = next(line for line in text.splitlines() if "extractor" in line)
    changed = {
        "no recipe": text.replace("Recipe", "Receipt"),
        "no hash": text.replace(row, ""),
        "a hash twice": text.replace(row, f"{row}\n{row}"),
    }
    card.write_bytes(changed[change].encode() if change in changed else b"\xff\xfe")
    with pytest.raises(ModelError) as caught:
        MarkPair.load(own)
    assert caught.value.code == "model.bad_pair"


def test_files_that_are_no_pair(own: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    shutil.copy(own / "embedder.onnx", swapped / "extractor.onnx")
    shutil.copy(own / "extractor.onnx", swapped / "embedder.onnx")
    other = write_pair(tmp_path / "other", bits=96)
    shutil.copy(own / "embedder.onnx", other / "embedder.onnx")
    for directory in (swapped, other):
        write_card(directory)
        with pytest.raises(ModelError) as caught:
            open_pair(directory)
        assert caught.value.code == "model.bad_pair"
    (own / "extractor.onnx").write_bytes(b"no graph")
    write_card(own)
    with pytest.raises(EngineError) as broken:
        open_pair(own)
    assert broken.value.code == "engine.unloadable"


def test_pictures_that_are_wrong(home: Path) -> None:
    reader = OrtMarkReader(MarkPair.load(home), buckets=(2,))
    with pytest.raises(EngineInputError):
        reader.run(np.zeros((2, 64, 64, 3), np.uint8))
    with pytest.raises(EngineError, match="bucket"):
        reader.run(np.zeros((3, SIZE, SIZE, 3), np.uint8))
    reader.close()
    with pytest.raises(EngineError, match="closed"):
        reader.run(np.zeros((2, SIZE, SIZE, 3), np.uint8))
