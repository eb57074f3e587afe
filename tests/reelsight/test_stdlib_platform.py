"""The directory `platform` must never replace the standard library's module of that name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
PROBE = "import platform; print(platform.python_version(), platform.__file__)"


def test_no_init_file() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("path", ["", "platform"])
def test_stdlib_platform_from_the_repository_root(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.usefixtures("ray_cluster")
def test_stdlib_platform_inside_a_ray_worker() -> None:
    def probe() -> tuple[str, str]:
        import platform

        import reelsight.steps

        return platform.python_version(), str(reelsight.steps.__file__)

    version, library = ray.get(ray.remote(probe).remote())
    assert version == ".".join(map(str, sys.version_info[:3]))
    assert "reelsight" in library
