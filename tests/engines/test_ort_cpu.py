"""The CPU engine on the shipped model, and on files that are not what they claim."""

from __future__ import annotations

import hashlib
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import reelsight.models
from engines.runtimes.ort_cpu import OrtCpuEngine, OrtTextTower, ort_cpu_spec
from reelsight.engine import EngineHost
from reelsight.errors import EngineError, ModelError
from reelsight.nouns.model import Model

BUCKETS = (2, 4, 8, 16, 32)


@pytest.fixture
def model() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may damage."""
    return Path(shutil.copytree(reelsight.models.MINI, tmp_path / "model"))


def pictures(n: int, size: int = 224) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2))


def test_embeddings_are_unit_vectors(model: Model) -> None:
    engine = OrtCpuEngine(model, buckets=BUCKETS)
    engine.warmup()
    rows = engine.run(pictures(4))
    assert rows.shape == (4, model.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert engine.spec == ort_cpu_spec(model, BUCKETS)


def test_a_frame_gets_the_same_float16_bits_in_every_batch(model: Model) -> None:
    """What makes the doors equal: no bucket or neighbour changes its embedding."""
    frames = pictures(32)
    host = EngineHost(OrtCpuEngine(model, buckets=BUCKETS))
    together = host.run(frames).astype(np.float16)
    for size in (1, 3, 8, 16):
        parts = [host.run(frames[i : i + size]).astype(np.float16) for i in range(0, 32, size)]
        assert np.concatenate(parts).tobytes() == together.tobytes(), size
    host.close()


def test_a_batch_that_is_no_bucket_is_refused(model: Model) -> None:
    with pytest.raises(EngineError, match="batch of 5 is not one of the buckets"):
        OrtCpuEngine(model, buckets=BUCKETS).run(pictures(5))


def test_a_closed_engine_holds_nothing_and_refuses(model: Model) -> None:
    engine = OrtCpuEngine(model, buckets=BUCKETS)
    session = weakref.ref(engine._session)
    engine.close()
    engine.close()
    assert session() is None
    with pytest.raises(EngineError) as caught:
        engine.run(pictures(4))
    assert caught.value.code == "engine.closed"


def test_the_text_tower_embeds_any_phrase(model: Model) -> None:
    tower = OrtTextTower(model)
    phrases = ["a qr code", "", "二维码 🎬", "word " * 500, "\x00\u202e"]
    rows = tower.embed_text(phrases)
    assert rows.shape == (5, model.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert tower.model_hash == model.hash
    many = tower.embed_text(["a qr code"] * 130)
    assert np.allclose(many, rows[0], atol=1e-5)


def test_a_file_that_is_not_the_models_is_never_run(copied: Path) -> None:
    """A changed weight would be stamped with the hash of the unchanged model."""
    image = copied / "image.onnx"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    with pytest.raises(ModelError, match=r"image\.onnx does not match the hash") as caught:
        OrtCpuEngine(Model.load(copied), buckets=BUCKETS)
    assert caught.value.code == "model.damaged"


def rehash(directory: Path, kind: str, content: bytes) -> None:
    """Replace a file, and the hash that model.json gives it."""
    document = json.loads((directory / "model.json").read_text())
    (directory / document["files"][kind]["path"]).write_bytes(content)
    document["files"][kind]["sha256"] = hashlib.sha256(content).hexdigest()
    (directory / "model.json").write_text(json.dumps(document))


def test_a_file_that_onnxruntime_cannot_load_is_named(copied: Path) -> None:
    rehash(copied, "image", (copied / "image.onnx").read_bytes()[:-1000])
    with pytest.raises(EngineError) as caught:
        OrtCpuEngine(Model.load(copied), buckets=BUCKETS)
    assert caught.value.code == "engine.unloadable"


def test_a_model_that_takes_another_input_is_refused(copied: Path) -> None:
    document = json.loads((copied / "model.json").read_text())
    document["geometry"]["size"] = 192
    (copied / "model.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=r"expected frames: tensor\(uint8\) \[n, 192, 192, 3\]"):
        OrtCpuEngine(Model.load(copied), buckets=BUCKETS)


def test_a_broken_tokenizer_is_named(copied: Path) -> None:
    rehash(copied, "tokenizer", b"{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        OrtTextTower(Model.load(copied))


@pytest.mark.parametrize("text", ["{}", "[", '{"format": 99}', '{"format": 1, "files": 3}'])
def test_a_malformed_description_is_named(copied: Path, text: str) -> None:
    (copied / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        Model.load(copied)


def test_the_hash_follows_what_changes_an_answer(copied: Path) -> None:
    before = Model.load(copied).hash
    document = json.loads((copied / "model.json").read_text())
    document["licence"] = "other words"
    (copied / "model.json").write_text(json.dumps(document))
    assert Model.load(copied).hash == before
    document["geometry"]["mode"] = "shortest"
    (copied / "model.json").write_text(json.dumps(document))
    assert Model.load(copied).hash != before
