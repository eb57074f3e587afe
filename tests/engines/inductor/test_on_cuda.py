"""Compiled towers and our kernels on a real GPU.

They need no more than torch, ONNX, onnxruntime and safetensors:
`python -m pytest -c /dev/null --rootdir . --confcutdir tests/engines -m gpu` and this file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")

import reelsight.models  # noqa: E402
from engines.backend import BuildRequest, BuildWatch  # noqa: E402
from engines.cuda.torch_device import TorchDevice  # noqa: E402
from engines.inductor.backend import InductorBackend  # noqa: E402
from engines.inductor.epilogue import join_epilogues  # noqa: E402
from engines.inductor.fusion import fused  # noqa: E402
from engines.inductor.graph import read  # noqa: E402
from engines.inductor.program import Program  # noqa: E402
from engines.inductor.runtime import CudaInductorEngine  # noqa: E402
from engines.precision.calibration import calibrate  # noqa: E402
from engines.precision.derive import derive  # noqa: E402
from engines.precision.frameset import FrameSet  # noqa: E402
from engines.precision.plan import plan_named  # noqa: E402
from reelsight.errors import EngineError  # noqa: E402
from reelsight.nouns.engine_spec import Geometry  # noqa: E402
from reelsight.nouns.model import Model  # noqa: E402
from tests.engines.inductor.class_tower import class_tower  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no CUDA"),
]

BUCKETS = (1, 8, 12)
# Least cosine to FP32, less what all frames share. Random weights on noise are the hardest case:
# little but rounding tells their embeddings apart.
LEAST = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.95, "fp8": 0.85}
# Our kernels against torch's on the same device: they sum in another order, take GELU in its tanh
# form, and so round some values to the next step.
LEAST_OF_KERNELS = {"fp16": 0.999, "int8": 0.98, "fp8": 0.95}

Frames = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
# Opens an engine; the model that it is of, and its precision.
Built = tuple[Callable[[], CudaInductorEngine], Model, str]


def frames_of(n: int, size: int, seed: int = 0) -> Frames:
    """Noise of every brightness, so that embeddings differ by more than rounding."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n, size, size, 3)).astype(np.float64)
    return (frames * rng.uniform(0.1, 1.0, (n, 1, 1, 3))).astype(np.uint8)


def cosine(rows: Rows, expected: Rows) -> float:
    """The least cosine of two sets of rows, less the mean of the expected ones."""
    a, b = rows - expected.mean(0), expected - expected.mean(0)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def reference(model: Model, frames: Frames) -> Rows:
    session = ort.InferenceSession(str(model.image), providers=["CPUExecutionProvider"])
    rows: Rows = session.run(None, {"frames": frames})[0]
    return rows


def model_of(path: Path, size: int, dim: int) -> Model:
    """The shipped model's description over another image tower."""
    mini = Model.load(reelsight.models.MINI)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    geometry = Geometry(size, mini.geometry.mode)
    return dataclasses.replace(
        mini, name="tower", geometry=geometry, dim=dim, image=path, sha256=(("image", digest),)
    )


def derived(model: Model, precision: str, scratch: Path) -> Path:
    plan = plan_named(precision)
    ranges = None
    if plan.needs_calibration:
        frames = frames_of(8, model.geometry.size, seed=9)
        ranges = calibrate(model.image, FrameSet(frames), "minmax", scratch)
    return derive(model.image, plan, scratch / f"{precision}.onnx", calibration=ranges).path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    path = tmp_path_factory.mktemp("towers") / "vit.onnx"
    size, dim = class_tower(path, grid=7, width=96, heads=3)
    return {"mini": Model.load(reelsight.models.MINI), "vit": model_of(path, size, dim)}


@pytest.fixture(
    scope="module",
    params=["mini fp32", "mini fp16", "mini int8", "vit fp32", "vit fp16", "vit int8", "vit fp8"],
)
def built(
    request: pytest.FixtureRequest,
    models: dict[str, Model],
    tmp_path_factory: pytest.TempPathFactory,
) -> Built:
    name, precision = request.param.split()
    scratch = tmp_path_factory.mktemp("built")
    model = models[name]
    source = derived(model, precision, scratch)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    wanted = BuildRequest(model, plan_named(precision), source, digest, BUCKETS)
    directory = scratch / "files"
    directory.mkdir()
    backend = InductorBackend()
    made = backend.build(wanted, directory, BuildWatch())
    assert backend.refusal(made.spec, made.target) is None

    def opened() -> CudaInductorEngine:
        engine = backend.open(made.spec, directory, model, threads=2)
        assert isinstance(engine, CudaInductorEngine)
        return engine

    return opened, model, precision


