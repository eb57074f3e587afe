"""`reelsight keys` and what `reelsight serve` makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelsight.cli.app import app
from reelsight.errors import ConfigError
from reelsight.keyring import load_keyring


def keys(*args: str) -> str:
    done = CliRunner().invoke(app, ["keys", *args], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_key_is_added_listed_and_revoked(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.yaml")
    made = json.loads(
        keys(
            *("add", "uploader", "--scope", "tags", "--scope", "jobs"),
            *("--frames-per-minute", "600", "--file", file, "--json"),
        )
    )
    found = load_keyring(Path(file)).match(made["key"])
    assert found is not None
    assert (found.scopes, found.frames_per_minute) == (("tags", "jobs"), 600)
    listed = keys("list", "--file", file, "--json")
    assert json.loads(listed)["id"] == made["id"]
    assert made["key"] not in listed
    assert found.sha256 not in listed
    assert made["id"] in keys("list", "--file", file)
    assert json.loads(keys("revoke", "uploader", "--file", file, "--json"))["revoked"] == made["id"]
    assert load_keyring(Path(file)).match(made["key"]) is None


def test_without_a_file_they_are_in_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSIGHT_DATA_DIR", str(tmp_path))
    shown = keys("add", "someone")
    key = shown.splitlines()[0]
    assert load_keyring(tmp_path / "keys.yaml").match(key) is not None


def test_a_scope_that_is_none_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.yaml")
    with pytest.raises(ConfigError, match="root"):
        keys("add", "a", "--scope", "root", "--file", file)
    keys("add", "a", "--file", file)
    with pytest.raises(ConfigError, match="no key"):
        keys("revoke", "b", "--file", file)
    with pytest.raises(ConfigError, match="no keys file"):
        keys("revoke", "b", "--file", str(tmp_path / "none.yaml"))


def test_serve_does_not_open_to_others_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSIGHT_DATA_DIR", str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        CliRunner().invoke(
            app, ["serve", "--host", "0.0.0.0", "--engine", "fake"], catch_exceptions=False
        )
    assert refused.value.code == "config.open_door"
