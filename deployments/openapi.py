"""The OpenAPI document as it is committed: made from the routes, without a model or an engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deployments.api import Wire, make_api
from deployments.banks.live import LiveBanks
from deployments.engine_door import EngineDoor
from deployments.meters import Meters
from deployments.service import Tagger
from reelsight.settings import Settings

__all__ = ["COMMITTED", "openapi_text"]

COMMITTED = Path(__file__).with_name("openapi.json")


def openapi_text() -> str:
    """The document; the same bytes on every machine."""
    nobody: Any = None
    # Routes are described, never asked: nothing stands behind them.
    settings = Settings.model_construct(**{**_defaults(), "data_dir": Path("/nonexistent")})
    banks = cast(LiveBanks, SimpleNamespace(desk=nobody, follower=nobody))
    wire = Wire(nobody, Meters(), nobody)
    api = make_api(cast(Tagger, nobody), cast(EngineDoor, nobody), banks, settings, wire)
    return json.dumps(api.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _defaults() -> dict[str, Any]:
    """Of the settings, whatever this machine's environment says."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
    }
