"""A package as a directory on this machine: sealed when it is built, verified before it is used."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from engines.package.manifest import MANIFEST, SIGNATURE, PackageFile, PackageManifest
from engines.package.signing import Trust, sign
from reelsight.atomic import write_whole
from reelsight.errors import PackageError

__all__ = ["EnginePackage", "describe_files", "open_package", "seal"]

_DAMAGED_HINT = "Pull or build the package again; if it stays, the registry's copy is damaged."


@dataclass(frozen=True, slots=True)
class EnginePackage:
    """A package whose files were verified.

    Attributes:
        directory: Where it is.
        manifest: What it is.
        manifest_sha256: Hash of the manifest's bytes, and so of everything in the package.
        signed_by: The trusted key that signed it; None when none did.
    """

    directory: Path
    manifest: PackageManifest
    manifest_sha256: str
    signed_by: str | None


def open_package(directory: Path, trust: Trust) -> EnginePackage:
    """Read a package and verify its signature and every file; nothing of it is run.

    Raises:
        PackageError: `package.missing`, `package.damaged` (a file is missing, too many, changed, or
            not a plain file), or as `PackageManifest.from_bytes` and `Trust.check`.
    """
    content = _read(directory / MANIFEST)
    signed = directory / SIGNATURE
    signature = _read(signed) if signed.exists() or signed.is_symlink() else None
    signed_by = trust.check(content, signature, str(directory))
    manifest = PackageManifest.from_bytes(content, str(directory))
    there = {path.name for path in directory.iterdir()} - {MANIFEST, SIGNATURE}
    named = {file.name for file in manifest.files}
    if there != named:
        raise PackageError(
            f"{directory} lacks {sorted(named - there) or 'nothing'} and holds "
            f"{sorted(there - named) or 'nothing'} that its manifest does not name",
            code="package.damaged",
            hint=_DAMAGED_HINT,
        )
    for file in manifest.files:
        found = describe_file(directory / file.name)
        if found != file:
            raise PackageError(
                f"{directory / file.name} has {found.bytes} bytes and sha256 {found.sha256[:12]}, "
                f"the manifest says {file.bytes} and {file.sha256[:12]}",
                code="package.damaged",
                hint=_DAMAGED_HINT,
            )
    return EnginePackage(directory, manifest, hashlib.sha256(content).hexdigest(), signed_by)


def seal(
    directory: Path, manifest: PackageManifest, signing_key: bytes | None = None
) -> EnginePackage:
    """Make a directory of built files a package: write its manifest and signature, and verify it.

    Args:
        directory: Holds exactly the files that the manifest names. Nobody reads it yet: it appears
            under its name by a rename when it is sealed, see NodeCache.
        manifest: What they are.
        signing_key: PEM private key; None leaves the package unsigned.

    Raises:
        PackageError: `package.unwritable`, or as open_package.
        ConfigError: The signing key is not one.
    """
    content = manifest.to_bytes()
    signature = None if signing_key is None else sign(content, signing_key)
    try:
        if signature is not None:
            write_whole(directory / SIGNATURE, signature)
        write_whole(directory / MANIFEST, content)
    except OSError as error:
        raise PackageError(
            f"cannot write {directory}: {error}",
            code="package.unwritable",
            hint="Check the directory: space, permissions.",
        ) from error
    return open_package(directory, Trust())


def describe_files(directory: Path, names: tuple[str, ...]) -> tuple[PackageFile, ...]:
    """Hash files for a manifest, in order of name.

    Raises:
        PackageError: One is not a plain file, or the directory holds others.
    """
    extra = {path.name for path in directory.iterdir()} ^ set(names)
    if extra:
        raise PackageError(
            f"{directory}: the build's files and its list differ in {sorted(extra)}",
            code="package.malformed",
            hint="Report this: a backend must name every file that it leaves.",
        )
    return tuple(describe_file(directory / name) for name in sorted(names))


def describe_file(path: Path) -> PackageFile:
    """Name, hash and size of a plain file.

    Raises:
        PackageError: `package.damaged`: it is a link, a directory, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise PackageError(
                f"{path} is not a plain file", code="package.damaged", hint=_DAMAGED_HINT
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return PackageFile(path.name, digest, file.tell())
    except OSError as error:
        raise PackageError(
            f"cannot read {path}: {error}", code="package.damaged", hint=_DAMAGED_HINT
        ) from error


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise PackageError(f"{path} is not a plain file", code="package.damaged")
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"no package: {error}", code="package.missing") from error
