"""Registry: packages on a local disk or on S3, published so that half a package is never seen.

Below a package's path lies its manifest, and beside it every file under a name that begins with the
file's own sha256, and the signature under the manifest's. Files go up first and the manifest last,
in one step, so two who publish under one path at a time cannot mix: the manifest that is there
finds its own files. Nothing but a manifest is ever removed or replaced by something else, so a
version that was replaced leaves its files behind. Nothing in a registry is trusted: see `Trust`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from engines.package.directory import EnginePackage, open_package
from engines.package.manifest import MANIFEST, SIGNATURE, PackageFile, PackageManifest
from engines.package.signing import Trust
from reelsight.errors import PackageError
from reelsight.redaction import redacted

__all__ = ["Listed", "Registry"]

_CHUNK = 4 * 2**20
_MAX_MANIFEST = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Listed:
    """A package as its registry shows it; no file but the manifest was read.

    Attributes:
        path: Below the registry's root.
        manifest_sha256: Of the manifest's bytes.
        manifest: None when it cannot be used.
        signed_by: The trusted key that signed it, if one did.
        problem: Why it cannot be used; None when it can.
    """

    path: str
    manifest_sha256: str
    manifest: PackageManifest | None
    signed_by: str | None = None
    problem: PackageError | None = None

    def require(self) -> PackageManifest:
        """The manifest.

        Raises:
            PackageError: Why there is none.
        """
        if self.manifest is None:
            raise self.problem or PackageError(f"{self.path} has no manifest")
        return self.manifest


class Registry:
    """Packages below one place.

    Args:
        location: A directory, or `s3://bucket/prefix`; its query may name `endpoint_override`,
            `scheme` and `region`. Credentials come from where AWS's own tools take them.
        trust: Whose packages are read.

    Attributes:
        location: As given; it may hold credentials.
        name: The location for people.

    Raises:
        PackageError: `package.registry`: the location is not one.
    """

    def __init__(self, location: str, trust: Trust) -> None:
        self.location = location
        self.name = redacted(location)
        self.trust = trust
        try:
            if "://" in location:
                self._fs, self._root = fs.FileSystem.from_uri(location)
            else:
                self._fs, self._root = fs.LocalFileSystem(), str(Path(location).absolute())
        except (pa.ArrowException, OSError) as error:
            raise _failed(location, "is no registry", error) from error

    def push(self, package: EnginePackage, *, ungated: bool = False) -> str:
        """Publish a package under its own path, in the place of one that is there.

        Args:
            package: A package on this machine.
            ungated: Take one that was not judged yet, because it was built for a machine that is
                not here. Nobody serves it before it is gated there and published anew.

        Returns:
            The path below the root.

        Raises:
            PackageError: `package.ungated`, `package.gate_failed` or `package.needs_rerun`;
                `package.damaged`; `package.unwritable`, and then what was there stays.
        """
        # The directory may have changed since it was opened.
        package = open_package(package.directory, Trust())
        manifest = package.manifest
        if manifest.refusal is not None and not (ungated and manifest.gate is None):
            raise PackageError(
                f"{manifest.path} is not published: {manifest.refusal}",
                code=manifest.refusal_code,
                hint="Build it with `reelsight engine build`, which goes down to a precision that "
                "passes the gate.",
            )
        stored = {_stored(file): file.name for file in manifest.files}
        if (package.directory / SIGNATURE).exists():
            stored[_stored_signature(package.manifest_sha256)] = SIGNATURE
        # The manifest last: a dict keeps its order.
        stored[MANIFEST] = MANIFEST
        try:
            self._fs.create_dir(self._at(manifest.path), recursive=True)
            for name, source in stored.items():
                self._upload(package.directory / source, f"{manifest.path}/{name}")
        except OSError as error:
            what = "cannot be written"
            raise _failed(self.location, what, error, "package.unwritable") from error
        return manifest.path

    def withdraw(self, path: str, manifest_sha256: str) -> bool:
        """Take a package out of every list; says whether it was this version that was there.

        Raises:
            PackageError: `package.registry`, or `package.unwritable`.
        """
        at = f"{_plain(path)}/{MANIFEST}"
        content = self._bytes(at)
        if content is None or sha256(content).hexdigest() != manifest_sha256:
            return False
        try:
            self._fs.delete_file(self._at(at))
        except FileNotFoundError:
            return False
        except OSError as error:
            what = "cannot be written"
            raise _failed(self.location, what, error, "package.unwritable") from error
        return True

    def list(self, below: str = "") -> list[Listed]:
        """Every package below a path, in order of path; a damaged one is a line with its problem.

        Raises:
            PackageError: `package.registry`: the registry cannot be read.
        """
        with self._reading():
            selector = fs.FileSelector(self._at(below), recursive=True, allow_not_found=True)
            found = self._fs.get_file_info(selector)
            ends = [f.path for f in found if f.is_file and f.path.endswith(f"/{MANIFEST}")]
        start = len(self._root.rstrip("/")) + 1
        paths = sorted(end[start:].removesuffix(f"/{MANIFEST}") for end in ends)
        listed = [self._listed(path) for path in paths]
        return [item for item in listed if item is not None]

    def find(self, path: str) -> Listed:
        """One package by its path.

        Raises:
            PackageError: `package.missing`, or its own problem.
        """
        listed = self._listed(_plain(path))
        if listed is None:
            raise PackageError(f"no package {path!r} in {self.name}", code="package.missing")
        listed.require()
        return listed

    def download(self, listed: Listed, directory: Path) -> EnginePackage:
        """Copy a package into an empty directory and verify all of it there.

        Args:
            listed: What was found; the package must still be that one.
            directory: Empty.

        Raises:
            PackageError: `package.replaced` when the manifest is another by now; as open_package;
                `package.registry`; `package.unwritable`.
        """
        content = self._require(listed)
        manifest = PackageManifest.from_bytes(content, listed.path)
        signature = self._bytes(f"{listed.path}/{_stored_signature(listed.manifest_sha256)}")
        self.trust.check(content, signature, listed.path)
        with _writing(directory):
            (directory / MANIFEST).write_bytes(content)
            if signature is not None:
                (directory / SIGNATURE).write_bytes(signature)
        try:
            for file in manifest.files:
                stored = f"{listed.path}/{_stored(file)}"
                self._download(stored, directory / file.name, file.bytes)
        except FileNotFoundError as error:
            self._require(listed)
            raise _failed(listed.path, "lacks a file", error, "package.damaged") from error
        except OSError as error:
            raise _failed(listed.path, "cannot be copied", error) from error
        return open_package(directory, self.trust)

    def _require(self, listed: Listed) -> bytes:
        """The manifest that was listed."""
        content = self._bytes(f"{listed.path}/{MANIFEST}")
        if content is None or sha256(content).hexdigest() != listed.manifest_sha256:
            raise PackageError(
                f"{listed.path} was replaced while it was read",
                code="package.replaced",
                hint="Try again.",
            )
        return content

    def _listed(self, path: str) -> Listed | None:
        content = self._bytes(f"{path}/{MANIFEST}")
        if content is None:
            return None
        digest = sha256(content).hexdigest()
        try:
            signature = self._bytes(f"{path}/{_stored_signature(digest)}")
            signed_by = self.trust.check(content, signature, path)
            manifest = PackageManifest.from_bytes(content, path)
        except PackageError as error:
            return Listed(path, digest, None, problem=error)
        return Listed(path, digest, manifest, signed_by)

    def _bytes(self, path: str) -> bytes | None:
        """A small file, one byte past the limit at most; None when it is not there."""
        with self._reading():
            if not self._fs.get_file_info(self._at(path)).is_file:
                return None
            try:
                with self._fs.open_input_stream(self._at(path)) as stream:
                    content: bytes = stream.read(_MAX_MANIFEST + 1)
            except FileNotFoundError:
                return None  # Withdrawn since.
            return content

    def _upload(self, source: Path, path: str) -> None:
        """Make a file appear whole: an object store does so by itself, a disk by a rename."""
        target = self._at(path)
        local = isinstance(self._fs, fs.LocalFileSystem)
        away = f"{target.rpartition('/')[0]}/.{uuid4().hex}~" if local else target
        try:
            with source.open("rb") as file, self._fs.open_output_stream(away) as stream:
                while chunk := file.read(_CHUNK):
                    stream.write(chunk)
            if local:
                self._fs.move(away, target)
        except BaseException:
            if local:
                with suppress(OSError):
                    self._fs.delete_file(away)
            raise

    def _download(self, path: str, target: Path, size: int) -> None:
        """Copy, but no more than the manifest promises and one byte, which is enough to refuse."""
        left = size + 1
        with self._fs.open_input_stream(self._at(path)) as stream:
            with _writing(target):
                file = target.open("wb")
            with file:
                while left and (chunk := stream.read(min(_CHUNK, left))):
                    with _writing(target):
                        file.write(chunk)
                    left -= len(chunk)
                with _writing(target):
                    file.flush()

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}".rstrip("/")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise _failed(self.location, "cannot be read", error) from error


def _plain(path: str) -> str:
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise PackageError(f"{path!r} is not a package's path", code="package.missing")
    return "/".join(parts)


def _stored(file: PackageFile) -> str:
    """A file's name in a registry."""
    return f"{file.sha256[:32]}-{file.name}"


def _stored_signature(manifest_sha256: str) -> str:
    return f"{manifest_sha256[:32]}-{SIGNATURE}"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PackageError(
            f"cannot write {path}: {error}",
            code="package.unwritable",
            hint="Check cache_dir: space, permissions.",
        ) from error


def _failed(where: str, what: str, error: Any, code: str = "package.registry") -> PackageError:
    return PackageError(
        redacted(f"{where} {what}: {error}"),
        code=code,
        hint="Check engine.registry, the network, and that this machine may read and write there.",
    )
