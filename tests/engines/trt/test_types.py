"""Our calls against TensorRT's own signatures, where stubs of its bindings are at hand.

`python scripts/trt_stubs.py DIRECTORY` makes them; they are looked for in REELSIGHT_TRT_STUBS, else
in `stubs` of the virtual environment. TensorRT 11 itself need not be there: this is what says that
the code speaks to it rightly where no test can.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIGURATION = """
[mypy]
strict = true
python_version = 3.11
mypy_path = {stubs}:{root}/platform:{code}
explicit_package_bases = true
namespace_packages = true
cache_dir = {cache}
[mypy-tensorrt.*,tensorrt_rtx.*]
ignore_errors = true
[mypy-numpy.*,onnx.*,onnxruntime.*,pyarrow.*,pycuda.*,cuda.*]
ignore_missing_imports = true
follow_imports = skip
"""

# What each breaks, and what mypy has to say to it.
MUTATIONS = (
    ("builder.py", "config.set_flag(flag)", "config.set_flag(3)", 'to "set_flag"'),
    ("builder.py", "lib.BuilderFlag.TF32", "lib.BuilderFlag.FP16", 'no attribute "FP16"'),
    (
        "builder.py",
        "config.set_memory_pool_limit(pool, limit)",
        "config.max_workspace_size = limit",
        'no attribute "max_workspace_size"',
    ),
    ("builder.py", "dims, dims, dims)", "dims, dims)", 'call to "set_shape"'),
    ("builder.py", "if plan is None:", "if False:", 'got "IHostMemory | None"'),
    ("lanes.py", ".execute_async_v3(", ".execute_async_v2(", 'no attribute "execute_async_v2"'),
    (
        "plan_file.py",
        "if engine is None:",
        "if False:",
        'has incompatible type "ICudaEngine | None"',
    ),
    ("recorder.py", "lib.ILogger.Severity.WARNING", "lib.ILogger.WARN", 'no attribute "WARN"'),
    (
        "timing_cache.py",
        "config.set_timing_cache(cache, False)",
        "config.set_timing_cache(cache)",
        'argument "ignore_mismatch"',
    ),
    ("flavour.py", ".is_stream_capturable(stream)", ".is_stream_capturable()", "stream"),
)


@pytest.fixture(scope="module")
def stubs() -> Path:
    """A directory with the packages tensorrt and tensorrt_rtx, stubs alone."""
    found = Path(os.environ.get("REELSIGHT_TRT_STUBS", Path(sys.prefix) / "stubs"))
    for name in ("tensorrt", "tensorrt_rtx"):
        if not (found / name / "__init__.pyi").is_file():
            pytest.skip(f"no stubs of {name} in {found}: python scripts/trt_stubs.py {found}")
    return found


def check(code: Path, stubs: Path, scratch: Path) -> tuple[str, int]:
    """Run mypy on engines/trt under a directory."""
    from mypy import api

    configuration = scratch / "mypy.ini"
    text = CONFIGURATION.format(stubs=stubs, root=ROOT, code=code, cache=scratch / "cache")
    configuration.write_text(text)
    out, errors, status = api.run(["--config-file", str(configuration), str(code / "engines/trt")])
    assert not errors
    return out, status


def test_calls_fit_tensorrt_11(stubs: Path, tmp_path: Path) -> None:
    out, status = check(ROOT, stubs, tmp_path)
    assert status == 0, out


def test_calls_fit_tensorrt_rtx_too(stubs: Path, tmp_path: Path) -> None:
    """The same code with RTX's signatures under the name of TensorRT."""
    renamed = tmp_path / "stubs"
    shutil.copytree(stubs / "tensorrt_rtx", renamed / "tensorrt")
    shutil.copytree(stubs / "tensorrt_rtx", renamed / "tensorrt_rtx")
    out, status = check(ROOT, renamed, tmp_path)
    assert status == 0, out


def test_wrong_calls_are_found(stubs: Path, tmp_path: Path) -> None:
    """That the two tests above can fail: each mistake is one that a reader could make."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "engines", code / "engines")
    for name, right, wrong, _ in MUTATIONS:
        file = code / "engines" / "trt" / name
        text = file.read_text()
        assert right in text, f"{name} has no {right}: update the mutation"
        file.write_text(text.replace(right, wrong, 1))
    out, status = check(code, stubs, tmp_path)
    assert status == 1
    for name, _, wrong, words in MUTATIONS:
        found = [line for line in out.splitlines() if f"/trt/{name}:" in line and words in line]
        assert found, f"mypy does not mind {wrong} in {name}:\n{out}"
