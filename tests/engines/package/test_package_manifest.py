from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.package.manifest import MANIFEST, PackageManifest, package_path
from reelsight.errors import PackageError


@pytest.fixture
def content(built: Path) -> bytes:
    return (built / MANIFEST).read_bytes()


def test_the_same_manifest_is_the_same_bytes(content: bytes) -> None:
    manifest = PackageManifest.from_bytes(content, "here")
    assert manifest.to_bytes() == content
    assert manifest.refusal is None
    assert manifest.spec.precision == "fp32"
    assert [file.name for file in manifest.files] == ["image.onnx"]


def test_the_path_says_what_a_package_is(content: bytes) -> None:
    manifest = PackageManifest.from_bytes(content, "here")
    version = manifest.spec.backend_version
    sha = manifest.master_sha256[:12]
    assert package_path(manifest) == (
        f"reelsight-mini/{sha}/fp32/onnxruntime-cpu-{version}/cpu-linux-x86_64/b4-8"
    )
    gpu = replace(manifest.target, sm="9.0", gpu="NVIDIA H200")
    other = replace(manifest, target=gpu, options={"level": 5})
    assert "/sm9.0-NVIDIA-H200-linux-x86_64/b4-8-" in other.path
    assert replace(other, options={"level": 4}).path != other.path


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "a/../../b", ""])
def test_no_model_name_leads_out_of_the_registry(content: bytes, name: str) -> None:
    manifest = PackageManifest.from_bytes(content, "here")
    path = replace(manifest, spec=replace(manifest.spec, model=name)).path
    parts = path.split("/")
    assert len(parts) == 6
    assert not any(part in ("", ".", "..") for part in parts)


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d.pop("target"), "target"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["spec"].update(extra=1), "extra"),
        (lambda d: d["spec"].pop("dim"), "dim"),
        (lambda d: d["spec"].update(buckets=[8, 4]), "buckets must be ascending"),
        (lambda d: d["spec"].update(buckets=["4"]), "not a whole number"),
        (lambda d: d["spec"].update(buckets=4), "not a list"),
        (lambda d: d["spec"].update(onnx_sha256="x"), "a hash is no sha256"),
        (lambda d: d["spec"].update(backend=None), "spec.backend is None, not str"),
        (lambda d: d["spec"].update(backend=""), "a name is empty"),
        (lambda d: d["spec"].update(precision="int8"), "plan is not what its precision says"),
        (lambda d: d["spec"].update(model_hash="0" * 64), "gate report is of another engine"),
        (lambda d: d["files"].clear(), "names no files"),
        (lambda d: d["files"].append(d["files"][0]), "files are named twice"),
        (lambda d: d["files"][0].update(bytes=-1), "not a number of bytes"),
        (lambda d: d["files"][0].update(bytes=True), "not a whole number"),
        (lambda d: d["files"][0].update(sha256="0" * 63), "no sha256"),
        (lambda d: d["files"][0].update(name="manifest.json"), "takes the manifest's name"),
        (lambda d: d["gate"].update(passed=False), "passed exactly when"),
        (lambda d: d["gate"].update(passed="yes"), "not bool"),
        (lambda d: d["gate"].update(reasons=["bad"]), "passed exactly when"),
        (lambda d: d.update(gate=[]), "package manifest"),
        (lambda d: d.update(preprocessing="bgr"), "preprocessing is not that of this version"),
        (lambda d: d["inputs"][0].update(dtype="float32"), "not an image tower's"),
        (lambda d: d.update(build_s="soon"), "not a number"),
        (lambda d: d["spec"].update(precision=[]), "spec.precision is []"),
        (lambda d: d.update(benchmark=[1]), "benchmark is [1], not an object"),
        (lambda d: d.update(benchmark={"frames_per_s": 1.0}), "its benchmark is not one"),
        (lambda d: d["gate"].update(worst_labels=[1]), "worst_labels[0] is 1, not an object"),
        (
            lambda d: d["gate"].update(
                needs_higher_precision=[{"label": 1, "margin": 0.1, "share": 0.1}]
            ),
            "label is 1, not str",
        ),
        (lambda d: d["attempts"][0].update(reasons=[1]), "reasons[0] is 1, not str"),
        (lambda d: d["attempts"][0].update(outcome="perhaps"), "not one of"),
        (lambda d: d["gate"].update(decisions=None), "passed with label decisions"),
        (lambda d: d["gate"].update(decisions=0.5), "0.50000, needed"),
        (lambda d: d["gate"].update(centred_cosine=None), "cosine: not measured"),
        (lambda d: d["gate"].update(frames=1), "1 frames, needed 256"),
        (lambda d: d["gate"].update(top1=float("nan")), "NaN is no number"),
        (lambda d: d.update(build_s=10**400), "package manifest"),
    ],
)
def test_what_does_not_fit_is_named(content: bytes, edit: Edit, says: str) -> None:
    document = json.loads(content)
    edit(document)
    with pytest.raises(PackageError) as caught:
        PackageManifest.from_bytes(json.dumps(document).encode(), "this one")
    assert caught.value.code == "package.malformed"
    assert says in caught.value.message
    assert "this one" in caught.value.message


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\\b", "a\0b", "x" * 300]
)
def test_a_file_name_that_leads_out_is_refused(content: bytes, name: Any) -> None:
    document = json.loads(content)
    document["files"][0]["name"] = name
    with pytest.raises(PackageError) as caught:
        PackageManifest.from_bytes(json.dumps(document).encode(), "this one")
    assert caught.value.code == "package.unsafe_name"


def test_another_format_is_named(content: bytes) -> None:
    document = json.loads(content) | {"format": 99}
    with pytest.raises(PackageError, match="has package format 99") as caught:
        PackageManifest.from_bytes(json.dumps(document).encode(), "this one")
    assert caught.value.code == "package.format"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"format": 1}']
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        PackageManifest.from_bytes(text, "this one")
    assert caught.value.code == "package.malformed"
