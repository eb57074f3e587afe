"""The engine seam: what an engine is, the host that shares it, and the worker behind both doors."""

from reelsight.engine.fake import FakeEngine, FakeTextTower, fake_spec
from reelsight.engine.host import EngineHost, HostStats
from reelsight.engine.protocol import Engine, HostObserver, MarkWriter, TextTower
from reelsight.engine.recipe import EngineRecipe, MarkRecipe
from reelsight.engine.worker import EngineWorker

__all__ = [
    "Engine",
    "EngineHost",
    "EngineRecipe",
    "EngineWorker",
    "FakeEngine",
    "FakeTextTower",
    "HostObserver",
    "HostStats",
    "MarkRecipe",
    "MarkWriter",
    "TextTower",
    "fake_spec",
]
