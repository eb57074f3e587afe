"""Classifiers of torchvision and timm as image-only models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.export import classifier, weights
from engines.export.resolve import export_model
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.model import Model

SMALL = ("torchvision/resnet18", "timm/resnet10t")


def refused(name: str, directory: Path, **more: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        export_model(name, directory / "model", **more)
    assert list(directory.iterdir()) == [], "a refusal leaves nothing behind"
    assert caught.value.hint
    return caught.value


def embed(path: Path, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows: np.ndarray[Any, Any] = session.run(["embedding"], {"frames": frames})[0]
    return rows


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_resnet50_is_a_model_without_words(library: str, open_clip: Any, tmp_path: Path) -> None:
    name = f"{library}/resnet50"
    made = export_model(name, tmp_path / "model", random_weights_seed=0)
    assert sorted(p.name for p in made.iterdir()) == ["image.onnx", "model.json"]
    model = Model.load(made)
    model.verify()
    assert (model.name, model.dim) == (f"{name}/random-seed-0", 2048)
    assert (model.geometry, model.words) == (Geometry(224, "shortest"), None)
    rows = embed(model.image, np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8))
    assert rows.shape == (3, 2048)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_random_weights_follow_their_seed(name: str, open_clip: Any, tmp_path: Path) -> None:
    files = [
        export_model(name, tmp_path / str(turn), random_weights_seed=seed) / "image.onnx"
        for turn, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoint_is_what_is_exported(
    suffix: str, open_clip: Any, torch: Any, tmp_path: Path
) -> None:
    """Embeddings are the library's own pooled features of the checkpoint's weights."""
    import torchvision
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = torchvision.models.resnet18(weights=None).eval()
    checkpoint = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), checkpoint)
    else:
        save_file(model.state_dict(), str(checkpoint))
    made = export_model(f"torchvision/resnet18/{checkpoint}", tmp_path / "model")
    frames = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    model.fc = torch.nn.Identity()
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = (torch.from_numpy(frames) / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        features = model(pixels.permute(0, 3, 1, 2).float()).numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.abs(embed(made / "image.onnx", frames) - expected).max() < 1e-4
    document = json.loads((made / "model.json").read_text())
    assert document["name"] == f"torchvision/resnet18/{checkpoint}"


def test_damaged_or_foreign_checkpoint_is_refused(
    open_clip: Any, torch: Any, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    for content in (b"", b"no checkpoint"):
        (tmp_path / "weights.pth").write_bytes(content)
        error = refused(f"torchvision/resnet18/{tmp_path / 'weights.pth'}", tmp_path / "out")
        assert error.code == "model.weights_invalid"
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "weights.pth")
    error = refused(f"timm/resnet10t/{tmp_path / 'weights.pth'}", tmp_path / "out")
    assert error.code == "model.weights_invalid"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("timm/resnet5", "model.unknown_architecture", "resnet50"),
        ("torchvision/vgg16", "model.unknown_architecture", "vgg16"),
        ("timm/resnetv2_50", "model.unknown_architecture", "resnetv2_50"),
        ("timm/resnet50/no_tag", "model.unknown_tag", "a1_in1k"),
        ("torchvision/resnet50/V9", "model.unknown_tag", "IMAGENET1K_V2"),
        ("torchvision/resnet50//no/such.pth", "model.checkpoint_missing", "/no/such.pth"),
        ("torchvision/resnet50", "model.weights_unnamed", "IMAGENET1K_V2"),
        ("timm/resnet50", "model.weights_unnamed", "a1_in1k"),
    ],
)
def test_names_that_do_not_resolve(
    name: str, code: str, says: str, open_clip: Any, tmp_path: Path
) -> None:
    error = refused(name, tmp_path)
    assert error.code == code
    assert says in error.message


def test_seed_beside_trained_weights_is_refused(open_clip: Any, tmp_path: Path) -> None:
    error = refused("timm/resnet50/a1_in1k", tmp_path, random_weights_seed=0)
    assert error.code == "model.weights_ambiguous"


@pytest.mark.parametrize("name", ["timm/resnet50/a1_in1k", "torchvision/resnet50/IMAGENET1K_V2"])
def test_tags_are_fetched_where_the_library_keeps_them(
    name: str, open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_cached", lambda settings: iter(()))
    asked: list[str] = []

    def no_answer(url: str) -> bool:
        asked.append(url)
        return False

    monkeypatch.setattr(weights, "_answers", no_answer)
    assert refused(name, tmp_path).code == "model.weights_unreachable"
    assert len(asked) == 1
    assert asked[0].startswith("https://")
    settings = classifier.parse(name).settings
    assert settings.get("hf_hub", settings.get("url", "")).endswith(
        ("timm/resnet50.a1_in1k/model.safetensors", "/resnet50-11ad3fa6.pth")
    )


@pytest.mark.parametrize("name", ["timm/resnet50_clip", "timm/resnet32ts"])
def test_an_architecture_whose_head_is_another_layer_is_refused(
    name: str, open_clip: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        classifier.export_classifier(name, tmp_path / "m", random_weights_seed=0)
    assert caught.value.code == "model.architecture_unsupported"
    assert not (tmp_path / "m").exists()
