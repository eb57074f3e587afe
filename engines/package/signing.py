"""Signatures: Ed25519 over the bytes of a manifest, which names the hash of every file.

A plan or a compiled model is native code: loading a stranger's is running a stranger's program.
Keys are text here; where they are kept is the caller's business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from reelsight.errors import ConfigError, PackageError

__all__ = ["Trust", "generate_key", "key_id", "public_key", "sign"]

_PREFIX = "ed25519:"


def generate_key() -> bytes:
    """A new private key: PKCS #8 PEM, not encrypted."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def public_key(private: bytes) -> str:
    """The public half of a PEM private key, as `engine.trusted_keys` holds it: `ed25519:BASE64`.

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


def sign(manifest: bytes, private: bytes) -> bytes:
    """The detached signature of a manifest, as the text that manifest.sig holds.

    Raises:
        ConfigError: The private key is not one.
    """
    return base64.b64encode(_load_private(private).sign(manifest)) + b"\n"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose packages are opened.

    Attributes:
        keys: Public keys, `ed25519:BASE64`.
        required: Whether packages without a signature are refused. Where it is not, a package
            without one is opened, so whoever can write to the registry can run code here.

    Raises:
        ConfigError: A key is malformed, or signatures are required and no key is trusted.
    """

    keys: tuple[str, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        _load_public(self.keys)
        if self.required and not self.keys:
            raise ConfigError(
                "signatures are required and no key is trusted",
                code="config.no_trusted_keys",
                hint="Put the builder's public key into engine.trusted_keys.",
            )

    def check(self, manifest: bytes, signature: bytes | None, where: str) -> str | None:
        """Whose signature a manifest carries.

        Args:
            manifest: Its bytes.
            signature: Content of manifest.sig; None when there is none.
            where: Named in errors.

        Returns:
            The trusted key that signed; None for a package that is not signed, or whose signature
            nobody can check because no key is trusted.

        Raises:
            PackageError: `package.unsigned`, or `package.bad_signature`.
        """
        if signature is None:
            if self.required:
                raise PackageError(
                    f"{where} is not signed",
                    code="package.unsigned",
                    hint="Sign it when it is built: `reelsight engine build --sign-with KEY`.",
                )
            return None
        if not self.keys:
            return None
        try:
            raw = base64.b64decode(signature.strip(), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        for text, key in zip(self.keys, _load_public(self.keys), strict=True):
            try:
                key.verify(raw, manifest)
            except InvalidSignature:
                continue
            return text
        raise PackageError(
            f"{where} is signed by no key that is trusted here, or was changed since",
            code="package.bad_signature",
            hint="Do not use it; find out who wrote it, and check engine.trusted_keys.",
        )


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
