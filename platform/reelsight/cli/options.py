"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from reelsight.errors import ConfigError
from reelsight.settings import Settings

__all__ = [
    "BankOption",
    "ConfigOption",
    "EngineOption",
    "FpsOption",
    "FramesOption",
    "JsonOption",
    "ManifestOption",
    "ModelOption",
    "NewOption",
    "OutputOption",
    "RunOption",
    "RunsArgument",
    "SetOption",
    "assignment",
    "load",
]

ManifestOption = Annotated[
    Path, typer.Option("--manifest", help="Parquet file with columns clip_id and uri.")
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="Directory of runs that every node sees, or s3://bucket/prefix."
    ),
]
RunsArgument = Annotated[
    str, typer.Argument(help="Output directory of a backfill, or s3://bucket/prefix.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="A run's id; default the newest.")]
NewOption = Annotated[
    bool, typer.Option("--new", help="Start another run instead of going on with one.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="reelsight-mini, a model directory, or ARCHITECTURE/PRETRAINED."),
]
BankOption = Annotated[
    str | None, typer.Option("--bank", help="Bank name or file; the model's own by default.")
]
FpsOption = Annotated[
    float | None, typer.Option("--fps", help="Sample this many frames per second (default 1).")
]
FramesOption = Annotated[
    int | None, typer.Option("--frames", help="Sample this many frames per clip instead.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="onnxruntime-cpu, or fake (needs no model).")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML settings file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting by its dotted name, e.g. ray.decode_tasks=4."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def load(
    config: Path | None = None,
    assignments: list[str] | None = None,
    model: str | None = None,
    bank: str | None = None,
    fps: float | None = None,
    frames: int | None = None,
    engine: str | None = None,
) -> Settings:
    """Settings from a file, the environment and flags.

    Raises:
        ConfigError: A value does not fit, or two flags contradict each other.
    """
    if fps is not None and frames is not None:
        raise ConfigError("--fps and --frames exclude each other", code="config.conflict")
    flags: dict[str, Any] = dict(assignment(text) for text in assignments or [])
    named = {"model": model, "bank": bank, "engine.backend": engine}
    flags |= {name: value for name, value in named.items() if value is not None}
    if fps is not None:
        flags |= {"media.sampling.policy": "rate", "media.sampling.rate": fps}
    if frames is not None:
        flags |= {"media.sampling.policy": "count", "media.sampling.count": frames}
    return Settings.load(config, flags)


def assignment(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value read as YAML.

    Raises:
        ConfigError: It is not.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"NAME=VALUE is wanted, got {text!r}")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {value!r} is not YAML") from error
