"""The device that tests on an NVIDIA GPU share, and a pipeline over the double of one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.cuda.device import CudaDevice
from engines.cuda.pipeline import Pipeline
from engines.cuda.pycuda_device import PycudaDevice, pycuda_problem
from tests.engines.cuda.host_device import HostDevice
from tests.engines.cuda.sum_lane import SPEC, SumLane


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


@pytest.fixture
def device() -> Iterator[HostDevice]:
    """The double of a GPU; whoever leaves memory on it fails."""
    device = HostDevice()
    with device.current():
        yield device
    assert device.live == 0


@pytest.fixture
def lanes(device: HostDevice) -> dict[int, SumLane]:
    """By their buckets."""
    return {bucket: SumLane(device, bucket) for bucket in SPEC.buckets}


@pytest.fixture
def pipeline(device: HostDevice, lanes: dict[int, SumLane]) -> Iterator[Pipeline[SumLane]]:
    """Of three slots, over the lanes, which it closes."""
    made = Pipeline(SPEC, device, lanes.values(), slots=3)
    yield made
    made.close()
    assert all(lane.closed for lane in lanes.values())
