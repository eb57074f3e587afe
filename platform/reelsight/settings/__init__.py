"""The settings: one module a group, and the tree that they hang on.

Nested names use two underscores in the environment: REELSIGHT_MEDIA__SAMPLING__RATE=2. Nothing
else in the project reads the environment.
"""

from reelsight.settings.engine import CriticalEngine, EngineSettings
from reelsight.settings.jobs import JobSettings
from reelsight.settings.media import MediaSettings
from reelsight.settings.offline import RaySettings
from reelsight.settings.routes import (
    EmbeddingSettings,
    FetchSettings,
    InferenceSettings,
    LiveBankSettings,
)
from reelsight.settings.serve import ServeSettings
from reelsight.settings.tree import Settings

__all__ = [
    "CriticalEngine",
    "EmbeddingSettings",
    "EngineSettings",
    "FetchSettings",
    "InferenceSettings",
    "JobSettings",
    "LiveBankSettings",
    "MediaSettings",
    "RaySettings",
    "ServeSettings",
    "Settings",
]
