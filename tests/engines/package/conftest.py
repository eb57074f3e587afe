"""One real package, built and gated once; tests copy it and change the copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import reelsight.models
from engines.gate.ladder import BuildOrder, build_gated
from engines.gate.thresholds import MIN_FRAMES
from engines.package.directory import seal
from engines.package.manifest import MANIFEST, SIGNATURE, PackageManifest
from engines.package.signing import generate_key
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_backend import OrtBackend
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.labels import BANK_SUFFIX, load_bank
from reelsight.nouns.model import Model

# As many as the gate's own limits ask for: the negotiator takes no laxer report.
FRAMES = MIN_FRAMES
Change = Callable[[PackageManifest], PackageManifest]


@pytest.fixture(scope="session")
def model() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture(scope="session")
def key() -> bytes:
    return generate_key()


@pytest.fixture(scope="session")
def pictures() -> FrameSet:
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (FRAMES, 8, 8, 3), dtype=np.uint8)
    return FrameSet(coarse.repeat(28, axis=1).repeat(28, axis=2))


@pytest.fixture(scope="session")
def reference(model: Model) -> Iterator[OrtCpuEngine]:
    engine = OrtCpuEngine(model, buckets=(4, 8))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def built(
    model: Model,
    pictures: FrameSet,
    key: bytes,
    reference: OrtCpuEngine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A signed FP32 package that passed the gate; read-only by custom."""
    directory = tmp_path_factory.mktemp("built")
    order = BuildOrder(
        model=model,
        precision="fp32",
        backend=OrtBackend("onnxruntime-cpu"),
        buckets=(4, 8),
        frames=pictures,
        bank=load_bank(model.directory / f"labels{BANK_SUFFIX}"),
    )
    build_gated(order, reference, directory, signing_key=key)
    return directory


@pytest.fixture
def package(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "package"))


@pytest.fixture
def resealed(built: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy whose manifest is changed and, when a key is given, signed."""

    def make(change: Change, signing_key: bytes | None = None, name: str = "resealed") -> Path:
        copy = Path(shutil.copytree(built, tmp_path / name))
        manifest = PackageManifest.from_bytes((copy / MANIFEST).read_bytes(), name)
        (copy / MANIFEST).unlink()
        (copy / SIGNATURE).unlink()
        seal(copy, change(manifest), signing_key)
        return copy

    return make
