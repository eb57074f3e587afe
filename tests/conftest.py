"""What every test may ask for: real media, one Ray, and a plan that needs no model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan, plan_for
from reelsight.samples.clips import SampleClip, write_samples
from reelsight.settings import Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def videos_dir() -> Path:
    """Directory of real videos."""
    data = Path(os.environ.get("REELSIGHT_TEST_DATA", ROOT / ".." / "shared" / "data"))
    if not (data / "videos").is_dir():
        pytest.skip(f"no real videos at {data / 'videos'}; set REELSIGHT_TEST_DATA")
    return (data / "videos").resolve()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray for the whole test run."""
    from reelsight.rayx.cluster import ray_session

    with ray_session(Settings(), progress=False):
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves, a bank or a model in the user's directories."""
    monkeypatch.setenv("REELSIGHT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    monkeypatch.setenv("REELSIGHT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def fake_settings() -> Settings:
    """Settings of the engine that needs no model."""
    return Settings.load(None, {"engine.backend": "fake"})


@pytest.fixture
def fake_recipe(fake_settings: Settings) -> EngineRecipe:
    return recipe_for(fake_settings)


@pytest.fixture
def fake_plan(fake_settings: Settings, fake_recipe: EngineRecipe) -> TaggingPlan:
    return plan_for(fake_recipe, fake_settings)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[SampleClip]:
    """A dozen clips whose tags are known by construction; the manifest lies beside them."""
    return write_samples(tmp_path_factory.mktemp("samples"), count=12, seed=7)
