"""API keys: who may ask for what, and how much. A file holds their hashes, never the keys.

A key is `rs_ID_SECRET`. The id is public and finds the entry; the secret has 256 random bits, so
one sha256 over the whole key is a hash that cannot be searched. It knows files and hashes; it knows
neither HTTP nor buckets.

States of a key: absent -> listed -> revoked (absent again). The file is replaced whole by each
change, under a lock beside it: a crash leaves the old file or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reelsight.atomic import write_whole
from reelsight.errors import ConfigError

__all__ = ["SCOPES", "ApiKey", "Keyring", "add_key", "load_keyring", "revoke_key"]

SCOPES = ("tags", "marks", "embeddings", "labels:read", "labels:write", "jobs", "admin")
_KEY = re.compile(r"rs_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_LONGEST = 128


class ApiKey(BaseModel):
    """One entry of the file.

    Attributes:
        id: 12 hex digits; the part of the key that may be shown.
        name: Whose it is, for people and logs.
        sha256: Of the whole key, hex.
        scopes: What it may ask for; `admin` covers everything.
        frames_per_minute: Frames that it may have looked at; None for no bound of its own.
        created: ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[str, ...] = Field(min_length=1)
    frames_per_minute: int | None = Field(default=None, ge=1)
    created: str = ""

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        strange = sorted(set(scopes) - set(SCOPES))
        if strange:
            raise ValueError(f"unknown scopes {strange}; there are {', '.join(SCOPES)}")
        return scopes

    def may(self, scope: str) -> bool:
        """Whether a scope is granted."""
        return scope in self.scopes or "admin" in self.scopes


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()


class Keyring:
    """The keys of one version of the file.

    Args:
        keys: With distinct ids.

    Raises:
        ConfigError: Two keys share an id.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in self.keys}
        if len(self._by_id) != len(self.keys):
            raise ConfigError("two keys share an id", code="keys.invalid")

    def __len__(self) -> int:
        return len(self.keys)

    def match(self, presented: str) -> ApiKey | None:
        """The entry that a presented key belongs to; None for every other text.

        The time it takes does not depend on how much of a key is right.
        """
        shape = _KEY.fullmatch(presented) if len(presented) <= _LONGEST else None
        found = self._by_id.get(shape[1]) if shape else None
        expected = found.sha256 if found else "0" * 64
        same = hmac.compare_digest(_hash(presented[:_LONGEST]), expected)
        return found if same else None


def load_keyring(path: Path) -> Keyring:
    """The keys of a file, YAML or JSON.

    Raises:
        ConfigError: `keys.missing` or `keys.invalid`. What the file holds is not repeated.
    """
    try:
        tree: Any = yaml.safe_load(path.read_bytes())
        return Keyring(_File.model_validate({} if tree is None else tree).keys)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no keys file at {path}", code="keys.missing", hint="Make one: `reelsight keys add`."
        ) from error
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {where}", code="keys.invalid") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as keys: {type(error).__name__}", code="keys.invalid"
        ) from None


def add_key(
    path: Path, name: str, scopes: Iterable[str], frames_per_minute: int | None = None
) -> tuple[str, ApiKey]:
    """Add a key to a file, which is made where there is none.

    Returns:
        The key, which is kept nowhere, and its entry.

    Raises:
        ConfigError: The name is taken, or a value does not fit.
    """
    number = secrets.token_hex(6)
    key = f"rs_{number}_{secrets.token_urlsafe(32)}"
    try:
        entry = ApiKey(
            id=number,
            name=name,
            sha256=_hash(key),
            scopes=tuple(dict.fromkeys(scopes)),
            frames_per_minute=frames_per_minute,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(where, code="keys.invalid") from None

    def add(ring: Keyring) -> list[ApiKey]:
        if any(old.name == name for old in ring.keys):
            raise ConfigError(f"there is a key of {name!r} already", code="keys.name_taken")
        return [*ring.keys, entry]

    _change(path, add)
    return key, entry


def revoke_key(path: Path, which: str) -> ApiKey:
    """Take a key out of a file.

    Args:
        path: The file.
        which: Its id or name.

    Raises:
        ConfigError: There is none, or no file.
    """
    gone: list[ApiKey] = []

    def remove(ring: Keyring) -> list[ApiKey]:
        gone.extend(key for key in ring.keys if which in (key.id, key.name))
        if not gone:
            raise ConfigError(f"no key {which!r} in {path}", code="keys.unknown")
        return [key for key in ring.keys if key not in gone]

    if not path.is_file():
        load_keyring(path)
    _change(path, remove)
    return gone[0]


def _change(path: Path, change: Callable[[Keyring], list[ApiKey]]) -> None:
    with _locked(path):
        ring = load_keyring(path) if path.exists() else Keyring()
        kept = [key.model_dump(mode="json", exclude_none=True) for key in change(ring)]
        write_whole(path, yaml.safe_dump({"keys": kept}, sort_keys=False).encode(), mode=0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change at a time; the lock is a file of its own, because the other is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
