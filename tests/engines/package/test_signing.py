from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engines.package.signing import Trust, generate_key, key_id, public_key, sign
from reelsight.errors import ConfigError, PackageError

MANIFEST = b'{"a": 1}'


def test_a_signature_names_its_key(key: bytes) -> None:
    other = generate_key()
    trust = Trust((public_key(other), public_key(key)), required=True)
    assert trust.check(MANIFEST, sign(MANIFEST, key), "p") == public_key(key)
    assert key_id(key) != key_id(other)


@pytest.mark.parametrize("required", [True, False])
def test_a_changed_manifest_is_refused_whether_signatures_are_required_or_not(
    key: bytes, required: bool
) -> None:
    trust = Trust((public_key(key),), required)
    for content, signature in (
        (MANIFEST + b" ", sign(MANIFEST, key)),
        (MANIFEST, sign(MANIFEST, generate_key())),
        (MANIFEST, b""),
        (MANIFEST, b"not base64!"),
        (MANIFEST, sign(MANIFEST, key)[:-8]),
    ):
        with pytest.raises(PackageError) as caught:
            trust.check(content, signature, "p")
        assert caught.value.code == "package.bad_signature"


def test_without_a_signature(key: bytes) -> None:
    assert Trust((public_key(key),)).check(MANIFEST, None, "p") is None
    assert Trust().check(MANIFEST, sign(MANIFEST, key), "p") is None
    with pytest.raises(PackageError) as caught:
        Trust((public_key(key),), required=True).check(MANIFEST, None, "p")
    assert caught.value.code == "package.unsigned"


def test_required_signatures_need_a_key() -> None:
    with pytest.raises(ConfigError) as caught:
        Trust((), required=True)
    assert caught.value.code == "config.no_trusted_keys"


@pytest.mark.parametrize("text", ["", "x", "ed25519:", "ed25519:AAAA", "ed25519:!", "rsa:AAAA"])
def test_a_malformed_public_key_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a public key"):
        Trust((text,))


def test_what_is_no_private_key_is_refused() -> None:
    curve = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for pem in (b"", b"nonsense", curve):
        with pytest.raises(ConfigError) as caught:
            sign(MANIFEST, pem)
        assert caught.value.code == "config.key"
