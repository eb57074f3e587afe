from __future__ import annotations

import base64
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from reelsight.errors import ConfigError
from reelsight.marks.keys import Keyring, TenantKey, generate_tenant_key
from reelsight.marks.policy import Marking
from reelsight.settings import Settings


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_file_holds_the_issuing_key_first(tmp_path: Path) -> None:
    new, old = generate_tenant_key(), generate_tenant_key()
    file = key_file(tmp_path / "key", f"# this year\n{new}\n\n  {old}\n")
    ring = Keyring.load(Marking(key_file=file))
    assert ring.issuing.id == TenantKey.parse(new).id
    assert [key.id for key in ring] == [TenantKey.parse(t).id for t in (new, old)]
    assert ring.get(TenantKey.parse(old).id) is not None
    assert ring.get("none") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_key_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path / "key", generate_tenant_key(), mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o}") as caught:
        Keyring.load(Marking(key_file=file))
    assert caught.value.code == "config.mark_key_open"
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(ConfigError):
        Keyring.load(Marking(key_file=link))


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = generate_tenant_key()
    monkeypatch.setenv("REELSIGHT_MARKS__KEY", text)
    settings = Settings.load()
    assert Keyring.load(settings.marks).issuing.id == TenantKey.parse(text).id
    secret = text.removeprefix("hmac-sha256:")
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.marks)):
        assert secret not in shown


def test_what_is_sent_to_workers_holds_nothing_of_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSIGHT_MARKS__KEY", generate_tenant_key())
    monkeypatch.setenv("REELSIGHT_MARKS__LEDGER", "postgresql://me:s3cret@db/marks")
    settings = Settings.load(None, {"engine.threads": 3})
    assert settings.ledger == "postgresql://me:s3cret@db/marks"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.marks)):
        assert "s3cret" not in shown
    sent = settings.for_workers()
    assert (sent.marks, sent.engine.threads) == (Marking(), 3)


def test_sources_that_are_missing_or_contradict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tenant key is set"):
        Keyring.load(Marking())
    file = key_file(tmp_path / "key", generate_tenant_key())
    both = Settings.load(None, {"marks.key": generate_tenant_key(), "marks.key_file": file}).marks
    with pytest.raises(ConfigError, match="exclude each other"):
        Keyring.load(both)
    with pytest.raises(ConfigError, match="No such file"):
        Keyring.load(Marking(key_file=tmp_path / "none"))
    with pytest.raises(ConfigError, match="missing or repeated"):
        Keyring.load(Marking(key_file=key_file(tmp_path / "empty", "# none\n")))
    twice = generate_tenant_key()
    with pytest.raises(ConfigError, match="missing or repeated"):
        Keyring.load(Marking(key_file=key_file(tmp_path / "twice", f"{twice}\n{twice}\n")))


@pytest.mark.parametrize(
    "text",
    [
        "c2VjcmV0IHNlY3JldA==",
        "hmac-sha256:c2VjcmV0IHNlY3JldA==",
        "hmac-sha256:not base64, c2VjcmV0",
        "hmac-sha256:",
        "ed25519:" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSIGHT_MARKS__KEY", text)
    with pytest.raises(ConfigError) as caught:
        Keyring.load(Settings.load().marks)
    told = "".join(traceback.format_exception(caught.value))
    assert "c2VjcmV0" not in told
    assert "AAAA" not in told


@pytest.mark.parametrize(
    "flags",
    [
        {"marks.key": ["hmac-sha256:s3cret"]},
        {"marks": "hmac-sha256:s3cret"},
        {"marks.kee": "hmac-sha256:s3cret"},
    ],
)
def test_a_setting_that_may_hold_a_key_is_not_repeated(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, flags)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_keys_are_not_shown_sent_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    text = generate_tenant_key()
    key = TenantKey.parse(text)
    with caplog.at_level(logging.DEBUG):
        ring = Keyring((key,))
        logging.getLogger("test").info("%r %s %r", key, key, ring)
    raw = base64.b64decode(text.removeprefix("hmac-sha256:"))
    for shown in (repr(key), repr(ring), caplog.text):
        assert key.id in shown
        assert text not in shown
        assert raw.hex() not in shown
    with pytest.raises(TypeError, match="not sent"):
        pickle.dumps(key)


def test_subkeys_of_other_purposes_have_nothing_in_common() -> None:
    key = TenantKey(bytes(32))
    assert len({key.subkey(p) for p in ("codeword", "salt", "serial", "key id")}) == 4
    with pytest.raises(ConfigError, match="32 bytes, not 31"):
        TenantKey(bytes(31))
