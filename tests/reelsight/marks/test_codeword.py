from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest

from reelsight.errors import MarkError
from reelsight.marks.codeword import code_function, codeword, opening, serial_of
from reelsight.marks.keys import TenantKey
from reelsight.nouns.mark import Identity

KEY = TenantKey(bytes(range(32)))


def test_a_codeword_is_what_the_specification_says() -> None:
    # Written out, so that ledgers of today are read by programs of tomorrow.
    subkey = hmac.digest(bytes(range(32)), b"reelsight marks 1: copy", "sha256")
    identity = b"\0\0\0\4film" + b"\0\0\0\4anna" + b"\0\0\0\2"
    copy_key = hmac.digest(subkey, identity, "sha256")
    message = b"codeword" + bytes(8) + b"\0\0\0\x40"
    wanted = hmac.digest(copy_key, message, "sha256")[:8]
    code = codeword(KEY, Identity("film", "anna", 2), 64)
    assert code.data == wanted
    bits = "".join(f"{byte:08b}" for byte in wanted)
    assert "".join("1" if s > 0 else "0" for s in code.signs) == bits
    assert wanted.hex() not in repr(code)


def test_everything_that_names_a_code_changes_it() -> None:
    film = Identity("film", "anna")
    codes = {
        codeword(KEY, film, 64).data,
        codeword(TenantKey(bytes(32)), film, 64).data,
        codeword(KEY, Identity("film", "anna", 1), 64).data,
        codeword(KEY, Identity("fil", "manna"), 64).data,
        codeword(KEY, Identity("filma", "nna"), 64).data,
        codeword(KEY, film, 64, segment=0).data,
        codeword(KEY, film, 64, segment=1).data,
        codeword(KEY, film, 96).data[:8],
        codeword(KEY, film, 128).data[:8],
    }
    assert len(codes) == 9
    assert [len(codeword(KEY, film, n)) for n in (64, 96, 128)] == [64, 96, 128]
    assert len({serial_of(KEY, i) for i in (film, Identity("film", "anna", 1))}) == 2


@pytest.mark.parametrize(("bits", "segment"), [(32, None), (65, None), (0, None), (64, -1)])
def test_other_lengths_and_segments_are_refused(bits: int, segment: int | None) -> None:
    with pytest.raises(MarkError):
        codeword(KEY, Identity("film", "anna"), bits, segment)


@pytest.mark.parametrize(
    "wrong",
    [
        ("", "a"),
        ("a", ""),
        (" a", "b"),
        ("a", "b\n"),
        ("a" * 257, "b"),
        ("a", "e\u0301"),
        ("a", "\u202e"),
    ],
)
def test_names_that_could_be_taken_for_others_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"asset|recipient"):
        Identity(*wrong)
    with pytest.raises(ValueError, match="epoch"):
        Identity("a", "b", -1)


def test_codes_are_uniform_and_none_is_rejected_for_lying_near_another() -> None:
    count = 60_000
    derive = code_function(KEY, 64)
    data = b"".join(derive(Identity("film", f"r{i}")) for i in range(count))
    bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(count, 8), axis=1)
    sigma = 0.5 / np.sqrt(count)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * sigma
    signs = 2.0 * bits - 1
    covariance = signs.T @ signs / count - np.eye(64)
    assert np.abs(covariance).max() < 6 / np.sqrt(count)
    # Distances of pairs are binomial to their far ends, near pairs included.
    distance = np.count_nonzero(bits[::2] != bits[1::2], axis=1)
    assert abs(distance.mean() - 32) < 5 * 4 / np.sqrt(count / 2)
    assert abs(distance.var() - 16) < 0.7
    near = np.count_nonzero(distance <= 20)
    expected = count / 2 * 0.00184  # P(Binomial(64, 1/2) <= 20)
    assert abs(near - expected) < 5 * np.sqrt(expected)
    assert len({data[8 * i : 8 * i + 8] for i in range(count)}) == count


def test_the_key_of_a_copy_proves_its_codes_and_no_other() -> None:
    film = Identity("film", "anna")
    opened = opening(KEY, film)
    data = b"reelsight mark commitment 1\n" + bytes.fromhex(opened.copy_key)
    assert opened.commitment == hashlib.sha256(data).hexdigest()
    for bits, segment in ((64, None), (96, None), (64, 0), (128, 7)):
        assert opened.codeword(bits, segment) == codeword(KEY, film, bits, segment)
    other = opening(KEY, Identity("film", "eve"))
    assert opened.commits_to(opened.commitment)
    assert not other.commits_to(opened.commitment)
    assert opening(TenantKey(bytes(32)), film) != opened
    assert opened.copy_key not in repr(opened)
