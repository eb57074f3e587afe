"""From settings to an engine that runs: what a worker of any node does."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.catalog import recipe_for, registry_of
from engines.package.directory import open_package
from engines.package.fetch import PackageRef
from engines.package.manifest import MANIFEST
from engines.package.registry import Listed, Registry
from engines.package.signing import Trust, public_key
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.engine import EngineWorker
from reelsight.errors import ConfigError, EngineError, PackageError
from reelsight.settings import Settings

Resealed = Callable[..., Path]


def settings(key: bytes, **more: Any) -> Settings:
    flags = {
        "engine.precision": "auto",
        "engine.trusted_keys": [public_key(key)],
        "engine.require_signature": True,
    }
    return Settings.load(None, flags | {name.replace("__", "."): v for name, v in more.items()})


@pytest.fixture
def published(built: Path, key: bytes) -> str:
    """Path of the package in the registry of the settings."""
    return registry_of(settings(key)).push(open_package(built, Trust()))


def test_a_package_runs_where_it_is_fetched(
    published: str, key: bytes, pictures: FrameSet, reference: OrtCpuEngine
) -> None:
    recipe = recipe_for(settings(key))
    assert recipe.spec.buckets == (4, 8)
    worker = EngineWorker(pickle.loads(pickle.dumps(recipe.open_engine)), recipe.spec)
    rows = worker.run(pictures.frames[:4])
    worker.close()
    assert np.allclose(rows, reference.run(np.ascontiguousarray(pictures.frames[:4])), atol=1e-5)
    assert recipe.open_text().model_hash == recipe.spec.model_hash


def test_the_default_asks_no_registry(key: bytes) -> None:
    wrong = Settings.load(None, {"engine.registry": "nonsense://x"})
    assert recipe_for(wrong).spec.backend == "onnxruntime-cpu"
    with pytest.raises(PackageError) as caught:
        recipe_for(settings(key, engine__registry="nonsense://x"))
    assert caught.value.code == "package.registry"


def test_with_an_empty_registry_the_master_runs(key: bytes) -> None:
    recipe = recipe_for(settings(key, engine__backend="auto"))
    assert recipe.spec == recipe_for(Settings.load()).spec
    assert recipe.open_engine().spec == recipe.spec


def test_a_precision_without_a_package_says_what_there_is(published: str, key: bytes) -> None:
    with pytest.raises(PackageError, match="int8-fp32 is wanted") as caught:
        recipe_for(settings(key, engine__precision="int8-fp32"))
    assert caught.value.code == "package.none_usable"
    assert published in caught.value.message


def test_signatures_are_required_where_the_settings_say_so(
    built: Path, resealed: Resealed, key: bytes
) -> None:
    unsigned = open_package(resealed(lambda m: m), Trust())
    registry_of(settings(key)).push(unsigned)
    wanted = settings(key, engine__backend="auto")
    assert recipe_for(wanted).spec == recipe_for(Settings.load()).spec
    lax = settings(key, engine__require_signature=False)
    assert recipe_for(lax).spec == unsigned.manifest.spec
    with pytest.raises(ConfigError) as caught:
        recipe_for(settings(key, engine__trusted_keys=[]))
    assert caught.value.code == "config.no_trusted_keys"


def entry(key: bytes) -> Path:
    (found,) = (p for p in settings(key).packages_dir.iterdir() if not p.name.startswith("."))
    return found


def test_a_copy_that_was_damaged_on_this_node_is_fetched_again(
    published: str, built: Path, key: bytes
) -> None:
    recipe = recipe_for(settings(key))
    (entry(key) / "image.onnx").write_bytes(b"damaged")
    assert recipe.open_engine().spec == recipe.spec
    assert (entry(key) / "image.onnx").read_bytes() == (built / "image.onnx").read_bytes()


def test_a_copy_that_was_tampered_with_is_not_opened(
    published: str, resealed: Resealed, key: bytes
) -> None:
    recipe = recipe_for(settings(key))
    other = resealed(lambda m: replace(m, code_version="2"))
    place = entry(key)
    shutil.rmtree(place)
    shutil.copytree(other, place)
    with pytest.raises(PackageError) as caught:
        recipe.open_engine()
    assert caught.value.code == "package.unsigned"


def test_a_package_that_is_damaged_in_the_registry_gives_way_to_the_master(
    published: str, key: bytes
) -> None:
    (stored,) = (Path(settings(key).registry) / published).glob("*-image.onnx")
    stored.write_bytes(stored.read_bytes()[:-1])
    assert recipe_for(settings(key)).spec == recipe_for(Settings.load()).spec
    assert not [p for p in settings(key).packages_dir.iterdir() if p.name != ".locks"]


def test_a_package_that_is_replaced_while_it_is_fetched_is_looked_for_again(
    published: str, built: Path, resealed: Resealed, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = open_package(resealed(lambda m: replace(m, code_version="2"), key), Trust())
    listing = Registry.list

    def replaced_then(self: Registry, below: str = "") -> list[Listed]:
        found = listing(self, below)
        if found[0].manifest_sha256 != newer.manifest_sha256:
            self.push(newer)
        return found

    monkeypatch.setattr(Registry, "list", replaced_then)
    recipe = recipe_for(settings(key))
    ref = recipe.open_engine.args[0]  # type: ignore[attr-defined]
    assert ref.manifest_sha256 == newer.manifest_sha256


def test_why_the_master_runs_is_said(
    published: str, key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (stored,) = (Path(settings(key).registry) / published).glob("*-image.onnx")
    stored.write_bytes(b"damaged")
    recipe_for(settings(key, engine__backend="auto"))
    assert f"{published} is passed over" in caplog.text
    assert "the FP32 master does" in caplog.text


def test_a_reference_shows_no_credentials(tmp_path: Path) -> None:
    ref = PackageRef("s3://k:SECRET@b/p", "a/b", "0" * 64, tmp_path, Trust())
    assert "SECRET" not in repr(ref)


def test_a_package_of_another_machine_is_refused_again_where_it_is_opened(
    published: str, resealed: Resealed, key: bytes
) -> None:
    """The node that opens it need not be the node that chose it."""
    recipe = recipe_for(settings(key))
    ref = recipe.open_engine.args[0]  # type: ignore[attr-defined]
    foreign = resealed(lambda m: replace(m, target=replace(m.target, arch="riscv64")), key)
    shutil.rmtree(entry(key))
    package = open_package(foreign, Trust())
    shutil.copytree(foreign, ref.cache / package.manifest_sha256[:32])
    moved = replace(ref, manifest_sha256=package.manifest_sha256)
    factory = recipe.open_engine.func  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="processor riscv64, here is") as caught:
        factory(moved, recipe.model, threads=1)
    assert caught.value.code == "engine.other_machine"


def test_a_cache_that_cannot_be_written_is_words_and_not_another_engine(
    published: str, key: bytes
) -> None:
    with pytest.raises(PackageError, match="cannot write") as caught:
        recipe_for(settings(key, cache_dir="/proc/nowhere"))
    assert caught.value.code == "package.unwritable"


def test_the_manifest_of_a_copy_is_its_key(published: str, key: bytes) -> None:
    recipe_for(settings(key))
    package = open_package(entry(key), Trust())
    assert package.manifest_sha256.startswith(entry(key).name)
    assert (entry(key) / MANIFEST).is_file()
