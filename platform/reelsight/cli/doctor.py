"""`reelsight doctor`: what runs here, and why what does not does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import typer

import reelsight
from reelsight.cli import options
from reelsight.cli.console import print_json, show_table
from reelsight.errors import ReelsightError
from reelsight.settings import Settings

__all__ = ["Finding", "command"]

_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
_PACKAGES = ("ray", "av", "onnxruntime", "pyarrow", "duckdb", "tokenizers")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis; `off` is optional and absent, `bad` needs mending."""

    what: str
    state: Literal["ok", "off", "bad"]
    detail: str


def command(
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Say what runs here and why; exits with 1 when something needed is broken."""
    settings = options.load(config, model=model, bank=bank, engine=engine)
    findings = [
        Finding("reelsight", "ok", f"{reelsight.__version__}, Python {platform.python_version()}"),
        Finding("machine", "ok", _machine()),
        *(_package(name) for name in _PACKAGES),
        _codecs(),
        _checked("engine", lambda: _engine(settings)),
        _checked("bank", lambda: _bank(settings)),
        _extra("export", "open_clip", "export of open_clip models by name"),
        *_changed(settings),
    ]
    if json_:
        print_json([asdict(f) for f in findings])
    else:
        show_table(["what", "state", "detail"], [(f.what, f.state, f.detail) for f in findings])
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)


def _changed(settings: Settings) -> list[Finding]:
    """Settings that a file, the environment or a flag changed."""
    return [
        Finding("setting", "ok", f"{name} = {getattr(settings, name)!r}")
        for name in sorted(settings.model_fields_set)
    ]


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{sys.platform} {platform.machine()}, {cores} cores"


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "bad", "not installed; install reelsight again")


def _codecs() -> Finding:
    import av.codec

    there = {name for name in _CODECS if name in av.codec.codecs_available}
    missing = [name for name in _CODECS if name not in there]
    detail = "decodes " + ", ".join(sorted(there))
    if missing:
        return Finding("codecs", "bad", f"{detail}; not {', '.join(missing)}")
    return Finding("codecs", "ok", detail)


def _checked(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", check())
    except ReelsightError as error:
        return Finding(what, "bad", f"{error.code}: {error.message} ({error.hint})")


def _engine(settings: Settings) -> str:
    from engines.catalog import recipe_for

    recipe = recipe_for(settings)
    engine = recipe.open_engine()
    engine.warmup()
    engine.close()
    s = recipe.spec
    return (
        f"{s.backend} {s.backend_version} {s.precision} ran {s.model} "
        f"({s.model_hash[:12]}), spec {s.hash}"
    )


def _bank(settings: Settings) -> str:
    from engines.catalog import recipe_for
    from reelsight.plan import plan_for

    bank = plan_for(recipe_for(settings), settings).bank
    return f"{bank.name} {bank.hash[:12]}, {len(bank)} labels"


def _extra(what: str, module: str, purpose: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(what, "off", f"{purpose}: {module} is not installed")
    return Finding(what, "ok", f"{purpose}: {module} is installed")
