"""Tenant keys: the secrets that codewords are derived from.

A key never leaves this process: what shows it (repr, str, pickle) refuses or shows its id alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from reelsight.errors import ConfigError
from reelsight.marks.policy import Marking

__all__ = ["Keyring", "TenantKey", "generate_tenant_key"]

_PREFIX = "hmac-sha256:"
_BYTES = 32


def generate_tenant_key() -> str:
    """A new key of 256 random bits, as the text that key files and the environment hold."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


class TenantKey:
    """One key and its subkeys, one for each purpose, so that no output of one helps with another.

    Args:
        secret: 32 bytes.

    Attributes:
        id: First 16 hex digits of a one-way image of the key; stands in ledger rows.

    Raises:
        ConfigError: The secret has another length.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _BYTES:
            raise ConfigError(f"a tenant key has {_BYTES} bytes, not {len(secret)}", code=_CODE)
        self._secret = secret
        self.id = self.subkey("key id").hex()[:16]

    @classmethod
    def parse(cls, text: str) -> TenantKey:
        """The key that a text holds.

        Raises:
            ConfigError: It holds none. The text is not repeated.
        """
        try:
            if not text.startswith(_PREFIX):
                raise ValueError
            return cls(base64.b64decode(text.removeprefix(_PREFIX), validate=True))
        except (binascii.Error, ValueError):
            raise ConfigError(
                f"that is no tenant key: {_PREFIX} and base64 of {_BYTES} bytes are wanted",
                code=_CODE,
                hint="`reelsight mark keygen` makes one.",
            ) from None

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose: HMAC-SHA256 of its name under the key."""
        return hmac.digest(self._secret, b"reelsight marks 1: " + purpose.encode(), "sha256")

    def __repr__(self) -> str:
        return f"TenantKey({self.id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a tenant key is not sent to other processes")


_CODE = "config.mark_key"


class Keyring:
    """The tenant keys that are known here; the first one issues, all of them trace.

    Args:
        keys: At least one, without repetition.

    Raises:
        ConfigError: There is none, or one is there twice.
    """

    def __init__(self, keys: tuple[TenantKey, ...]) -> None:
        if not keys or len({key.id for key in keys}) != len(keys):
            raise ConfigError("tenant keys are missing or repeated", code=_CODE, hint=_HINT)
        self._keys = {key.id: key for key in keys}
        self.issuing = keys[0]

    @classmethod
    def load(cls, marking: Marking) -> Keyring:
        """The keys that the settings name.

        Raises:
            ConfigError: There are none or two sources, the file is open to others, or a line of it
                is no key.
        """
        if marking.key is not None and marking.key_file is not None:
            raise ConfigError("marks.key and marks.key_file exclude each other", code=_CODE)
        if marking.key is not None:
            return cls((TenantKey.parse(marking.key.get_secret_value().strip()),))
        if marking.key_file is None:
            raise ConfigError("no tenant key is set", code="config.no_mark_key", hint=_HINT)
        text = _read_private(marking.key_file)
        lines = [line.strip() for line in text.splitlines()]
        return cls(tuple(TenantKey.parse(s) for s in lines if s and not s.startswith("#")))

    def __iter__(self) -> Iterator[TenantKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key_id: str) -> TenantKey | None:
        """The key with that id, where it is known here."""
        return self._keys.get(key_id)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"


_HINT = (
    "Make one with `reelsight mark keygen FILE` and set marks.key_file, or put it into "
    "REELSIGHT_MARKS__KEY."
)


def _read_private(path: Path) -> str:
    """A file's text, if nobody but its owner can reach it. Checked on the open file."""
    try:
        with path.open("r", encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                raise ConfigError(
                    f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
                    code="config.mark_key_open",
                    hint=f"chmod 600 {path}; if others may have read it, make a new key.",
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read {path}: {what}", code=_CODE, hint=_HINT) from None
