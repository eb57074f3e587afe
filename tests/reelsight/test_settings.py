from __future__ import annotations

from pathlib import Path

import pytest

from reelsight.errors import ConfigError
from reelsight.settings import Settings


def test_flags_beat_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "model: from-file\nmedia: {sampling: {rate: 3}, limits: {max_side: 100}}\n"
        "ray: {decode_tasks: 3, engine_actors: 3}\n"
    )
    monkeypatch.setenv("REELSIGHT_RAY__DECODE_TASKS", "4")
    monkeypatch.setenv("REELSIGHT_RAY__ENGINE_ACTORS", "4")
    settings = Settings.load(file, {"ray.engine_actors": 5, "bank": None})
    assert settings.model == "from-file"
    assert settings.media.sampling.rate == 3
    assert settings.media.limits.max_side == 100
    assert settings.media.limits.max_fps == 250.0
    assert (settings.ray.decode_tasks, settings.ray.engine_actors) == (4, 5)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().model = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"modle": "x"}, "modle: Extra inputs"),
        ({"ray.decode_tasks": 0}, "ray.decode_tasks: Input should be greater"),
        ({"engine.backend": "cuda"}, "engine.backend"),
        ({"media.sampling.rate": -1}, "sampling rate must be > 0"),
        ({"engine.buckets": []}, "engine.buckets: Value error, buckets are positive"),
        ({"engine.buckets": [0]}, "buckets are positive and ascending"),
        ({"media": 1, "media.sampling.rate": 2}, "'media' in 'media.sampling.rate'"),
        ({"engine.backend": "fake", "engine": "fake"}, "'engine' is set to a value and to a group"),
    ],
)
def test_a_bad_setting_is_named(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, flags)
    assert says in caught.value.message


def test_a_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        Settings.load(tmp_path / "no.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        Settings.load(broken)


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"just words", b"\xff\xfe\x00", b"engine: 3"])
def test_a_file_that_holds_no_settings(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        Settings.load(file)


def test_an_environment_that_holds_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSIGHT_ENGINE", "fake")
    with pytest.raises(ConfigError, match="engine"):
        Settings.load()