def test_an_engine_answers_as_the_fp32_master_does(
    built: Built,
) -> None:
    """In every bucket, on every slot, in any order of reading, and not after its end."""
    opened, model, precision = built
    size = model.geometry.size
    engine = opened()
    assert engine.usable_buckets == BUCKETS
    engine.warmup()
    frames = frames_of(12, size)
    expected = reference(model, frames)
    whole = engine.run(frames)
    assert cosine(whole, expected) >= LEAST[precision]
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-3)
    assert (
        cosine(
            np.concatenate([engine.run(frames[:8]), *(engine.run(f[None]) for f in frames[8:])]),
            expected,
        )
        >= LEAST[precision]
    )

    batches = [frames_of(bucket, size, seed=bucket) for bucket in BUCKETS]
    alone = [engine.run(batch) for batch in batches]
    for order in itertools.permutations(range(engine.slots)):
        tickets = [engine.submit(batch) for batch in batches]
        for i in order:
            np.testing.assert_array_equal(tickets[i].result(), alone[i])
    engine.close()
    engine.close()
    for call in (engine.warmup, lambda: engine.run(frames), lambda: engine.usable_buckets):
        with pytest.raises(EngineError) as caught:
            call()
        assert caught.value.code == "engine.closed"


def test_a_launch_on_what_lies_on_the_device_is_a_run(
    built: Built,
) -> None:
    opened, model, _ = built
    engine = opened()
    frames = frames_of(8, model.geometry.size, seed=3)
    expected = engine.run(frames)
    lane = next(lane for lane in engine._open_pipeline().lanes if lane.bucket == 8)
    engine.run(frames_of(8, model.geometry.size, seed=4))
    engine.synchronize()
    lane._frames.copy_(torch.from_numpy(frames))
    torch.cuda.synchronize()
    engine.replay(8, 3)
    engine.synchronize()
    np.testing.assert_array_equal(lane._rows.cpu().numpy(), expected)
    engine.close()


@pytest.mark.parametrize(("failures", "usable"), [({1}, (1, 8)), ({2}, (1, 8)), ({1, 2}, (1,))])
def test_a_bucket_is_given_up_when_memory_is_short(
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    failures: set[int],
    usable: tuple[int, ...],
) -> None:
    """The n-th capture fails; buckets are opened from the largest, which makes way."""
    opened, model, precision = built
    real, calls = TorchDevice.capture, itertools.count(1)

    def short(self: TorchDevice, *given: Any) -> Any:
        if next(calls) in failures:
            raise EngineError("out of memory as told", code="engine.out_of_memory")
        return real(self, *given)

    monkeypatch.setattr(TorchDevice, "capture", short)
    engine = opened()
    assert engine.usable_buckets == usable
    frames = frames_of(12, model.geometry.size)
    assert cosine(engine.run(frames), reference(model, frames)) >= LEAST[precision]
    engine.close()


def rows_on_cuda(path: Path, frames: Frames, *, kernels: bool) -> Rows:
    graph = fused(read(path), len(frames))
    join_epilogues(graph)
    program = Program(graph, device="cuda", kernels=kernels).eval()
    with torch.no_grad():
        rows: Rows = program(torch.from_numpy(frames).cuda()).float().cpu().numpy()
    return rows


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (9, 0),
    reason="our kernels read through tensor maps, which came with SM 9.0",
)
@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
# Rows of the GEMMs: 2050, 2080 and 2056, columns 96, 288 and 384: no tile divides them.
@pytest.mark.parametrize(("grid", "batch"), [(7, 41), (8, 32), (16, 8)])
@pytest.mark.parametrize(("width", "heads"), [(96, 3), (128, 2)])
def test_our_kernels_compute_what_torch_does(
    tmp_path: Path, precision: str, grid: int, batch: int, width: int, heads: int
) -> None:
    path = tmp_path / "vit.onnx"
    size, dim = class_tower(path, grid=grid, width=width, heads=heads)
    source = derived(model_of(path, size, dim), precision, tmp_path)
    frames = frames_of(batch, size)
    ours, theirs = (rows_on_cuda(source, frames, kernels=kernels) for kernels in (True, False))
    assert np.isfinite(ours).all()
    assert cosine(ours, theirs) >= LEAST_OF_KERNELS[precision]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_tower_answers_the_same_time_and_again(tmp_path: Path, precision: str) -> None:
    """Two norms that the compiler joins, and tensor maps of every program, raced for a while."""
    path = tmp_path / "vit.onnx"
    size, dim = class_tower(path, grid=14, width=256, heads=4)
    model = model_of(path, size, dim)
    source = derived(model, precision, tmp_path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    directory = tmp_path / "files"
    directory.mkdir()
    backend = InductorBackend()
    wanted = BuildRequest(model, plan_named(precision), source, digest, (128,))
    made = backend.build(wanted, directory, BuildWatch())
    engine = backend.open(made.spec, directory, model, threads=2)
    frames = frames_of(128, size)
    expected = reference(model, frames)
    for _ in range(100):
        assert cosine(engine.run(frames), expected) >= {"bf16": 0.99, "fp16": 0.999}[precision]
    engine.close()
