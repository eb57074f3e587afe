"""Graphs over a double of cuda-bindings: which failure is which error, and what is given back."""

from __future__ import annotations

import enum
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engines.cuda.graphs import DriverGraph, capture
from reelsight.errors import EngineError

STREAM: Any = SimpleNamespace(handle=7)


class Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class Driver(ModuleType):
    """cuda.bindings.driver; `answers` replaces a call's status."""

    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUstream = int

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.answers: dict[str, Status] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        values = {"cuStreamEndCapture": (11,), "cuGraphInstantiate": (12,)}.get(name, ())

        def call(*given: object) -> tuple[Any, ...]:
            self.calls.append(name)
            status = self.answers.get(name, Status.CUDA_SUCCESS)
            return (status, *(None if status else value for value in values))

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    bindings = ModuleType("cuda.bindings")
    bindings.driver = made  # type: ignore[attr-defined]
    for name, module in (("cuda", ModuleType("cuda")), ("cuda.bindings", bindings)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def nothing() -> None: ...


def test_a_graph_is_recorded_launched_and_freed_once(driver: Driver) -> None:
    graph = capture(STREAM, nothing)
    graph.launch(STREAM)
    graph.free()
    graph.free()
    assert driver.calls == [
        "cuStreamBeginCapture",
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"]
)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "engine.no_graphs"),
        (Status.CUDA_ERROR_OUT_OF_MEMORY, "engine.out_of_memory"),
    ],
)
def test_what_cannot_be_recorded(driver: Driver, call: str, status: Status, code: str) -> None:
    driver.answers[call] = status
    with pytest.raises(EngineError, match=call) as caught:
        capture(STREAM, nothing)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.CUDA_ERROR_ILLEGAL_ADDRESS, "engine.failed"),
        (Status.CUDA_ERROR_OUT_OF_MEMORY, "engine.out_of_memory"),
    ],
)
def test_a_launch_that_fails_is_the_devices_failure(
    driver: Driver, status: Status, code: str
) -> None:
    graph = DriverGraph(12)
    driver.answers["cuGraphLaunch"] = status
    with pytest.raises(EngineError) as caught:
        graph.launch(STREAM)
    assert caught.value.code == code
    driver.answers["cuGraphExecDestroy"] = Status.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(EngineError, match="ILLEGAL_ADDRESS") as caught:
        graph.free()
    assert caught.value.code == "engine.failed"


@pytest.mark.parametrize(
    ("status", "freed"),
    [(Status.CUDA_SUCCESS, 1), (Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 0)],
)
def test_what_was_recorded_before_a_failure_is_freed(
    driver: Driver, status: Status, freed: int
) -> None:
    driver.answers["cuStreamEndCapture"] = status

    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        capture(STREAM, broken)
    assert driver.calls.count("cuGraphDestroy") == freed
