"""`reelsight serve`: the HTTP door on this machine."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.errors import ConfigError

__all__ = ["command"]


def command(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="TCP port.")] = None,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
) -> None:
    """Tag clips over HTTP until it is interrupted: POST /v1/tags."""
    from deployments.run import serve_until_told

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    told = {"host": host or settings.serve.host, "port": port or settings.serve.port}
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update=told)})
    if not _loopback(settings.serve.host):
        raise ConfigError(
            f"{settings.serve.host} can be reached from elsewhere, and nobody has to show a key",
            code="config.open_door",
            hint="Listen on 127.0.0.1, behind a proxy that asks for keys.",
        )
    serve_until_told(settings)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
