"""A module with TensorRT's names whose plans are computed by ONNX Runtime on a HostDevice.

It behaves as the library does: it answers None, False or -1 instead of raising, tells its reasons
to the error recorder, accepts a profile for an input that does not exist, clamps settings without a
word, and opens a version-compatible plan only where host code is allowed. `trip` makes one of its
calls fail.
"""

from __future__ import annotations

import enum
import json
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from tests.engines.cuda.host_device import HostDevice


class FakeTensorRT:
    """The module.

    Args:
        device: Where addresses and streams are from.

    Attributes:
        trip: Calls that fail, by name, with the reason that the recorder is told.
        calls: Names of calls, in order.
        configs: Of the builds, in order.
        contexts: Those that are alive.
        computed: First pixel of each batch that was computed, in order.
    """

    __version__ = "11.4.0.106"

    class DataType(enum.IntEnum):
        FLOAT = 0
        UINT8 = 1

    class TensorIOMode(enum.IntEnum):
        NONE = 0
        INPUT = 1
        OUTPUT = 2

    class LayerInformationFormat(enum.IntEnum):
        ONELINE = 0
        JSON = 1

    class ErrorCodeTRT(enum.IntEnum):
        SUCCESS = 0
        UNSPECIFIED_ERROR = 1
        FAILED_ALLOCATION = 5
        FAILED_EXECUTION = 7

    class BuilderFlag(enum.IntEnum):
        TF32 = 5
        VERSION_COMPATIBLE = 9

    class MemoryPoolType(enum.IntEnum):
        WORKSPACE = 0

    class HardwareCompatibilityLevel(enum.Enum):
        NONE = 0
        AMPERE_PLUS = 1
        SAME_COMPUTE_CAPABILITY = 2

    class ProfilingVerbosity(enum.Enum):
        LAYER_NAMES_ONLY = 0
        DETAILED = 1

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 0

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2

    class IErrorRecorder: ...

    class IProgressMonitor: ...

    Dims = tuple

    def __init__(self, device: HostDevice) -> None:
        self.device = device
        self.trip: dict[str, tuple[FakeTensorRT.ErrorCodeTRT, str]] = {}
        self.calls: list[str] = []
        self.configs: list[Config] = []
        self.contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self.computed: list[int] = []
        self.Builder = lambda logger: Builder(self)
        self.OnnxParser = lambda network, logger: Parser(self, network)
        self.Runtime = lambda logger: Runtime(self)

    def fails(self, name: str, recorder: Any) -> bool:
        """Record a call; whether it shall fail, with its reason told."""
        self.calls.append(name)
        if name not in self.trip:
            return False
        code, words = self.trip[name]
        recorder.report_error(code, words)
        return True


class FakeRtx(FakeTensorRT):
    """The same with the names of tensorrt_rtx."""

    __version__ = "1.7.1.116"

    class ComputeCapability(enum.IntEnum):
        NONE = 0
        CURRENT = 1
        SM89 = 89
        SM120 = 120


class Builder:
    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self.error_recorder: Any = None

    def create_network(self, flags: int) -> Any:
        assert flags == 1, "not strongly typed"
        return SimpleNamespace(num_layers=0, inputs=[], outputs=[], path="")

    def create_builder_config(self) -> Config:
        return Config(self._trt, self)

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, list[Any]] = {}
        return SimpleNamespace(
            shapes=shapes,
            set_shape=lambda name, low, best, high: shapes.update({name: [low, best, high]}),
            get_shape=lambda name: shapes.get(name, []),
        )

    def build_serialized_network(self, network: Any, config: Config) -> Any:
        config.progress_monitor.phase_start("Building engine", "", 2)
        for step in range(2):
            if not config.progress_monitor.step_complete("Building engine", step):
                self.error_recorder.report_error(
                    self._trt.ErrorCodeTRT.FAILED_EXECUTION, "Build canceled by user"
                )
                return None
        config.progress_monitor.phase_finish("Building engine")
        if self._trt.fails("build_serialized_network", self.error_recorder):
            return None
        shapes = [profile.shapes["frames"][0] for profile in config.profiles]
        host_code = self._trt.BuilderFlag.VERSION_COMPATIBLE in config.flags
        dim = network.outputs[0].shape[1]
        plan = {"onnx": network.path, "shapes": shapes, "dim": dim, "host_code": host_code}
        config.cache += b"+1"
        return memoryview(json.dumps(plan).encode())


