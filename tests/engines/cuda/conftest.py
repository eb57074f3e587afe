"""The marker of tests that need an NVIDIA GPU, and the device they share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.cuda.pycuda_device import PycudaDevice, pycuda_problem


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU, its driver and pycuda")


@pytest.fixture
def gpu() -> Iterator[PycudaDevice]:
    """The first GPU, through pycuda."""
    problem = pycuda_problem()
    if problem is not None:
        pytest.skip(problem)
    device = PycudaDevice()
    yield device
    device.close()
