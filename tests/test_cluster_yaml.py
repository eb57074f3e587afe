from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


def test_cluster_yaml_is_valid_for_ray() -> None:
    text = (Path(__file__).parent.parent / "cluster.yaml").read_text()
    validate_config(prepare_config(yaml.safe_load(text)))
