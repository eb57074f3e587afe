"""The catalogue: from a model's name and a backend to everything needed to run it.

A model is named by `reelsight-mini` (shipped with the package), a directory that holds a
model.json, or `ARCHITECTURE/PRETRAINED` of open_clip, which is exported once into the cache. The
fake backend needs no model, the FP32 master on the CPU no package; every other precision and
backend is a package that the negotiator finds. Nothing is opened here: a recipe's factories do
that, in the process that uses them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import reelsight.models
from engines.runtimes.ort_cpu import OrtCpuEngine, OrtTextTower, ort_cpu_spec
from reelsight.engine.fake import FakeEngine, FakeTextTower, fake_spec
from reelsight.engine.recipe import EngineRecipe
from reelsight.errors import ModelError
from reelsight.nouns.model import Model
from reelsight.settings import Settings

if TYPE_CHECKING:
    from engines.package.registry import Registry

__all__ = [
    "EMBEDDED_MODEL",
    "find_model",
    "known_models",
    "master_recipe",
    "recipe_for",
    "registry_of",
]

EMBEDDED_MODEL = "reelsight-mini"
_FAKE_THRESHOLD = 0.2


def recipe_for(settings: Settings) -> EngineRecipe:
    """Resolve the model and backend of the settings.

    Raises:
        ModelError: The name does not resolve.
        PackageError: No package is usable here, with the reason for each.
    """
    engine = settings.engine
    if engine.backend == "fake":
        spec = fake_spec(buckets=engine.buckets)
        return EngineRecipe(
            spec, partial(FakeEngine, spec), FakeTextTower, 10.0, _FAKE_THRESHOLD, None
        )
    model = find_model(settings.model, settings.cache_dir)
    if (engine.backend, engine.precision) != ("onnxruntime-cpu", "fp32"):
        return _packaged(settings, model)
    return master_recipe(settings, model)


def master_recipe(settings: Settings, model: Model) -> EngineRecipe:
    """The FP32 master on the CPU: what runs without a package, and what packages are gated by."""
    engine = settings.engine
    return EngineRecipe(
        spec=ort_cpu_spec(model, engine.buckets),
        open_engine=partial(OrtCpuEngine, model, buckets=engine.buckets, threads=engine.threads),
        open_text=partial(OrtTextTower, model),
        logit_scale=model.logit_scale,
        default_threshold=model.default_threshold,
        model=model,
    )


def registry_of(settings: Settings) -> Registry:
    """The registry of the settings, read with their trust.

    Raises:
        ConfigError: A trusted key is malformed, or none is and signatures are required.
        PackageError: The location is no registry.
    """
    from engines.package.registry import Registry  # Deferred: only packages need it.
    from engines.package.signing import Trust

    engine = settings.engine
    return Registry(settings.registry, Trust(engine.trusted_keys, engine.require_signature))


def _packaged(settings: Settings, model: Model) -> EngineRecipe:
    from engines.package.fetch import choose_package, fetch_package, open_packaged
    from engines.package.negotiator import Wish

    engine = settings.engine
    wish = Wish(model, engine.precision, engine.backend)
    negotiation, ref = choose_package(wish, registry_of(settings), settings.packages_dir)
    negotiation.require()
    recipe = master_recipe(settings, model)
    if ref is None:
        return recipe
    return replace(
        recipe,
        spec=fetch_package(ref).manifest.spec,
        open_engine=partial(open_packaged, ref, model, threads=engine.threads),
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
