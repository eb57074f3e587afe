from __future__ import annotations

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
    shutil.copytree(reelsight.models.MINI, cached)
    assert find_model("ViT-B-32/some_tag", tmp_path).directory == cached
    assert [m.directory for m in known_models(tmp_path)] == [reelsight.models.MINI, cached]


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


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="the export extra is installed")
def test_an_open_clip_name_without_the_extra_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exporting a model needs it") as caught:
        find_model("ViT-B-32/laion2b_s34b_b79k", tmp_path)
    assert caught.value.code == "model.export_extra_missing"
    assert "reelsight[export]" in caught.value.hint
