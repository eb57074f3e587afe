"""The catalogue: from a model's name and a backend to everything needed to run it.

A model is named by `reelsight-mini` (shipped with the package), a directory that holds a
model.json, or as `engines.export` names it, and then it is exported once into the cache. The
fake backend needs no model, the FP32 master on the CPU no package; every other precision and
backend is a package that the negotiator finds. Nothing is opened here: a recipe's factories do
that, in the process that uses them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import reelsight.models
from engines.runtimes.ort_cpu import OrtCpuEngine, OrtTextTower, ort_cpu_spec
from reelsight.digest import file_sha256
from reelsight.engine.fake import FakeEngine, FakeTextTower, fake_spec
from reelsight.engine.recipe import EngineRecipe
from reelsight.errors import ModelError
from reelsight.nouns.model import Model
from reelsight.settings import Settings

if TYPE_CHECKING:
    from engines.package.registry import Registry

__all__ = [
    "EMBEDDED_MODEL",
    "KnownModel",
    "find_model",
    "known_models",
    "master_recipe",
    "recipe_for",
    "registry_of",
]

EMBEDDED_MODEL = "reelsight-mini"
_FAKE_THRESHOLD = 0.2
_LIBRARIES = ("torchvision/", "timm/")
_log = logging.getLogger(__name__)


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
    from engines.package.fetch import choose_package, open_packaged
    from engines.package.negotiator import Wish

    engine = settings.engine
    wish = Wish(model, engine.precision, engine.backend)
    negotiation, ref = choose_package(wish, registry_of(settings), settings.packages_dir)
    choice = negotiation.require()
    recipe = master_recipe(settings, model)
    if ref is None or choice.listed is None:
        refused = [v for v in negotiation.verdicts if v.listed is not None]
        words = "; ".join(f"{v.path}: {v.reason}" for v in refused) or "the registry has none"
        _log.warning("no engine package runs %s here, the FP32 master does: %s", model.name, words)
        return recipe
    return replace(
        recipe,
        spec=choice.listed.require().spec,
        open_engine=partial(open_packaged, ref, model, threads=engine.threads),
    )


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model directory that is here.

    Attributes:
        directory: Where.
        model: What it holds; None when it cannot be used.
        problem: Why not; None when it can.
    """

    directory: Path
    model: Model | None
    problem: ModelError | None = None


def find_model(name: str, cache_dir: Path) -> Model:
    """A model by name, exporting it when it is not there yet.

    A name with a local checkpoint in it stands for that file's content: another file under the same
    name is another model.

    Raises:
        ModelError: Unknown name, missing `export` extra, or weights that cannot be fetched.
        PackageError: `package.unwritable`: the cache cannot be written.
    """
    if name == EMBEDDED_MODEL:
        return Model.load(reelsight.models.MINI)
    if (Path(name) / "model.json").is_file():
        return Model.load(Path(name))
    local = name.startswith("local-dir:")
    if not local and ("/" not in name or name.startswith((".", "/"))):
        raise ModelError(
            f"no model {name!r}: it is neither shipped, nor a directory with a model.json, nor "
            "ARCHITECTURE/PRETRAINED of open_clip, torchvision/NAME/TAG or timm/NAME/TAG",
            code="model.unknown",
        )
    from engines.package.node_cache import NodeCache

    def export(scratch: Path) -> None:
        from engines.export.resolve import export_model  # Deferred: torch is an extra.

        export_model(name, scratch)

    cache = NodeCache(cache_dir / "models")
    found = Model.load(cache.obtain(_key(name), export))
    if found.name != name and not _local_weights(name):
        # Another name with the same key.
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        found = Model.load(cache.obtain(f"{_key(name)}-{digest}", export))
    return found


def known_models(cache_dir: Path) -> list[KnownModel]:
    """The shipped model and those exported before; one that cannot be used says why."""
    exported = sorted((cache_dir / "models").glob("[!.]*/model.json"))
    return [_known(path) for path in (reelsight.models.MINI, *(p.parent for p in exported))]


def _known(directory: Path) -> KnownModel:
    try:
        return KnownModel(directory, Model.load(directory))
    except ModelError as error:
        return KnownModel(directory, None, error)


def _key(name: str) -> str:
    """Where a name's model is kept: the name, and what its local weights are."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "--", name)[:80].lstrip("._-") or "model"
    files = _local_weights(name)
    if not files:
        return slug
    content = "\n".join(f"{file.resolve()} {file_sha256(file)}" for file in files)
    return f"{slug}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _local_weights(name: str) -> list[Path]:
    """Files of this machine that a model's name stands for; none for what is fetched by its tag."""
    if name.startswith("local-dir:"):
        directory = Path(name.removeprefix("local-dir:"))
        return sorted(path for path in directory.glob("*") if path.is_file())
    parts = name.split("/", 2 if name.startswith(_LIBRARIES) else 1)
    rest = parts[-1]
    if len(parts) < 2 or not rest.startswith(("/", "./", "../", "~")):
        return []
    path = Path(rest).expanduser()
    return [path] if path.is_file() else []
