"""The device that tests on an NVIDIA GPU share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.cuda.device import CudaDevice
from engines.cuda.pycuda_device import PycudaDevice, pycuda_problem


@pytest.fixture
def pycuda_gpu() -> Iterator[PycudaDevice]:
    """The first GPU, through pycuda."""
    problem = pycuda_problem()
    if problem is not None:
        pytest.skip(problem)
    device = PycudaDevice()
    yield device
    device.close()


@pytest.fixture(params=["pycuda", "torch"])
def gpu(request: pytest.FixtureRequest) -> Iterator[CudaDevice]:
    """The first GPU, through each of the libraries."""
    if request.param == "pycuda":
        yield request.getfixturevalue("pycuda_gpu")
        return
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    from engines.cuda.torch_device import TorchDevice

    device = TorchDevice()
    yield device
    device.close()
