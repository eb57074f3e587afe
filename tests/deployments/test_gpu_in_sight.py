"""A replica of `reelsight serve` reserves no GPU, and Ray must not hide the machine's from it."""

from __future__ import annotations

import os

import pytest
import ray


@pytest.mark.usefixtures("ray_cluster")
def test_who_reserves_no_gpu_is_shown_those_of_the_machine() -> None:
    # As Serve makes its replicas: actors with a core, and no word of GPUs.
    class Replica:
        def shown(self) -> str | None:
            return os.environ.get("CUDA_VISIBLE_DEVICES")

    here = os.environ.get("CUDA_VISIBLE_DEVICES")
    replica = ray.remote(num_cpus=1)(Replica).remote()
    try:
        assert ray.get(replica.shown.remote()) == here
    finally:
        ray.kill(replica)
