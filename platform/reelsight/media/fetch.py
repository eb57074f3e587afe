"""Bytes of a clip from where it lies: a local path, file://, s3:// or gs://.

Whole files in memory, because decoding from memory is what keeps a hostile container from opening
anything else. Refuses every other scheme; http and https stay off.
"""

from __future__ import annotations

import errno
import os
import stat
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from reelsight.errors import FetchError, FetchInterruptedError
from reelsight.media.limits import MediaLimits
from reelsight.redaction import redacted

__all__ = ["fetch"]

_REMOTE = ("s3", "gs")
_GS_RETRY_S = 20


def fetch(uri: str, limits: MediaLimits) -> bytes:
    """Read a clip's bytes.

    Args:
        uri: A local path, `file:///...`, `s3://bucket/key` or `gs://bucket/key`.
        limits: `max_bytes` is checked before anything is read.

    Returns:
        The whole file, 1 to `limits.max_bytes` bytes.

    Raises:
        FetchError: `fetch.scheme_refused`, `fetch.bad_uri`, `fetch.not_found`, `fetch.not_a_file`,
            `fetch.permission_denied`, `fetch.too_large`, `fetch.empty` or `fetch.interrupted`.
    """
    scheme = uri.split(":", 1)[0].lower() if "://" in uri else ""
    if scheme in _REMOTE:
        data = _remote(uri, limits)
    elif scheme in ("", "file"):
        data = _local(_local_path(uri) if scheme else uri, limits)
    else:
        raise _scheme_refused(uri, scheme)
    if not data:
        raise FetchError(
            f"{redacted(uri)} is empty",
            code="fetch.empty",
            hint="The file has 0 bytes: upload it again.",
        )
    return data


def _scheme_refused(uri: str, scheme: str) -> FetchError:
    web = scheme in ("http", "https")
    why = "URL fetching is off" if web else f"scheme {scheme!r} is not supported"
    return FetchError(
        f"cannot fetch {redacted(uri)}: {why}",
        code="fetch.scheme_refused",
        hint="Give a local path, file://, s3:// or gs://"
        + ("; download the file first." if web else "."),
    )


def _local_path(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path or "\x00" in unquote(parts.path):
        raise FetchError(
            f"not a local file uri: {uri!r}",
            code="fetch.bad_uri",
            hint="Write file:///absolute/path with three slashes.",
        )
    return unquote(parts.path)


def _local(path: str, limits: MediaLimits) -> bytes:
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise _not_a_file(path)
        _check_size(path, facts.st_size, limits)
        with open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except ValueError as error:
        raise FetchError(f"not a path: {path!r}", code="fetch.bad_uri") from error
    except OSError as error:
        raise _os_refusal(path, error) from error
    _check_size(path, len(data), limits)
    return data


def _remote(uri: str, limits: MediaLimits) -> bytes:
    name = redacted(uri)
    try:
        system, path = fs.FileSystem.from_uri(_patient(uri))
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        if info.type == fs.FileType.Directory:
            raise _not_a_file(name)
        _check_size(name, info.size or 0, limits)
        with system.open_input_file(path) as file:
            return bytes(file.read(limits.max_bytes))
    except pa.ArrowInvalid as error:
        raise FetchError(
            f"not a usable uri: {name}",
            code="fetch.bad_uri",
            hint="Write s3://bucket/key or gs://bucket/key.",
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise _os_refusal(name, error) from error


def _patient(uri: str) -> str:
    """The uri with a bound on retries: Arrow would try gs:// for a quarter of an hour."""
    if not uri.lower().startswith("gs:") or "retry_limit_seconds" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={_GS_RETRY_S}"


def _check_size(name: str, size: int, limits: MediaLimits) -> None:
    if size > limits.max_bytes:
        raise FetchError(
            f"{name} has {size} bytes, the limit is {limits.max_bytes}",
            code="fetch.too_large",
            hint="Raise media.limits.max_bytes if clips like this are expected.",
        )


def _not_a_file(name: str) -> FetchError:
    return FetchError(
        f"{name} is not a regular file",
        code="fetch.not_a_file",
        hint="Give one file per row; a directory is expanded when the manifest is made.",
    )


def _os_refusal(name: str, error: Exception) -> FetchError:
    text = str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return FetchError(
            f"no such file: {name}",
            code="fetch.not_found",
            hint="Check the uri for a typo, and that this machine mounts that path.",
        )
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in text:
        return FetchError(
            f"permission denied: {name}",
            code="fetch.permission_denied",
            hint="Check the file's mode, or this machine's credentials for the bucket.",
        )
    return FetchInterruptedError(f"cannot read {name}: {text}")
