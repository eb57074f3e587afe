from __future__ import annotations

from typing import Any

import pytest

from reelsight.errors import ConfigError
from reelsight.media.limits import MediaLimits, over_limit


def test_the_defaults_open_what_uploads_use_and_nothing_else() -> None:
    assert MediaLimits().codecs == ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
    assert MediaLimits().damage == "refuse"


def test_a_refusal_says_value_limit_and_setting() -> None:
    error = over_limit("duration (s)", 7200.0, 3600.0, "max_duration_s")
    assert (error.code, error.stage) == ("media.over_limit", "decode")
    assert str(error) == "duration (s) is 7200, the limit is 3600"
    assert "media.limits.max_duration_s" in error.hint


@pytest.mark.parametrize(
    "fields",
    [{"max_bytes": 0}, {"max_fps": -1.0}, {"max_aspect": float("nan")}, {"damage": "ignore"}],
)
def test_unusable_limits_are_refused_with_their_value(fields: dict[str, Any]) -> None:
    name, value = next(iter(fields.items()))
    with pytest.raises(ConfigError, match=rf"{name} .*{value}"):
        MediaLimits(**fields)
