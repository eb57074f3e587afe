"""What every test may ask for: real media, one Ray, and a plan that needs no model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engines.catalog import recipe_for
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan, plan_for
from reelsight.samples.clips import SampleClip, write_samples
from reelsight.settings import Settings

if TYPE_CHECKING:
    from tests.marked_world import MarkedWorld

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

    with ray_session(Settings()):
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves, a bank or a model in the user's directories."""
    monkeypatch.setenv("REELSIGHT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    monkeypatch.setenv("REELSIGHT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis of the test run's own."""
    given = os.environ.get("REELSIGHT_REDIS_SERVER")
    program = Path(given) if given else ROOT / ".redis" / "redis-server"
    if not program.is_file():
        pytest.skip(f"no redis-server at {program}: make .redis/.done")
    # A socket instead of a port: nothing else can have taken it.
    home = tmp_path_factory.mktemp("redis")
    command = [str(program), "--port", "0", "--unixsocket", "r.sock", "--save", ""]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if "ready to accept connections" in line.lower():
                    break
            else:
                pytest.fail(f"{program} ended: {''.join(said)}")
            yield f"unix://{home / 'r.sock'}"
        finally:
            server.terminate()


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


@pytest.fixture(scope="session")
def marked_world(tmp_path_factory: pytest.TempPathFactory) -> MarkedWorld:
    """Copies of a film that were issued, one of which leaked."""
    from tests.marked_world import make_marked_world

    return make_marked_world(tmp_path_factory.mktemp("marked"))
