"""The torch program made of an ONNX file computes what ONNX Runtime computes of it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")

from engines.backend import BuildRequest, BuildWatch  # noqa: E402
from engines.catalog import find_model  # noqa: E402
from engines.export.resolve import export_model  # noqa: E402
from engines.inductor.backend import InductorBackend  # noqa: E402
from engines.inductor.builder import bucket_file  # noqa: E402
from engines.inductor.epilogue import join_epilogues  # noqa: E402
from engines.inductor.fusion import fused  # noqa: E402
from engines.inductor.graph import read  # noqa: E402
from engines.inductor.program import Program  # noqa: E402
from engines.precision.calibration import calibrate  # noqa: E402
from engines.precision.derive import derive  # noqa: E402
from engines.precision.frameset import FrameSet  # noqa: E402
from engines.precision.plan import plan_named  # noqa: E402
from engines.runtimes.ort_cpu import OrtCpuEngine  # noqa: E402
from reelsight.errors import ConfigError, EngineError  # noqa: E402
from reelsight.nouns.model import Model  # noqa: E402

# Two libraries sum in another order; unit embeddings of FP32 towers differ by some 1e-7.
FP32_ABS = 2e-6
Frames = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def mini() -> Model:
    return find_model("reelsight-mini", Path())


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Model:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("the export needs open_clip")
    directory = tmp_path_factory.mktemp("vit") / "model"
    return Model.load(export_model("ViT-B-32", directory, random_weights_seed=1))


def frames_of(n: int, size: int = 224) -> Frames:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def program_of(path: Path, batch: int) -> Program:
    graph = fused(read(path), batch)
    join_epilogues(graph)
    program = Program(graph, device="cpu")
    program.eval()
    return program


def embedded(program: Program, frames: Frames) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        rows: npt.NDArray[np.float32] = program(torch.from_numpy(frames)).numpy()
    return rows


def reference(path: Path, frames: Frames) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = ort.InferenceSession(str(path)).run(None, {"frames": frames})[0]
    return rows


@pytest.mark.parametrize("batch", [1, 3])
def test_a_residual_network_is_the_same(mini: Model, batch: int) -> None:
    frames = frames_of(batch)
    rows = embedded(program_of(mini.image, batch), frames)
    np.testing.assert_allclose(rows, reference(mini.image, frames), atol=FP32_ABS)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_a_classifier_is_the_same(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name.partition("/")[0]) is None:
        pytest.skip("the export needs torchvision and timm")
    model = Model.load(export_model(name, tmp_path / "model", random_weights_seed=1))
    frames = frames_of(3)
    rows = embedded(program_of(model.image, 3), frames)
    np.testing.assert_allclose(rows, reference(model.image, frames), atol=FP32_ABS)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_transformer_is_the_same_and_wholly_fused(vit: Model, batch: int) -> None:
    frames = frames_of(batch)
    program = program_of(vit.image, batch)
    found = Counter(node.op for node in program.nodes)
    assert (found["Attention"], found["TokenAttention"]) == (11, 1)
    assert not {"Softmax", "MatMul", "Gemm", "Gelu"} & found.keys()
    np.testing.assert_allclose(
        embedded(program, frames), reference(vit.image, frames), atol=FP32_ABS
    )


def test_the_last_block_follows_one_token(vit: Model) -> None:
    """Every GEMM after the last block's keys and values sees one row a picture."""
    nodes = program_of(vit.image, 2).nodes
    at = next(i for i, node in enumerate(nodes) if node.op == "TokenAttention")
    rest = [node for node in nodes[at + 1 :] if node.op == "Linear"]
    assert len(rest) == 4  # Out-projection, the two of the MLP, and the tower's projection.


@pytest.mark.parametrize(("name", "least"), [("fp16", 0.999), ("int8", 0.97), ("fp8", 0.85)])
def test_a_derived_file_runs_in_its_precision(
    vit: Model, name: str, least: float, tmp_path: Path
) -> None:
    """Random weights on noise are the hardest case: centred, little but rounding is left."""
    frames = frames_of(8)
    plan = plan_named(name)
    ranges = calibrate(vit.image, FrameSet(frames), "minmax", tmp_path) if plan.quantised else None
    derived = derive(vit.image, plan, tmp_path / "derived.onnx", calibration=ranges)
    program = program_of(derived.path, 8)
    found = Counter(node.op for node in program.nodes)
    assert (found["QuantisedLinear"] > 0) is (plan.quantised is not None)
    assert found["AddNorm"] == 24  # All but the one before the first block and the one behind.
    rows, exact = embedded(program, frames), reference(vit.image, frames)
    rows, exact = rows - exact.mean(0), exact - exact.mean(0)
    cosine = (rows * exact).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() >= least


def test_built_files_open_and_answer_as_onnx_runtime_does(mini: Model, tmp_path: Path) -> None:
    backend = InductorBackend()
    digest = dict(mini.sha256)["image"]
    request = BuildRequest(mini, plan_named("fp32"), mini.image, digest, (1, 2))
    built = backend.build(request, tmp_path, BuildWatch())
    assert sorted(built.files) == sorted(path.name for path in tmp_path.iterdir())
    engine = backend.open(built.spec, tmp_path, mini, threads=1)
    frames = frames_of(2)
    expected = OrtCpuEngine(mini, buckets=(2,)).run(frames)
    np.testing.assert_allclose(engine.run(frames), expected, atol=FP32_ABS)
    for wrong in (frames_of(3), frames[:, :100], frames.astype(np.float32)):
        with pytest.raises(EngineError):
            engine.run(wrong)  # type: ignore[arg-type]
    (tmp_path / bucket_file(1)).write_bytes(b"not a package")
    with pytest.raises(EngineError, match="cannot load"):
        backend.open(built.spec, tmp_path, mini, threads=1)


def test_a_cancelled_build_stops_and_unknown_options_are_refused(
    mini: Model, tmp_path: Path
) -> None:
    digest = dict(mini.sha256)["image"]
    request = BuildRequest(mini, plan_named("fp32"), mini.image, digest, (1,))
    watch = BuildWatch()
    watch.cancel()
    with pytest.raises(EngineError) as caught:
        InductorBackend().build(request, tmp_path, watch)
    assert caught.value.code == "engine.build_cancelled"
    odd = BuildRequest(mini, plan_named("fp32"), mini.image, digest, (1,), {"speed": "high"})
    with pytest.raises(ConfigError, match="speed"):
        InductorBackend().build(odd, tmp_path, BuildWatch())
    other = BuildRequest(mini, plan_named("fp32"), mini.image, "0" * 64, (1,))
    with pytest.raises(EngineError) as caught:
        InductorBackend().build(other, tmp_path, BuildWatch())
    assert caught.value.code == "engine.wrong_onnx"
    assert not list(tmp_path.iterdir())
