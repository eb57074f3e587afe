"""What a person may write for a build of TensorRT, and what YAML makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.trt.flavour import TENSORRT, TENSORRT_RTX
from engines.trt.options import BuildOptions
from reelsight.errors import ConfigError


def test_a_capability_that_yaml_took_for_a_number_is_one() -> None:
    assert BuildOptions.read({"sm": 8.9}, TENSORRT_RTX).sm == "8.9"
    assert BuildOptions.read({"sm": 12.0}, TENSORRT_RTX).sm == "12.0"


def test_a_file_may_be_a_name_or_a_path() -> None:
    for name in ("timings", Path("timings")):
        assert BuildOptions.read({"timing_cache": name}, TENSORRT).timing_cache == Path("timings")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timing_cache": 5}, "timing_cache is 5"),
        ({"hardware": ["same-sm"]}, r"hardware is \['same-sm'\]"),
        ({"hardware": None}, "hardware is None"),
        ({"workspace_mb": 1.5}, "workspace_mb is 1.5"),
        ({"version_compatible": "yes"}, "version_compatible is 'yes'"),
        ({"sm": 89}, "sm is 89"),
        ({"sm": float("nan")}, "sm is 'nan'"),
        ({"sm": ["8.9"]}, r"sm is \['8.9'\]"),
        ({"sm": True}, "sm is True"),
    ],
)
def test_a_value_of_another_kind_is_refused(options: dict[str, Any], words: str) -> None:
    flavour = TENSORRT_RTX if "sm" in options else TENSORRT
    with pytest.raises(ConfigError, match=words) as caught:
        BuildOptions.read(options, flavour)
    assert caught.value.code == "config.engine_option"
