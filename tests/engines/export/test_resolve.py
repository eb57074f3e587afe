"""Names, weights and model directories: what is written, and what each refusal says."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.export import resolve, weights
from engines.export.resolve import export_model
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

TINY_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY_VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TINY = {"embed_dim": 24, "vision_cfg": TINY_VISION, "text_cfg": TINY_TEXT}


@pytest.fixture(scope="module")
def tiny_directory(open_clip: Any, torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip model directory: config and weights, as push_to_hf_hub writes it."""
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("open_clip_model")
    torch.manual_seed(5)
    model = open_clip.CLIP(**TINY)
    save_file(dict(model.state_dict()), str(directory / "open_clip_model.safetensors"))
    config = {"model_cfg": TINY, "preprocess_cfg": {"resize_mode": "squash"}}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def tiny_architecture(open_clip: Any, tiny_directory: Path, tmp_path_factory: Any) -> str:
    """The same model as a registered architecture."""
    file = tmp_path_factory.mktemp("configs") / "reelsight-test-tiny.json"
    file.write_text(json.dumps(TINY))
    open_clip.add_model_config(file)
    return "reelsight-test-tiny"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub whose port is closed, and an empty cache."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)


def refused(name: str, directory: Path, **kwargs: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        export_model(name, directory / "model", **kwargs)
    assert list(directory.iterdir()) == [], "a refusal leaves nothing behind"
    assert caught.value.hint
    return caught.value


def test_directory_holds_a_whole_model(tiny_directory: Path, tmp_path: Path) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    target = export_model(f"local-dir:{tiny_directory}", tmp_path / "deep" / "model")
    assert target == tmp_path / "deep" / "model"
    assert sorted(p.name for p in target.parent.iterdir()) == ["model"]
    document = json.loads((target / "model.json").read_text())
    assert sorted(p.name for p in target.iterdir()) == [
        "image.onnx", "model.json", "text.onnx", "tokenizer.json",
    ]  # fmt: skip
    for entry in document["files"].values():
        data = (target / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert document["format"] == 1
    assert document["geometry"] == {"size": 32, "mode": "squash"}
    assert (document["dim"], document["context_length"]) == (24, 16)
    assert document["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-4)
    assert (document["logit_bias"], document["default_threshold"]) == (0.0, 0.25)
    words = Tokenizer.from_file(str(target / "tokenizer.json"))
    tokens = np.array([e.ids for e in words.encode_batch(["a cat", "a dog"])], np.int64)
    session = onnxruntime.InferenceSession(str(target / "text.onnx"))
    assert session.run(None, {"tokens": tokens})[0].shape == (2, 24)


def test_existing_directory_is_replaced_whole(tiny_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.onnx").write_text("old")
    export_model(f"local-dir:{tiny_directory}", tmp_path / "model")
    assert not (tmp_path / "model" / "stale.onnx").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_checkpoint_path(tiny_directory: Path, tiny_architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny_directory / "open_clip_model.safetensors"
    by_path = export_model(f"{tiny_architecture}/{checkpoint}", tmp_path / "a")
    by_directory = export_model(f"local-dir:{tiny_directory}", tmp_path / "b")
    assert (by_path / "image.onnx").read_bytes() == (by_directory / "image.onnx").read_bytes()


def test_random_weights_follow_their_seed(tiny_architecture: str, tmp_path: Path) -> None:
    seeds = {}
    for directory, seed in (("a", 0), ("b", 0), ("c", 1)):
        made = export_model(tiny_architecture, tmp_path / directory, random_weights_seed=seed)
        seeds[directory] = (made / "image.onnx").read_bytes()
        assert json.loads((made / "model.json").read_text())["licence"] == "none: random weights"
    assert seeds["a"] == seeds["b"] != seeds["c"]


def test_sigmoid_model_takes_its_own_threshold(open_clip: Any, tmp_path: Path) -> None:
    file = tmp_path / "reelsight-test-sigmoid.json"
    file.write_text(json.dumps({**TINY, "custom_text": True, "init_logit_bias": -10}))
    open_clip.add_model_config(file)
    made = export_model("reelsight-test-sigmoid", tmp_path / "m", random_weights_seed=0)
    document = json.loads((made / "model.json").read_text())
    assert document["logit_bias"] == -10.0
    assert document["default_threshold"] == pytest.approx(0.7, abs=1e-3)


def test_quick_gelu_follows_the_tag(
    open_clip: Any, tiny_directory: Path, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip only warns when a tag's activation is not the architecture's."""
    checkpoint = tiny_directory / "open_clip_model.safetensors"
    monkeypatch.setattr(weights, "fetch", lambda source: checkpoint)
    source = weights.Source("x", tiny_architecture, "openai", None, {"quick_gelu": True})
    model = resolve.load_open_clip(source, None)
    assert any(type(m).__name__ == "QuickGELU" for m in model.modules())


def test_unknown_architecture_names_close_ones(open_clip: Any, tmp_path: Path) -> None:
    error = refused("ViT-B32/laion2b_s34b_b79k", tmp_path)
    assert error.code == "model.unknown_architecture"
    assert "ViT-B32" in error.message
    assert "ViT-B-32" in error.message


def test_unknown_tag_lists_the_tags(open_clip: Any, tmp_path: Path) -> None:
    error = refused("ViT-B-32/laion3b", tmp_path)
    assert error.code == "model.unknown_tag"
    assert "laion2b_s34b_b79k" in error.message
    assert "openai" in error.message


def test_architecture_alone_is_refused(open_clip: Any, tmp_path: Path) -> None:
    error = refused("ViT-B-32", tmp_path)
    assert error.code == "model.weights_unnamed"
    assert "laion2b_s34b_b79k" in error.message


def test_seed_beside_trained_weights_is_refused(open_clip: Any, tmp_path: Path) -> None:
    error = refused("ViT-B-32/openai", tmp_path, random_weights_seed=0)
    assert error.code == "model.weights_ambiguous"


@pytest.mark.parametrize("name", ["ViT-B-32//no/such/file.pt", "local-dir:/no/such/directory"])
def test_missing_checkpoint(name: str, open_clip: Any, tmp_path: Path) -> None:
    error = refused(name, tmp_path)
    assert error.code == "model.checkpoint_missing"
    assert "/no/such/" in error.message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_damaged_checkpoint(
    content: bytes, open_clip: Any, tiny_architecture: str, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(content)
    (tmp_path / "out").mkdir()
    error = refused(f"{tiny_architecture}/{checkpoint}", tmp_path / "out")
    assert error.code == "model.weights_invalid"


def test_checkpoint_of_another_architecture(
    open_clip: Any, tiny_directory: Path, tmp_path: Path
) -> None:
    error = refused(f"RN50/{tiny_directory / 'open_clip_model.safetensors'}", tmp_path)
    assert error.code == "model.weights_invalid"


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("tag", ["laion2b_s34b_b79k", "openai"])
def test_no_network_says_so_within_seconds(tag: str, open_clip: Any, tmp_path: Path) -> None:
    started = time.monotonic()
    error = refused(f"ViT-B-32/{tag}", tmp_path)
    assert time.monotonic() - started < 5
    assert error.code == "model.weights_unreachable"
    assert f"ViT-B-32/{tag}" in error.message
    assert "no network access to the hub" in error.message
    assert "HF_HOME" in error.hint
    assert "//path/to/" in error.hint


@pytest.mark.usefixtures("no_hub")
def test_silent_network_does_not_hang(
    open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(weights, "_PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        started = time.monotonic()
        error = refused("ViT-B-32/laion2b_s34b_b79k", tmp_path)
    assert error.code == "model.weights_unreachable"
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("no_hub")
def test_offline_switch_is_honoured(
    open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert refused("ViT-B-32/openai", tmp_path).code == "model.weights_unreachable"


@pytest.mark.usefixtures("no_hub")
def test_hub_without_the_file(
    open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    try:
        error = refused("ViT-B-32/laion2b_s34b_b79k", tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert error.code == "model.weights_unavailable"


@pytest.mark.usefixtures("no_hub")
def test_cached_weights_need_no_network(open_clip: Any, tmp_path: Path) -> None:
    source = weights.parse("ViT-B-32/laion2b_s34b_b79k")
    repository = source.settings["hf_hub"].rstrip("/").replace("/", "--")
    root = tmp_path / "cache" / f"models--{repository}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    snapshot = root / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"x")
    assert weights.fetch(source) == snapshot / "open_clip_model.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resize_mode": "longest"}, "longest"),
        ({"interpolation": "bilinear"}, "bilinear"),
        ({"size": (224, 112)}, "square"),
    ],
)
def test_geometry_that_we_cannot_feed_is_refused(change: dict[str, Any], says: str) -> None:
    preprocess = {"size": 224, "resize_mode": "shortest", "interpolation": "bicubic", **change}
    with pytest.raises(ModelError, match=says) as caught:
        resolve._geometry("some/model", preprocess)
    assert caught.value.code == "model.geometry_unsupported"


def test_geometry_of_clip() -> None:
    preprocess = {"size": (336, 336), "resize_mode": "shortest", "interpolation": "bicubic"}
    assert resolve._geometry("some/model", preprocess) == Geometry(336, "shortest")


def test_tokenizer_that_needs_the_hub(
    open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**TINY, "text_cfg": {**TINY_TEXT, "hf_tokenizer_name": "no/such-tokenizer"}}
    file = tmp_path / "reelsight-test-hub-words.json"
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "out").mkdir()
    error = refused("reelsight-test-hub-words", tmp_path / "out", random_weights_seed=0)
    assert error.code == "model.tokenizer_unavailable"
