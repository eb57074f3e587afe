"""Whose packages are opened: signatures over a manifest, which names the hash of every file.

A plan or a compiled model is native code: loading a stranger's is running a stranger's program.
"""

from __future__ import annotations

from dataclasses import dataclass

from reelsight.errors import ConfigError, PackageError
from reelsight.signing import check_keys, generate_key, key_id, public_key, sign, signer

__all__ = ["Trust", "generate_key", "key_id", "public_key", "sign"]


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
        check_keys(self.keys)
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
        found = signer(manifest, signature, self.keys)
        if found is not None:
            return found
        raise PackageError(
            f"{where} is signed by no key that is trusted here, or was changed since",
            code="package.bad_signature",
            hint="Do not use it; find out who wrote it, and check engine.trusted_keys.",
        )
