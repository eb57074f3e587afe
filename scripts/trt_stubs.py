"""Make type stubs of TensorRT's Python bindings, so that mypy can check our calls.

    python scripts/trt_stubs.py DIRECTORY [--wheel tensorrt_cu13_bindings-....whl]

The bindings of TensorRT are a small wheel on the package index; its libraries are large, and not
everywhere to be had. The bindings import without them when the C symbols they ask for exist, so a
dummy library with those symbols is compiled, nothing of it is ever called, and pybind11-stubgen
reads signatures and docstrings. Stubs of TensorRT-RTX are made too when it is installed.

The stubs are derived from proprietary files: keep them out of the repository and of packages.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BINDINGS = "tensorrt_cu13_bindings==11.4.0.106"

# What tensorrt.so asks of its three libraries.
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")

# Calls that answer None where others raise. The bindings' signatures do not say so.
MAY_BE_NONE = (
    "build_serialized_network",
    "create_builder_config",
    "create_engine_inspector",
    "create_execution_context",
    "create_network",
    "create_optimization_profile",
    "create_timing_cache",
    "deserialize_cuda_engine",
    "get_timing_cache",
    "serialize",
)


def main() -> None:
    """Write DIRECTORY/tensorrt/__init__.pyi, and tensorrt_rtx beside it when that is installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of pip's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        wheel = arguments.wheel or download(work)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / "site")
        libraries = compile_dummies(work / "lib")
        stub = generate("tensorrt_bindings.tensorrt", work, libraries)
        install(stub, arguments.directory / "tensorrt")
        if importlib.util.find_spec("tensorrt_rtx_bindings") is not None:
            stub = generate("tensorrt_rtx_bindings.tensorrt_rtx", work, libraries)
            install(stub, arguments.directory / "tensorrt_rtx")


def download(directory: Path) -> Path:
    """Fetch the bindings' wheel through pip."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", "-d", str(directory), BINDINGS], check=True)  # noqa: S603
    return next(directory.glob("*.whl"))


def compile_dummies(directory: Path) -> Path:
    """Compile libraries that define the symbols and do nothing."""
    directory.mkdir()
    source = directory / "dummy.c"
    source.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for name in LIBRARIES:
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(directory / name)]
        subprocess.run([*command, str(source)], check=True)  # noqa: S603
    return directory


def generate(module: str, work: Path, libraries: Path) -> str:
    """Run pybind11-stubgen in a process that finds the dummies."""
    out = work / module
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": str(work / "site"),
    }
    command = [sys.executable, "-m", "pybind11_stubgen", module, "-o", str(out)]
    finished = subprocess.run(  # noqa: S603
        [*command, "--ignore-all-errors"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = list(out.rglob("*.pyi"))
    if finished.returncode != 0 or len(found) != 1:
        sys.exit(f"pybind11-stubgen failed on {module}:\n{finished.stderr}")
    return repaired(found[0].read_text())


def repaired(stub: str) -> str:
    """What pybind11-stubgen writes of these bindings, made into Python that mypy reads rightly."""
    text = "\n".join(map(_repaired_line, stub.splitlines()))
    # The modules export a data type named `bool`, which hides the builtin that is meant.
    text = re.sub(r"(?<=: )bool(?=[\s,)=|])|(?<=-> )bool(?=[:\s])", "builtins.bool", text)
    text = text.replace("\nimport typing\n", "\nimport builtins\nimport typing\n", 1)
    # Protocols that C++ offers and signatures do not show.
    for name, method in (
        ("Dims", "__iter__(self) -> typing.Iterator[int]"),
        ("IHostMemory", "__buffer__(self, flags: int) -> memoryview"),
    ):
        text, count = re.subn(
            rf"^class {name}:\n",
            f"class {name}:\n    def {method}: ...\n",
            text,
            flags=re.MULTILINE,
        )
        if count != 1:
            sys.exit(f"the stubs have {count} classes {name}")
    ast.parse(text)
    return text + "\n__version__: str\n"


def _repaired_line(line: str) -> str:
    if not line.lstrip().startswith("def "):
        return line
    # `in` is a keyword, and one method has a parameter without a default after some with one.
    line = re.sub(r"([(, ])in: ", r"\1in_: ", line)
    if "def add_scale_nd(" in line:
        line = line.replace("typing.SupportsInt)", "typing.SupportsInt = ...)")
    if line.split("def ")[1].split("(")[0] in MAY_BE_NONE:
        line = re.sub(r" -> ([\w.]+):", r" -> \1 | None:", line)
    return line


def install(stub: str, package: Path) -> None:
    """Write a stub package whole."""
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    (package / "__init__.pyi").write_text(stub)
    print(package)


if __name__ == "__main__":
    main()
