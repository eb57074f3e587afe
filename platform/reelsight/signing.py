"""Ed25519 signatures over the bytes of a document: engine packages, heads of the ledger, evidence.

Keys are text here; where they are kept is the caller's business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from reelsight.errors import ConfigError

__all__ = ["check_keys", "generate_key", "key_id", "public_key", "sign", "signer"]

_PREFIX = "ed25519:"


def generate_key() -> bytes:
    """A new private key: PKCS #8 PEM, not encrypted."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def public_key(private: bytes) -> str:
    """The public half of a PEM private key, as settings hold it: `ed25519:BASE64`.

    Raises:
        ConfigError: Not such a key.
    """
    raw = _load_private(private).public_key().public_bytes_raw()
    return _PREFIX + base64.b64encode(raw).decode()


def key_id(private: bytes) -> str:
    """First 8 hex digits of the sha256 of the public half; names a key in file names.

    Raises:
        ConfigError: Not such a key.
    """
    return hashlib.sha256(public_key(private).encode()).hexdigest()[:8]


def sign(document: bytes, private: bytes) -> bytes:
    """The detached signature of a document: base64 and a newline.

    Raises:
        ConfigError: The private key is not one.
    """
    return base64.b64encode(_load_private(private).sign(document)) + b"\n"


def check_keys(keys: Sequence[str]) -> None:
    """Refuse what is no list of public keys.

    Raises:
        ConfigError: One is malformed.
    """
    _load_public(keys)


def signer(document: bytes, signature: bytes, keys: Sequence[str]) -> str | None:
    """Which of `keys` signed a document; None when none did.

    Raises:
        ConfigError: A key is malformed.
    """
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    for text, key in zip(keys, _load_public(keys), strict=True):
        try:
            key.verify(raw, document)
        except InvalidSignature:
            continue
        return text
    return None


def _load_private(pem: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"not a private key: {error}", code="config.key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key", code="config.key")
    return key


def _load_public(keys: Sequence[str]) -> list[Ed25519PublicKey]:
    loaded = []
    for text in keys:
        try:
            if not text.startswith(_PREFIX):
                raise ValueError(f"it does not begin with {_PREFIX}")
            raw = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
            loaded.append(Ed25519PublicKey.from_public_bytes(raw))
        except (binascii.Error, ValueError) as error:
            raise ConfigError(
                f"{text!r} is not a public key: {error}",
                code="config.key",
                hint="`reelsight engine keygen` prints one.",
            ) from error
    return loaded
