"""Packages on disk that are not what their manifests say."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engines.package.directory import describe_files, open_package, seal
from engines.package.manifest import MANIFEST, SIGNATURE, PackageManifest
from engines.package.signing import Trust, public_key
from reelsight.errors import PackageError

FILE = "image.onnx"


def test_a_whole_package_opens(built: Path, key: bytes) -> None:
    package = open_package(built, Trust((public_key(key),), required=True))
    assert package.signed_by == public_key(key)
    content = (built / MANIFEST).read_bytes()
    assert package.manifest_sha256 == hashlib.sha256(content).hexdigest()


def flip(path: Path) -> None:
    content = bytearray((path / FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (path / FILE).write_bytes(content)


def link(path: Path) -> None:
    moved = path.parent / "elsewhere"
    (path / FILE).rename(moved)
    (path / FILE).symlink_to(moved)


def directory_instead(path: Path) -> None:
    (path / FILE).unlink()
    (path / FILE).mkdir()


def pipe(path: Path) -> None:
    (path / FILE).unlink()
    os.mkfifo(path / FILE)


def linked_manifest(path: Path) -> None:
    (path / MANIFEST).rename(path.parent / "m")
    (path / MANIFEST).symlink_to(path.parent / "m")


def linked_signature(path: Path) -> None:
    (path / SIGNATURE).rename(path.parent / "s")
    (path / SIGNATURE).symlink_to(path.parent / "s")


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        link,
        directory_instead,
        pipe,
        linked_manifest,
        linked_signature,
        lambda path: os.truncate(path / FILE, 1000),
        lambda path: os.truncate(path / FILE, 0),
        lambda path: (path / FILE).unlink(),
        lambda path: (path / "extra.bin").write_bytes(b"x"),
        lambda path: (path / "directory").mkdir(),
    ],
)
def test_damage_is_found_before_anything_is_opened(
    package: Path, damage: Callable[[Path], object]
) -> None:
    damage(package)
    with pytest.raises(PackageError) as caught:
        open_package(package, Trust())
    assert caught.value.code == "package.damaged"


def test_a_tampered_manifest_whose_hashes_fit_is_stopped_by_its_signature(
    package: Path, key: bytes
) -> None:
    (package / FILE).write_bytes(b"something else to run")
    document = json.loads((package / MANIFEST).read_bytes())
    content = (package / FILE).read_bytes()
    document["files"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (package / MANIFEST).write_text(json.dumps(document))
    assert open_package(package, Trust()).signed_by is None
    with pytest.raises(PackageError) as caught:
        open_package(package, Trust((public_key(key),)))
    assert caught.value.code == "package.bad_signature"
    (package / SIGNATURE).unlink()
    with pytest.raises(PackageError) as caught:
        open_package(package, Trust((public_key(key),), required=True))
    assert caught.value.code == "package.unsigned"


def test_no_package(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PackageError) as caught:
            open_package(path, Trust())
        assert caught.value.code == "package.missing"


def test_a_file_that_the_build_did_not_name_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(PackageError, match=r"differ in \['b'\]"):
        describe_files(tmp_path, ("a",))


def test_what_does_not_verify_is_not_sealed(package: Path) -> None:
    manifest = PackageManifest.from_bytes((package / MANIFEST).read_bytes(), "p")
    wrong = replace(manifest, files=(replace(manifest.files[0], sha256="0" * 64),))
    with pytest.raises(PackageError) as caught:
        seal(package, wrong)
    assert caught.value.code == "package.damaged"


def test_a_directory_that_cannot_be_written_is_words(built: Path) -> None:
    manifest = PackageManifest.from_bytes((built / MANIFEST).read_bytes(), "p")
    with pytest.raises(PackageError) as caught:
        seal(Path("/proc/nowhere"), manifest)
    assert caught.value.code == "package.unwritable"
