"""Compile a derived ONNX file into one package a bucket, and the weights beside them.

Buckets are static: with a dynamic batch the compiled towers lost to eager torch. Weights are kept
out of the packages, so that ten buckets hold them once, on disk and on the device.
"""

from __future__ import annotations

import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from engines.backend import BuildRequest, BuildWatch
from engines.cuda.torch_device import out_of_memory
from engines.inductor.epilogue import join_epilogues
from engines.inductor.fusion import FUSED, fused
from engines.inductor.graph import read
from engines.inductor.program import Program
from engines.inductor.torch_mends import mended_torch
from reelsight.errors import ConfigError, EngineError, ReelsightError, first_line

__all__ = ["WEIGHTS", "Compiled", "bucket_file", "compile_buckets", "program_for"]

WEIGHTS = "weights.safetensors"
# What a person may set at a build, to true or false.
OPTIONS = frozenset({"kernels", "max_autotune"})


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a build made.

    Attributes:
        files: Names in the directory.
        seconds: Wall-clock seconds.
        details: Fusions found, kernels used, seconds by bucket.
    """

    files: tuple[str, ...]
    seconds: float
    details: dict[str, Any]


def bucket_file(bucket: int) -> str:
    """The package of a bucket."""
    return f"bucket-{bucket}.pt2"


def program_for(request: BuildRequest, proto: Any, bucket: int, device: str) -> Program:
    """The torch program of a bucket, before it is compiled.

    Raises:
        EngineError: `engine.bad_onnx`: it does not take frames and give embeddings of the model.
        ModelError: An operator is not supported.
    """
    graph = fused(proto, bucket)
    size, dim = request.model.geometry.size, request.model.dim
    found = (graph.shapes[graph.input], graph.shapes[graph.output])
    expected = ((bucket, size, size, 3), (bucket, dim))
    if found != expected:
        raise EngineError(
            f"{request.source} takes and gives {found}, expected {expected}",
            code="engine.bad_onnx",
        )
    join_epilogues(graph)
    careful = request.plan.norms_fp32 or request.plan.floats == "fp32"
    kernels = _uses_kernels(request, device)
    program = Program(graph, device=device, kernels=kernels, exact_gelu=careful)
    return program.eval()


def compile_buckets(
    request: BuildRequest, directory: Path, device: str, watch: BuildWatch
) -> Compiled:
    """Compile every bucket into an empty directory.

    Raises:
        ConfigError: `config.engine_option`.
        EngineError: `engine.wrong_onnx`, `engine.bad_onnx`, `engine.build_failed`,
            `engine.out_of_memory`, `engine.unwritable`, `engine.build_cancelled`.
        ModelError: The file cannot be read, or holds an operator that is not supported.
    """
    _check_options(request)
    request.verify_source()
    started = time.perf_counter()
    proto = read(request.source)
    weights: dict[str, torch.Tensor] | None = None
    seconds: dict[str, float] = {}
    fusions: dict[str, int] = {}
    for i, bucket in enumerate(request.buckets):
        watch.progress(f"compile bucket {bucket}", i / len(request.buckets))
        at = time.perf_counter()
        with _torchs_words(bucket):
            program = program_for(request, proto, bucket, device)
            state = {name: value.contiguous() for name, value in program.state_dict().items()}
        if weights is None:
            weights = state
            fusions = dict(Counter(n.op for n in program.nodes if n.op in FUSED))
        elif not _same(weights, state):
            raise EngineError(
                f"bucket {bucket} has other weights than bucket {request.buckets[0]}",
                code="engine.build_failed",
                hint="Report the model: its weights depend on the batch size.",
            )
        with _torchs_words(bucket):
            _compile(program, bucket, request, directory / bucket_file(bucket), device)
        seconds[str(bucket)] = round(time.perf_counter() - at, 2)
        del program
    watch.progress("weights", 1.0)
    if weights is None:
        raise EngineError("no buckets to build", code="engine.build_failed")
    try:
        save_file({name: value.cpu() for name, value in weights.items()}, directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"the weights cannot be written: {error}", code="engine.unwritable"
        ) from error
    return Compiled(
        files=(*(bucket_file(b) for b in request.buckets), WEIGHTS),
        seconds=time.perf_counter() - started,
        details={
            "bucket_seconds": seconds,
            "fusions": fusions,
            "kernels": _uses_kernels(request, device),
        },
    )


def _check_options(request: BuildRequest) -> None:
    unknown = set(request.options) - OPTIONS
    if unknown:
        raise ConfigError(
            f"aotinductor has no option {sorted(unknown)}; it has {sorted(OPTIONS)}",
            code="config.engine_option",
        )
    for name, value in request.options.items():
        if type(value) is not bool:
            raise ConfigError(
                f"{name} is {value!r}, not true or false", code="config.engine_option"
            )


def _compile(program: Program, bucket: int, request: BuildRequest, path: Path, device: str) -> None:
    size = request.model.geometry.size
    frames = torch.zeros((bucket, size, size, 3), dtype=torch.uint8, device=device)
    settings = {
        "aot_inductor.package_constants_in_so": False,
        "always_keep_tensor_constants": True,
        "max_autotune": bool(request.options.get("max_autotune", False)),
    }
    with torch.no_grad(), warnings.catch_warnings(), mended_torch():
        # torch warns about its own serialisation; what matters is checked by the gate.
        warnings.simplefilter("ignore")
        exported = torch.export.export(program, (frames,), strict=False)
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(path), inductor_configs=settings
        )
    require_shared_runtime(path)


def require_shared_runtime(path: Path) -> None:
    """Refuse a program that brings a C++ runtime of its own.

    A compiler that finds no shared libstdc++ takes the static one without a word, and two of them
    in a process crash it when the program is loaded.

    Args:
        path: A compiled package.

    Raises:
        EngineError: `engine.build_failed`.
    """
    with zipfile.ZipFile(path) as package:
        libraries = [name for name in package.namelist() if name.endswith(".so")]
        own = [name for name in libraries if b"libstdc++.so" not in package.read(name)]
    if own or not libraries:
        raise EngineError(
            f"{Path(own[0]).name if own else path} is not linked with the shared libstdc++",
            code="engine.build_failed",
            hint="CXX names the compiler: take one that links libstdc++.so, such as "
            "CXX=/usr/bin/g++ with libstdc++'s development package.",
        )


@contextmanager
def _torchs_words(bucket: int) -> Iterator[None]:
    """Turn what the compiler raises into an EngineError."""
    try:
        yield
    except ReelsightError:
        raise
    except Exception as error:  # Boundary: the compiler raises its own, Triton's and g++'s errors.
        raise out_of_memory(error) or EngineError(
            f"torch cannot compile bucket {bucket}: {first_line(error)}",
            code="engine.build_failed",
            hint="A CUDA build needs Triton and a C++ compiler on this machine.",
        ) from error


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].shape == b[k].shape and torch.equal(_bits(a[k]), _bits(b[k])) for k in a
    )


def _bits(value: torch.Tensor) -> torch.Tensor:
    return (
        value.contiguous().view(torch.uint8) if value.dim() else value.reshape(1).view(torch.uint8)
    )


def _uses_kernels(request: BuildRequest, device: str) -> bool:
    """Whether our kernels are wanted and run: they read through tensor maps, since SM 9.0."""
    wanted = request.options.get("kernels", True)
    return bool(wanted) and device == "cuda" and torch.cuda.get_device_capability() >= (9, 0)
