"""Registries on disk and behind a real S3 protocol, in one suite."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import fs

from engines.package.directory import describe_files, open_package, seal
from engines.package.manifest import MANIFEST, PackageManifest
from engines.package.registry import Registry
from engines.package.signing import Trust, generate_key, public_key
from reelsight.errors import PackageError

Resealed = Callable[..., Path]
# Its dependencies and Ray's exclude each other: it has an environment of its own.
MOTO_SERVER = Path(__file__).parents[3] / ".venv-s3" / "bin" / "moto_server"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An empty bucket on a server that speaks S3; its uri."""
    program = Path(os.environ.get("REELSIGHT_MOTO_SERVER", MOTO_SERVER))
    if not program.is_file():
        pytest.skip(f"no S3 server at {program}: make {MOTO_SERVER.parents[1].name}/.done")
    # Port 0 is a free one of the system's choice, which the server says once it listens.
    command = [str(program), "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"http://([\d.]+:\d+)", line):
                break
        else:
            pytest.fail(f"{program} ended: {''.join(said)}")
        # It logs every request, and would stand still once nobody reads that.
        log = threading.Thread(target=server.stderr.read)
        log.start()
        try:
            query = f"scheme=http&endpoint_override={found[1]}&region=us-east-1"
            uri = f"s3://k:s@packages/?{query}&allow_bucket_creation=true"
            fs.FileSystem.from_uri(uri)[0].create_dir("packages")
            yield f"s3://k:s@packages/PREFIX?{query}"
        finally:
            server.terminate()
            log.join()


@pytest.fixture(params=["disk", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "registry")
    uri: str = request.getfixturevalue("s3")
    return uri.replace("PREFIX", tmp_path.name)


@pytest.fixture
def registry(location: str, key: bytes) -> Registry:
    return Registry(location, Trust((public_key(key),)))


def test_an_empty_registry_lists_nothing(registry: Registry) -> None:
    assert registry.list() == []
    with pytest.raises(PackageError) as caught:
        registry.find("a/b")
    assert caught.value.code == "package.missing"


def test_what_was_pushed_is_listed_and_comes_back(
    registry: Registry, built: Path, key: bytes, tmp_path: Path
) -> None:
    package = open_package(built, Trust())
    path = registry.push(package)
    assert path == package.manifest.path
    (listed,) = registry.list()
    assert (listed.path, listed.manifest) == (path, package.manifest)
    assert (listed.manifest_sha256, listed.signed_by) == (package.manifest_sha256, public_key(key))
    assert registry.list("reelsight-mini") == [listed]
    assert registry.list("another-model") == []
    copy = tmp_path / "copy"
    copy.mkdir()
    pulled = registry.download(registry.find(path), copy)
    assert pulled.signed_by == public_key(key)
    for name in ("image.onnx", "manifest.json", "manifest.sig"):
        assert (copy / name).read_bytes() == (built / name).read_bytes()


def test_a_package_whose_upload_broke_off_is_not_there(
    registry: Registry, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = open_package(built, Trust())
    upload, seen = Registry._upload, []

    def break_off(self: Registry, source: Path, path: str) -> None:
        seen.append((source.name, len(self.list())))
        if source.name == MANIFEST:
            raise OSError("the network is gone")
        upload(self, source, path)

    monkeypatch.setattr(Registry, "_upload", break_off)
    with pytest.raises(PackageError, match="the network is gone") as caught:
        registry.push(package)
    assert caught.value.code == "package.unwritable"
    assert seen == [("image.onnx", 0), ("manifest.sig", 0), (MANIFEST, 0)]
    assert registry.list() == []
    monkeypatch.undo()
    registry.push(package)
    assert len(registry.list()) == 1


def test_two_who_publish_at_a_time_do_not_mix(
    registry: Registry,
    built: Path,
    resealed: Resealed,
    key: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One whole push falls between the files and the manifest of another, of other bytes."""
    first = open_package(built, Trust())
    copy = resealed(lambda m: m, name="other")
    content = (copy / "image.onnx").read_bytes() + b"other bytes"
    (copy / "image.onnx").write_bytes(content)
    for name in (MANIFEST, "manifest.sig"):
        (copy / name).unlink(missing_ok=True)
    changed = replace(first.manifest, files=describe_files(copy, ("image.onnx",)))
    second = seal(copy, changed, key)
    upload = Registry._upload
    pushed: list[str] = []

    def interleave(self: Registry, source: Path, path: str) -> None:
        if source == built / MANIFEST and not pushed:
            pushed.append(registry.push(second))
        upload(self, source, path)

    monkeypatch.setattr(Registry, "_upload", interleave)
    path = registry.push(first)
    assert pushed == [path]
    (tmp_path / "copy").mkdir()
    found = registry.download(registry.find(path), tmp_path / "copy")
    assert found.manifest_sha256 == first.manifest_sha256
    assert found.signed_by == public_key(key)


def test_what_is_withdrawn_is_in_no_list(
    registry: Registry, built: Path, resealed: Resealed
) -> None:
    package = open_package(built, Trust())
    path = registry.push(package)
    assert not registry.withdraw(path, "0" * 64), "another version is left alone"
    assert len(registry.list()) == 1
    assert registry.withdraw(path, package.manifest_sha256)
    assert registry.list() == []
    assert not registry.withdraw(path, package.manifest_sha256)


def test_a_package_that_goes_while_it_is_listed_is_not_listed(
    registry: Registry, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the registry was looked at, and gone when its manifest was opened."""
    package = open_package(built, Trust())
    path = registry.push(package)
    at, asked = Registry._at, []

    def vanish(self: Registry, name: str) -> str:
        if name == f"{path}/{MANIFEST}":
            asked.append(name)
            if len(asked) == 2:
                registry._fs.delete_file(at(self, name))
        return at(self, name)

    monkeypatch.setattr(Registry, "_at", vanish)
    assert registry.list() == []
    assert len(asked) == 2


def test_a_node_whose_disk_is_full_does_not_blame_the_registry(
    registry: Registry, built: Path, tmp_path: Path
) -> None:
    path = registry.push(open_package(built, Trust()))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "image.onnx").symlink_to("/dev/full")
    with pytest.raises(PackageError) as caught:
        registry.download(registry.find(path), tmp_path / "copy")
    assert caught.value.code == "package.unwritable"


def stored(built: Path) -> str:
    """The name of the package's one file in a registry."""
    (file,) = open_package(built, Trust()).manifest.files
    return f"{file.sha256[:32]}-{file.name}"


def test_an_unsigned_package_does_not_keep_the_signature_of_its_predecessor(
    registry: Registry, built: Path, resealed: Resealed
) -> None:
    registry.push(open_package(built, Trust()))
    registry.push(open_package(resealed(lambda m: replace(m, code_version="2")), Trust()))
    (listed,) = registry.list()
    assert listed.problem is None
    assert listed.signed_by is None


def overwrite(registry: Registry, path: str, content: bytes) -> None:
    registry._fs.create_dir(registry._at(path).rpartition("/")[0], recursive=True)
    with registry._fs.open_output_stream(registry._at(path)) as stream:
        stream.write(content)


@pytest.mark.parametrize("content", [b"", b"changed", None])
def test_a_damaged_file_is_found_when_it_comes_back(
    registry: Registry, built: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = registry.push(open_package(built, Trust()))
    whole = (built / "image.onnx").read_bytes()
    longer = whole + b"x"
    overwrite(registry, f"{path}/{stored(built)}", longer if content is None else content)
    with pytest.raises(PackageError) as caught:
        registry.download(registry.find(path), tmp_path)
    assert caught.value.code == "package.damaged"


def test_a_missing_file_is_found_when_it_comes_back(
    registry: Registry, built: Path, tmp_path: Path
) -> None:
    path = registry.push(open_package(built, Trust()))
    registry._fs.delete_file(registry._at(f"{path}/{stored(built)}"))
    with pytest.raises(PackageError) as caught:
        registry.download(registry.find(path), tmp_path)
    assert caught.value.code == "package.damaged"


def test_a_package_that_was_replaced_meanwhile_is_not_mixed(
    registry: Registry, built: Path, resealed: Resealed, tmp_path: Path
) -> None:
    path = registry.push(open_package(built, Trust()))
    seen = registry.find(path)
    registry.push(open_package(resealed(lambda m: replace(m, code_version="2")), Trust()))
    with pytest.raises(PackageError) as caught:
        registry.download(seen, tmp_path)
    assert caught.value.code == "package.replaced"


def test_a_damaged_manifest_is_a_line_of_the_list(registry: Registry, built: Path) -> None:
    path = registry.push(open_package(built, Trust()))
    content = (built / MANIFEST).read_bytes()
    overwrite(registry, "other/place/manifest.json", content[:-1])
    changed = content.replace(b'"dim":128', b'"dim":129')
    signature = f"{hashlib.sha256(changed).hexdigest()[:32]}-manifest.sig"
    overwrite(registry, f"{path}x/manifest.json", changed)
    overwrite(registry, f"{path}x/{signature}", (built / "manifest.sig").read_bytes())
    problems = {item.path: item.problem and item.problem.code for item in registry.list()}
    assert problems == {
        path: None,
        f"{path}x": "package.bad_signature",
        "other/place": "package.malformed",
    }
    with pytest.raises(PackageError) as caught:
        registry.find("other/place")
    assert caught.value.code == "package.malformed"


def test_a_registry_that_requires_signatures(
    location: str, resealed: Resealed, key: bytes, tmp_path: Path
) -> None:
    unsigned = open_package(resealed(lambda m: m), Trust())
    strict = Registry(location, Trust((public_key(key),), required=True))
    path = strict.push(unsigned)
    (listed,) = strict.list()
    assert listed.problem is not None
    assert listed.problem.code == "package.unsigned"
    seen = Registry(location, Trust()).find(path)
    with pytest.raises(PackageError) as caught:
        strict.download(seen, tmp_path / "x")
    assert caught.value.code == "package.unsigned"
    foreign = Registry(location, Trust((public_key(generate_key()),)))
    strict.push(open_package(resealed(lambda m: m, key, name="signed"), Trust()))
    assert strict.find(path).signed_by == public_key(key)
    with pytest.raises(PackageError) as caught:
        foreign.find(path)
    assert caught.value.code == "package.bad_signature"


def ungated(manifest: PackageManifest) -> PackageManifest:
    return replace(manifest, gate=None)


def failed(manifest: PackageManifest) -> PackageManifest:
    assert manifest.gate is not None
    return replace(manifest, gate=replace(manifest.gate, passed=False, reasons=("bad",)))


def test_what_the_gate_did_not_pass_is_not_published(
    registry: Registry, resealed: Resealed
) -> None:
    with pytest.raises(PackageError, match="never put through the gate") as caught:
        registry.push(open_package(resealed(ungated, name="ungated"), Trust()))
    assert caught.value.code == "package.ungated"
    stopped = open_package(resealed(failed, name="failed"), Trust())
    for asked in (False, True):
        with pytest.raises(PackageError, match="the gate stopped it: bad") as caught:
            registry.push(stopped, ungated=asked)
        assert caught.value.code == "package.gate_failed"
    assert registry.list() == []


def test_a_package_that_changed_since_it_was_opened_is_not_published(
    registry: Registry, package: Path
) -> None:
    opened = open_package(package, Trust())
    (package / "image.onnx").write_bytes(b"other")
    with pytest.raises(PackageError) as caught:
        registry.push(opened)
    assert caught.value.code == "package.damaged"
    assert registry.list() == []


@pytest.mark.parametrize("path", ["../x", "/../../etc", "a//b", "a/./b", ""])
def test_a_path_that_leads_out_is_no_package(registry: Registry, path: str) -> None:
    with pytest.raises(PackageError) as caught:
        registry.find(path)
    assert caught.value.code == "package.missing"


def test_places_that_cannot_be_written_or_read(built: Path, s3: str, tmp_path: Path) -> None:
    package = open_package(built, Trust())
    with pytest.raises(PackageError) as caught:
        Registry("/proc/nowhere/registry", Trust()).push(package)
    assert caught.value.code == "package.unwritable"
    with pytest.raises(PackageError) as caught:
        Registry("nonsense://x", Trust())
    assert caught.value.code == "package.registry"
    no_bucket = s3.replace("@packages/", "@no-such-bucket/")
    with pytest.raises(PackageError) as caught:
        Registry(no_bucket, Trust()).push(package)
    assert caught.value.code == "package.unwritable"
    assert "k:s@" not in caught.value.message
    file = tmp_path / "file"
    file.write_text("a file where the registry should be")
    with pytest.raises(PackageError) as caught:
        Registry(str(file), Trust()).push(package)
    assert caught.value.code == "package.unwritable"


def test_a_server_that_is_not_there_is_words() -> None:
    gone = "s3://k:s@b/p?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    with pytest.raises(PackageError) as caught:
        Registry(gone, Trust()).list()
    assert caught.value.code == "package.registry"
