"""`reelsight serve`: the HTTP door on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from reelsight.cli import options

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
    """Tag clips over HTTP until it is interrupted: POST /v1/tags.

    Beyond loopback it listens only where there are API keys: `reelsight keys add`.
    """
    from deployments.run import serve_until_told

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    told = {"host": host or settings.serve.host, "port": port or settings.serve.port}
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update=told)})
    serve_until_told(settings)
