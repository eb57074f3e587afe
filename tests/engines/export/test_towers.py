"""Both towers of every family we claim, exported and compared with torch on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.export.openclip import export_image_tower, export_text_tower
from engines.export.parity import FP32_MASTER, Parity, image_parity, text_parity
from engines.gate.measures import centred_cosine
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

TINY_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY_VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Each family keeps what makes its graph its own (activation, pooling, position, head) and shrinks
# the rest, so that the suite runs in minutes on two cores.
FAMILIES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 24, "vision_cfg": TINY_VISION, "text_cfg": TINY_TEXT},
    "quick-gelu": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": TINY_VISION,
        "text_cfg": TINY_TEXT,
    },
    "L-14-336": {
        "embed_dim": 48,
        "vision_cfg": {**TINY_VISION, "image_size": 336, "patch_size": 14, "layers": 3},
        "text_cfg": {**TINY_TEXT, "context_length": 77},
    },
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
        "text_cfg": TINY_TEXT,
    },
    "siglip": {
        "embed_dim": 192,
        "custom_text": True,
        "init_logit_bias": -10.0,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            **TINY_TEXT,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    },
}


def build(open_clip: Any, torch: Any, config: dict[str, Any]) -> Any:
    """A model of random weights, with its position and class embeddings made visible."""
    config = dict(config)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return kind(**config).eval()


def tokens_for(model: Any, n: int = 6) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Random ids, each row ended by the largest id and padded with 0."""
    rng = np.random.default_rng(1)
    out = np.zeros((n, model.context_length), np.int64)
    for row in out:
        length = int(rng.integers(2, model.context_length))
        row[:length] = rng.integers(1, model.vocab_size - 2, length)
        row[length - 1] = model.vocab_size - 1
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_family_agrees_with_torch(family: str, open_clip: Any, torch: Any, tmp_path: Path) -> None:
    model = build(open_clip, torch, FAMILIES[family])
    geometry = Geometry(FAMILIES[family]["vision_cfg"]["image_size"])
    image, text = tmp_path / "image.onnx", tmp_path / "text.onnx"
    export_image_tower(model, image, geometry=geometry, mean=MEAN, std=STD)
    export_text_tower(model, text, context_length=model.context_length)
    image_parity(model, image, geometry=geometry, mean=MEAN, std=STD).check(FP32_MASTER)
    text_parity(model, text, tokens=tokens_for(model)).check(FP32_MASTER)


def test_vit_b_32_agrees_with_torch(open_clip: Any, torch: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained_text=False)
    geometry = Geometry(224, "shortest")
    export_image_tower(model, tmp_path / "i.onnx", geometry=geometry, mean=MEAN, std=STD)
    image_parity(model, tmp_path / "i.onnx", geometry=geometry, mean=MEAN, std=STD).check()
    export_text_tower(model, tmp_path / "t.onnx", context_length=77)
    text_parity(model, tmp_path / "t.onnx", tokens=tokens_for(model)).check()


@pytest.fixture(scope="module")
def tiny(open_clip: Any, torch: Any) -> Any:
    return build(open_clip, torch, FAMILIES["tiny"])


@pytest.fixture(scope="module")
def tiny_image(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "image.onnx"
    export_image_tower(tiny, path, geometry=Geometry(32), mean=MEAN, std=STD)
    return path


def test_image_interface(tiny_image: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tiny_image), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("frames", "tensor(uint8)", ["n", 32, 32, 3])
    assert (made.name, made.type, made.shape) == ("embedding", "tensor(float)", ["n", 24])
    for n in (1, 2, 7):
        (rows,) = session.run(None, {"frames": np.full((n, 32, 32, 3), 9, np.uint8)})
        assert rows.shape == (n, 24)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_graph_is_a_single_reproducible_file_without_paths(
    tiny: Any, tiny_image: Path, tmp_path: Path
) -> None:
    import onnx

    again = tmp_path / "image.onnx"
    export_image_tower(tiny, again, geometry=Geometry(32), mean=MEAN, std=STD)
    assert again.read_bytes() == tiny_image.read_bytes()
    assert [p.name for p in tiny_image.parent.iterdir()] == ["image.onnx"]
    assert b"site-packages" not in again.read_bytes()
    assert b".py" not in again.read_bytes()
    graph = onnx.load(str(again))
    assert {i.version for i in graph.opset_import if i.domain == ""} == {20}
    onnx.checker.check_model(graph, full_check=True)


def test_large_weights_go_beside_the_graph(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.export.openclip._SINGLE_FILE_BYTES", 1)
    path = tmp_path / "image.onnx"
    export_image_tower(tiny, path, geometry=Geometry(32), mean=MEAN, std=STD)
    assert (tmp_path / "image.onnx.data").stat().st_size > path.stat().st_size
    image_parity(tiny, path, geometry=Geometry(32), mean=MEAN, std=STD).check()


def test_training_mode_is_left_as_it_was(tiny: Any, tmp_path: Path) -> None:
    tiny.train()
    tiny.visual.ln_post.eval()
    try:
        export_text_tower(tiny, tmp_path / "text.onnx", context_length=tiny.context_length)
        assert tiny.training
        assert not tiny.visual.ln_post.training
    finally:
        tiny.eval()


def test_parity_catches_a_wrong_mean(tiny: Any, tiny_image: Path) -> None:
    wrong = image_parity(tiny, tiny_image, geometry=Geometry(32), mean=(0.5, 0.5, 0.5), std=STD)
    with pytest.raises(ModelError, match="centred cosine") as caught:
        wrong.check()
    assert caught.value.code == "model.export_parity"


def test_centred_cosine_sees_what_raw_cosine_hides() -> None:
    rng = np.random.default_rng(0)
    mean = np.full((1, 64), 1.0, np.float32)
    reference = mean + 0.02 * rng.normal(size=(8, 64)).astype(np.float32)
    damaged = mean + 0.02 * rng.normal(size=(8, 64)).astype(np.float32)
    raw = np.sum(reference * damaged, 1) / (
        np.linalg.norm(reference, axis=1) * np.linalg.norm(damaged, axis=1)
    )
    assert raw.min() > 0.999
    assert centred_cosine(reference, damaged).max() < 0.6


def test_nan_fails_the_check() -> None:
    with pytest.raises(ModelError):
        Parity(max_abs=0.0, centred_cosine=float("nan"), rows=2).check()


def test_half_precision_is_refused(open_clip: Any, torch: Any, tmp_path: Path) -> None:
    model = build(open_clip, torch, FAMILIES["tiny"]).half()
    with pytest.raises(ModelError, match="float16") as caught:
        export_text_tower(model, tmp_path / "t.onnx", context_length=16)
    assert caught.value.code == "model.precision_unsupported"


def test_tower_that_cannot_be_traced_says_why(open_clip: Any, torch: Any, tmp_path: Path) -> None:
    model = build(open_clip, torch, FAMILIES["siglip"])
    with pytest.raises(ModelError, match="Input height") as caught:
        export_image_tower(model, tmp_path / "i.onnx", geometry=Geometry(64), mean=MEAN, std=STD)
    assert caught.value.code == "model.export_failed"
    assert list(tmp_path.iterdir()) == []


def test_captioning_model_is_refused(open_clip: Any, torch: Any, tmp_path: Path) -> None:
    class CoCa(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        pass

    with pytest.raises(ModelError, match="CoCa") as caught:
        export_text_tower(CoCa(), tmp_path / "t.onnx", context_length=16)
    assert caught.value.code == "model.architecture_unsupported"
