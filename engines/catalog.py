"""The catalogue: from a model's name and a backend to everything needed to run it.

A model is named by `reelsight-mini` (shipped with the package), a directory that holds a
model.json, or `ARCHITECTURE/PRETRAINED` of open_clip, which is exported once into the cache. The
fake backend needs no model. Nothing is opened here: a recipe's factories do that, in the process
that uses them.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import reelsight.models
from engines.runtimes.ort_cpu import OrtCpuEngine, OrtTextTower, ort_cpu_spec
from reelsight.engine.fake import FakeEngine, FakeTextTower, fake_spec
from reelsight.engine.recipe import EngineRecipe
from reelsight.errors import ModelError
from reelsight.nouns.model import Model
from reelsight.settings import Settings

__all__ = ["EMBEDDED_MODEL", "find_model", "known_models", "recipe_for"]

EMBEDDED_MODEL = "reelsight-mini"
_FAKE_THRESHOLD = 0.2


def recipe_for(settings: Settings) -> EngineRecipe:
    """Resolve the model and backend of the settings.

    Raises:
        ModelError: The name does not resolve.
    """
    engine = settings.engine
    if engine.backend == "fake":
        spec = fake_spec(buckets=engine.buckets)
        return EngineRecipe(
            spec, partial(FakeEngine, spec), FakeTextTower, 10.0, _FAKE_THRESHOLD, None
        )
    model = find_model(settings.model, settings.cache_dir)
    return EngineRecipe(
        spec=ort_cpu_spec(model, engine.buckets),
        open_engine=partial(OrtCpuEngine, model, buckets=engine.buckets, threads=engine.threads),
        open_text=partial(OrtTextTower, model),
        logit_scale=model.logit_scale,
        default_threshold=model.default_threshold,
        model=model,
    )


def find_model(name: str, cache_dir: Path) -> Model:
    """A model by name, exporting it from open_clip when it is not there yet.

    Raises:
        ModelError: Unknown name, missing `export` extra, or weights that cannot be fetched.
    """
    if name == EMBEDDED_MODEL:
        return Model.load(reelsight.models.MINI)
    if (Path(name) / "model.json").is_file():
        return Model.load(Path(name))
    cached = cache_dir / "models" / re.sub(r"[^A-Za-z0-9._-]+", "--", name)
    if (cached / "model.json").is_file():
        return Model.load(cached)
    if "/" not in name or name.startswith((".", "/")):
        raise ModelError(
            f"no model {name!r}: it is neither shipped, nor a directory with a model.json, nor "
            "ARCHITECTURE/PRETRAINED of open_clip",
            code="model.unknown",
        )
    from engines.export.resolve import export_model  # Deferred: torch is an extra.

    return Model.load(export_model(name, cached))


def known_models(cache_dir: Path) -> list[Model]:
    """The shipped model and those exported before."""
    exported = sorted((cache_dir / "models").glob("*/model.json"))
    return [Model.load(reelsight.models.MINI), *(Model.load(path.parent) for path in exported)]
