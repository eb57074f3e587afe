"""What the benchmark runs on. Nothing here makes a CUDA context: it would count as memory."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["machine", "memory_used_mib", "versions"]

_GPU = ("name", "compute_cap", "driver_version", "power.limit", "memory.total")
_PACKAGES = {
    "torch": ("torch",),
    "triton": ("triton",),
    "transformers": ("transformers",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "open_clip": ("open_clip_torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
}


def machine(device: str) -> dict[str, Any]:
    """The processor and, for `cuda`, the first GPU as nvidia-smi describes it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9),
        "system": platform.platform(terse=True),
    }
    if device == "cuda":
        name, sm, driver, power, memory = _ask_gpu(*_GPU)
        found["gpu"] = {
            "name": name,
            "sm": sm,
            "driver": driver,
            "power_limit_w": power,
            "memory_mib": memory,
        }
    return found


def memory_used_mib() -> int:
    """Device memory in use by everybody, MiB."""
    return int(_ask_gpu("memory.used")[0])


def versions() -> dict[str, str]:
    """Of python and of every library that some contender is made of."""
    found = {"python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
            except PackageNotFoundError:
                continue
            break
    return found


def _ask_gpu(*fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [value.strip() for value in said.splitlines()[0].split(",")]