class Config:
    def __init__(self, trt: FakeTensorRT, builder: Builder) -> None:
        self._trt, self._builder = trt, builder
        trt.configs.append(self)
        self.flags = {trt.BuilderFlag.TF32}
        self.profiles: list[Any] = []
        self.cache = b""
        self.pool = 64 << 30
        self.num_compute_capabilities = 0
        self.capability: Any = None
        self._level = 3
        self.progress_monitor: Any = None
        self.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._level = 3 if "clamp" in self._trt.trip else level

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        self.capability = capability
        return "capability" not in self._trt.trip

    def get_compute_capability(self, index: int) -> Any:
        return self.capability

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self.flags

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.pool = limit

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self.pool

    def add_optimization_profile(self, profile: Any) -> int:
        if self._trt.fails("add_optimization_profile", self._builder.error_recorder):
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(content=content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content and not cache.content.startswith(b"timings"):
            return False
        self.cache = cache.content or b"timings"
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: memoryview(self.cache))


class Parser:
    def __init__(self, trt: FakeTensorRT, network: Any) -> None:
        self._trt, self._network = trt, network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        graph = onnx.load(path).graph
        types = {onnx.TensorProto.UINT8: 1, onnx.TensorProto.FLOAT: 0}
        network = self._network
        network.path, network.num_layers = path, len(graph.node)
        for found, values in ((network.inputs, graph.input), (network.outputs, graph.output)):
            for value in values:
                tensor = value.type.tensor_type
                shape = tuple(
                    d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim
                )
                dtype = self._trt.DataType(types[tensor.elem_type])
                found.append(SimpleNamespace(name=value.name, dtype=dtype, shape=shape))
        network.num_inputs, network.num_outputs = len(network.inputs), len(network.outputs)
        network.get_input = network.inputs.__getitem__
        network.get_output = network.outputs.__getitem__
        return True


class Runtime:
    def __init__(self, trt: FakeTensorRT) -> None:
        assert trt.device.depth > 0, "a runtime was made without a device's context"
        self._trt = trt
        self.error_recorder: Any = None
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        try:
            plan = json.loads(content)
        except ValueError:
            self.error_recorder.report_error(
                self._trt.ErrorCodeTRT.UNSPECIFIED_ERROR, "the plan's magic tag does not match"
            )
            return None
        if plan["host_code"] and not self.engine_host_code_allowed:
            self.error_recorder.report_error(
                self._trt.ErrorCodeTRT.UNSPECIFIED_ERROR, "the plan holds host executable code"
            )
            return None
        return Engine(self._trt, self, plan)


class Engine:
    def __init__(self, trt: FakeTensorRT, runtime: Runtime, plan: dict[str, Any]) -> None:
        self.trt, self.runtime, self._plan = trt, runtime, plan
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            plan["onnx"], options, providers=["CPUExecutionProvider"]
        )
        self.num_optimization_profiles = len(plan["shapes"])
        self.num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return ("frames", "embedding")[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.trt.TensorIOMode
        return mode.INPUT if name == "frames" else mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        types = self.trt.DataType
        return types.UINT8 if name == "frames" else types.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, self._plan["dim"])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(self._plan["shapes"][index])] * 3

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return 1000 * (index + 1)

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda form: '{"Layers": ["all"]}')

    def create_runtime_config(self) -> Any:
        """As TensorRT-RTX has it."""
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy=Specialisation.LAZY)

    def create_execution_context(self, config: Any = None) -> Context | None:
        if config is not None:
            assert config.dynamic_shapes_kernel_specialization_strategy is Specialisation.EAGER
        made = self.trt.calls.count("create_execution_context") + 1
        if f"context {made}" in self.trt.trip:
            self.trt.trip["create_execution_context"] = self.trt.trip[f"context {made}"]
        failed = self.trt.fails("create_execution_context", self.runtime.error_recorder)
        self.trt.trip.pop("create_execution_context", None)
        return None if failed else Context(self)


class Specialisation(enum.Enum):
    LAZY = 0
    EAGER = 1


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._trt = engine, engine.trt
        self._trt.contexts.add(self)
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return not self._trt.fails("set_optimization_profile_async", self._recorder)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return not self._trt.fails("set_input_shape", self._recorder)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return not self._trt.fails("set_tensor_address", self._recorder)

    def execute_async_v3(self, stream: int) -> bool:
        if self._trt.fails(f"execute {self._shape[0]}", self._recorder):
            return False
        device, addresses = self._trt.device, dict(self._addresses)

        def compute() -> None:
            count = int(np.prod(self._shape))
            frames = device.buffers[addresses["frames"]][:count].reshape(self._shape)
            self._trt.computed.append(int(frames.flat[0]))
            (rows,) = self._engine.session.run(None, {"frames": frames})
            flat = np.ascontiguousarray(rows, np.float32).reshape(-1).view(np.uint8)
            device.buffers[addresses["embedding"]][: flat.size] = flat

        device.streams[stream].do(compute)
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return "not capturable" not in self._trt.trip

    @property
    def _recorder(self) -> Any:
        return self._engine.runtime.error_recorder
