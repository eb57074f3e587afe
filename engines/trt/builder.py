"""From a precision-carrying ONNX file to a TensorRT plan.

The network is strongly typed: the file says every precision and TensorRT chooses none. Each call is
checked, because TensorRT answers a mistake with None, False or -1, and some with nothing: a setting
is read back, and a profile's input is compared with the network's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engines.backend import BuildRequest, BuildWatch
from engines.trt.flavour import Flavour
from engines.trt.library import Library
from engines.trt.options import HARDWARE_LEVELS, BuildOptions
from engines.trt.progress import WatchedBuild, progress_monitor
from engines.trt.recorder import Trouble, error_recorder, logger, one_line
from engines.trt.timing_cache import TimingCache
from reelsight.atomic import write_whole
from reelsight.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["INPUT", "OUTPUT", "PLAN", "build_plan"]

_T = TypeVar("_T")

PLAN = "engine.plan"
INPUT = "frames"
OUTPUT = "embedding"


def build_plan(
    flavour: Flavour,
    lib: Library,
    request: BuildRequest,
    options: BuildOptions,
    sm: str,
    path: Path,
    watch: BuildWatch,
) -> dict[str, Any]:
    """Build one plan.

    Args:
        flavour: Which TensorRT.
        lib: Its module.
        request: What to build; its source is hashed before it is read.
        options: How.
        sm: Compute capability that it is for.
        path: The plan's file; it appears whole or not at all.
        watch: Is told of progress and may cancel.

    Returns:
        What a person may ask later, as JSON values.

    Raises:
        EngineError: With all that TensorRT said; `engine.build_cancelled` after a cancel.
    """
    request.verify_source()
    timings = None if options.timing_cache is None else TimingCache(options.timing_cache)
    build = _Build(flavour, lib, request, watch)
    watch.progress("parse", 0.0)
    build.parse()
    watch.progress("parse", 1.0)
    build.check_interface()
    build.configure(options, sm)
    build.add_profiles()
    if timings is not None:
        timings.give_to(build.config, build.trouble)
    plan = build.run()
    details: dict[str, Any] = {
        "layers": build.network.num_layers,
        "profiles": [list(shape) for shape in build.shapes()],
        "plan_bytes": plan.nbytes,
        "warnings": list(build.trouble.warnings),
    }
    if timings is not None:
        details["timing_cache_sha256"] = timings.take_from(build.config, build.trouble)
    try:
        write_whole(path, plan)
    except OSError as error:
        raise EngineError(
            f"the plan cannot be written: {error}", code="engine.unwritable"
        ) from error
    return details


class _Build:
    """The objects of one build."""

    def __init__(
        self, flavour: Flavour, lib: Library, request: BuildRequest, watch: BuildWatch
    ) -> None:
        self._flavour, self._lib, self._request, self._watch = flavour, lib, request, watch
        self.trouble = Trouble()
        self._logger = logger(lib, self.trouble)
        self._recorder = error_recorder(lib, self.trouble)
        self._builder = lib.Builder(self._logger)
        typed = 1 << int(lib.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.network = self._there(self._builder.create_network(typed), "a network")
        # After the network, which would take it over: TensorRT-RTX 1.7 crashes when a network with
        # a recorder is destroyed after its parser. Without one its errors come through the log.
        self._builder.error_recorder = self._recorder
        self.config = self._there(self._builder.create_builder_config(), "a configuration")
        self._watched = WatchedBuild(watch)
        self._monitor = progress_monitor(lib, self._watched)
        self.config.progress_monitor = self._monitor

    def parse(self) -> None:
        """Read the ONNX file into the network."""
        source = str(self._request.source)
        # The parser owns the weights that the network points to, and lives as long.
        parser = self._parser = self._lib.OnnxParser(self.network, self._logger)
        parsed = parser.parse_from_file(source)
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        if not parsed or errors:
            listed = "; ".join(_parser_error(error) for error in errors)
            raise EngineError(
                f"{self._flavour.title} does not parse {source}: {listed or 'it gave no reason'}",
                code="engine.bad_onnx",
                hint="Choose another precision, or report the operator that is refused.",
            )

    def check_interface(self) -> None:
        """Refuse a graph that does not take frames and give embeddings."""
        model, types = self._request.model, self._lib.DataType
        size = model.geometry.size
        inputs = [self.network.get_input(i) for i in range(self.network.num_inputs)]
        outputs = [self.network.get_output(i) for i in range(self.network.num_outputs)]
        found = [(t.name, t.dtype, tuple(t.shape)) for t in (*inputs, *outputs)]
        expected = [
            (INPUT, types.UINT8, (-1, size, size, 3)),
            (OUTPUT, types.FLOAT, (-1, model.dim)),
        ]
        if len(inputs) != 1 or found != expected:
            raise EngineError(
                f"{self._request.source} takes and gives {found}, expected {expected}",
                code="engine.bad_onnx",
            )

    def shapes(self) -> list[tuple[int, int, int, int]]:
        """The input's shape in each profile."""
        size = self._request.model.geometry.size
        return [(bucket, size, size, 3) for bucket in self._request.buckets]

    def add_profiles(self) -> None:
        """One profile a bucket, with a fixed shape.

        Engines run nothing but buckets, so a range of shapes would buy generality that no batch
        uses, and pay for it: kernels are then chosen for one shape and run on others. Fixed shapes
        are also what a CUDA graph is captured for.
        """
        for index, shape in enumerate(self.shapes()):
            profile = self._there(self._builder.create_optimization_profile(), "a profile")
            dims = self._lib.Dims(shape)
            profile.set_shape(INPUT, dims, dims, dims)
            # A name that no input has is taken too: what was set is read back.
            kept = [tuple(d) for d in profile.get_shape(INPUT)]
            if kept != [shape] * 3 or self.config.add_optimization_profile(profile) != index:
                raise self.trouble.failure(f"{self._flavour.title} refused the profile {shape}")

    def configure(self, options: BuildOptions, sm: str) -> None:
        """Set what the options say, each read back."""
        lib, config = self._lib, self.config
        flags = {
            lib.BuilderFlag.TF32: options.tf32,
            lib.BuilderFlag.VERSION_COMPATIBLE: options.version_compatible,
        }
        for flag, wanted in flags.items():
            if wanted:
                config.set_flag(flag)
            else:
                config.clear_flag(flag)
            self._took(flag.name, wanted, config.get_flag(flag))
        config.builder_optimization_level = options.optimization_level
        level = config.builder_optimization_level
        self._took("builder_optimization_level", options.optimization_level, level)
        if options.workspace_mb is not None:
            pool, limit = lib.MemoryPoolType.WORKSPACE, options.workspace_mb << 20
            config.set_memory_pool_limit(pool, limit)
            self._took("workspace limit", limit, config.get_memory_pool_limit(pool))
        if self._flavour.compatibility:
            hardware = lib.HardwareCompatibilityLevel.__members__[HARDWARE_LEVELS[options.hardware]]
            config.hardware_compatibility_level = hardware
            self._took("hardware level", hardware, config.hardware_compatibility_level)
        if options.detailed:
            config.profiling_verbosity = lib.ProfilingVerbosity.DETAILED
        if self._flavour.cross_build:
            self._flavour.aim(lib, config, sm)

    def run(self) -> trt.IHostMemory:
        """Build; other Python threads go on meanwhile, so that one of them can cancel."""
        self.trouble.clear()
        plan = self._builder.build_serialized_network(self.network, self.config)
        if self._watched.problem is not None:
            raise self._watched.problem
        # A cancel after the last step comes too late for TensorRT, not for us.
        self._watch.progress("build", 1.0)
        if plan is None:
            raise self.trouble.failure(
                f"{self._flavour.title} did not build {self._request.plan.name}",
                code="engine.build_failed",
                hint="Choose another precision, or fewer or smaller buckets.",
            )
        return plan

    def _took(self, name: str, wanted: object, found: object) -> None:
        if found != wanted:
            raise self.trouble.failure(
                f"{self._flavour.title} left its {name} at {found!r} instead of {wanted!r}"
            )

    def _there(self, made: _T | None, what: str) -> _T:
        if made is None:
            raise self.trouble.failure(f"{self._flavour.title} did not make {what}")
        return made


def _parser_error(error: trt.ParserError) -> str:
    where = (
        f"node {error.node_name()!r} ({error.node_operator()})" if error.node() >= 0 else "graph"
    )
    return f"{where}: {one_line(error.desc())}"
