"""Model directories: both towers or the image tower alone, and what their hashes speak of."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import reelsight.models
from reelsight.errors import ModelError
from reelsight.nouns.model import Model


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may change."""
    return Path(shutil.copytree(reelsight.models.MINI, tmp_path / "model"))


def rewrite(directory: Path, **changes: Any) -> dict[str, Any]:
    """Change model.json; None removes a key."""
    path = directory / "model.json"
    document: dict[str, Any] = json.loads(path.read_text()) | changes
    document = {key: value for key, value in document.items() if value is not None}
    path.write_text(json.dumps(document))
    return document


@pytest.fixture
def image_only(copied: Path) -> Path:
    files = json.loads((copied / "model.json").read_text())["files"]
    rewrite(copied, files={"image": files["image"]}, context_length=None)
    (copied / "text.onnx").unlink()
    (copied / "tokenizer.json").unlink()
    return copied


@pytest.fixture
def with_data(copied: Path) -> Path:
    """A model whose image tower keeps its weights in a second file."""
    (copied / "image.onnx.data").write_bytes(b"weights")
    files = json.loads((copied / "model.json").read_text())["files"]
    digest = hashlib.sha256(b"weights").hexdigest()
    files["image"]["data"] = {"path": "image.onnx.data", "sha256": digest}
    rewrite(copied, files=files)
    return copied


def test_shipped_model_keeps_its_hash() -> None:
    """Banks and rows out there are bound to it."""
    model = Model.load(reelsight.models.MINI)
    assert model.hash == "49da74af7e778b63f7184716056174f0a0d51f1bfaafd157666f64509f8e6c52"
    assert model.text.name == "text.onnx"
    assert model.tokenizer.name == "tokenizer.json"
    model.verify()


def test_image_only_model(image_only: Path) -> None:
    model = Model.load(image_only)
    model.verify()
    model.verify("image")
    assert (model.words, model.context_length) == (None, 0)
    assert model.hash != Model.load(reelsight.models.MINI).hash
    for ask in (lambda: model.text, lambda: model.tokenizer, lambda: model.verify("text")):
        with pytest.raises(ModelError) as caught:
            ask()
        assert caught.value.code == "model.no_text_tower"
        assert "two-tower" in caught.value.hint


def test_text_tower_without_its_tokenizer_is_malformed(copied: Path) -> None:
    files = json.loads((copied / "model.json").read_text())["files"]
    del files["tokenizer"]
    rewrite(copied, files=files)
    with pytest.raises(ModelError, match="tokenizer"):
        Model.load(copied)


@pytest.mark.parametrize("kind", ["image", "text", "tokenizer"])
def test_damage_is_found_where_it_is(kind: str, copied: Path) -> None:
    model = Model.load(copied)
    path = {"image": model.image, "text": model.text, "tokenizer": model.tokenizer}[kind]
    path.write_bytes(path.read_bytes() + b"x")
    for asked in ("image", "text", "tokenizer"):
        if asked != kind:
            model.verify(asked)
    for kinds in ((kind,), ()):
        with pytest.raises(ModelError, match=path.name) as caught:
            model.verify(*kinds)
        assert caught.value.code == "model.damaged"


def test_weights_beside_the_tower_are_verified(with_data: Path) -> None:
    model = Model.load(with_data)
    model.verify()
    (with_data / "image.onnx.data").write_bytes(b"others!")
    model.verify("text", "tokenizer")
    with pytest.raises(ModelError, match=r"image\.onnx\.data") as caught:
        model.verify("image")
    assert caught.value.code == "model.damaged"
    assert model.hash != Model.load(reelsight.models.MINI).hash


def test_missing_weights_beside_the_tower_are_said(with_data: Path) -> None:
    (with_data / "image.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"lacks .*image\.onnx\.data") as caught:
        Model.load(with_data)
    assert caught.value.code == "model.missing"


@pytest.mark.parametrize("key", ["geometry", "files", "dim", "context_length"])
def test_model_json_without_a_field_is_malformed(key: str, copied: Path) -> None:
    rewrite(copied, **{key: None})
    with pytest.raises(ModelError, match="malformed"):
        Model.load(copied)


def test_other_format_is_refused(copied: Path) -> None:
    rewrite(copied, format=2)
    with pytest.raises(ModelError, match="format 2, expected 1"):
        Model.load(copied)
