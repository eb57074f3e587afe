from __future__ import annotations

import json
import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import reelsight.models
from engines.catalog import find_model, known_models, recipe_for
from reelsight.errors import ModelError
from reelsight.settings import Settings


def test_the_shipped_model_by_name_and_by_directory(tmp_path: Path) -> None:
    by_name = find_model("reelsight-mini", tmp_path)
    copied = shutil.copytree(reelsight.models.MINI, tmp_path / "mine")
    assert find_model(str(copied), tmp_path).hash == by_name.hash


def test_an_exported_model_is_found_in_the_cache(tmp_path: Path) -> None:
    cached = tmp_path / "models" / "ViT-B-32--some_tag"
    named_model(cached, "ViT-B-32/some_tag")
    assert find_model("ViT-B-32/some_tag", tmp_path).directory == cached
    assert [m.directory for m in known_models(tmp_path)] == [reelsight.models.MINI, cached]


def named_model(directory: Path, name: str) -> None:
    shutil.copytree(reelsight.models.MINI, directory)
    document = json.loads((directory / "model.json").read_text()) | {"name": name}
    (directory / "model.json").write_text(json.dumps(document))


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An exporter that copies the shipped model; the names that it was asked for."""
    asked: list[str] = []

    def export(name: str, directory: Path) -> Path:
        asked.append(name)
        directory.rmdir()
        named_model(directory, name)
        return directory

    monkeypatch.setattr("engines.export.resolve.export_model", export)
    return asked


def test_a_checkpoint_that_was_trained_further_is_another_model(
    exported: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "w.pt").write_text(place)
    monkeypatch.chdir(tmp_path / "one")
    first = find_model("timm/resnet50/./w.pt", tmp_path).directory
    assert find_model("timm/resnet50/./w.pt", tmp_path).directory == first
    assert len(exported) == 1
    monkeypatch.chdir(tmp_path / "two")
    second = find_model("timm/resnet50/./w.pt", tmp_path).directory
    (tmp_path / "two" / "w.pt").write_text("trained further")
    third = find_model("timm/resnet50/./w.pt", tmp_path).directory
    assert len({first, second, third}) == len(exported) == 3


def test_a_model_directory_of_open_clip_is_known_by_its_files(
    exported: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    weights = tmp_path / "mine" / "open_clip_model.safetensors"
    name = f"local-dir:{tmp_path / 'mine'}"
    weights.write_text("1")
    first = find_model(name, tmp_path).directory
    weights.write_text("2")
    assert find_model(name, tmp_path).directory != first


def test_two_names_with_one_key_are_two_models(exported: list[str], tmp_path: Path) -> None:
    for name in ("A/b--c", "A--b/c", "A/b--c"):
        assert find_model(name, tmp_path).name == name
    assert exported == ["A/b--c", "A--b/c"]


def test_what_is_being_exported_or_damaged_spoils_no_list(tmp_path: Path) -> None:
    named_model(tmp_path / "models" / ".scratch", "half")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model.json").write_text("{")
    shipped, broken = known_models(tmp_path)
    assert shipped.model is not None
    assert broken.model is None
    assert broken.problem is not None
    assert "malformed" in broken.problem.message


def test_a_recipe_opens_elsewhere_what_it_describes() -> None:
    recipe = recipe_for(Settings.load())
    engine = pickle.loads(pickle.dumps(recipe.open_engine))()
    assert engine.spec == recipe.spec
    assert recipe.open_text().model_hash == recipe.spec.model_hash


def test_the_spec_hash_follows_the_settings() -> None:
    one = recipe_for(Settings.load()).spec.hash
    other = recipe_for(Settings.load(None, {"engine.buckets": [8]})).spec.hash
    assert one != other
    assert one == recipe_for(Settings.load(None, {"engine.threads": 2})).spec.hash


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "/nowhere/at/all"])
def test_an_unknown_name_says_what_names_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither shipped, nor a directory") as caught:
        find_model(name, tmp_path)
    assert caught.value.code == "model.unknown"
    assert "timm/NAME" in caught.value.message


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="the export extra is installed")
def test_an_open_clip_name_without_the_extra_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exporting a model needs it") as caught:
        find_model("ViT-B-32/laion2b_s34b_b79k", tmp_path)
    assert caught.value.code == "model.export_extra_missing"
    assert "reelsight[export]" in caught.value.hint
