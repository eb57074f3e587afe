"""`reelsight top`: what a running server does, by its own /metrics."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json
from reelsight.cli.readings import Reading, Window
from reelsight.errors import FetchError, FetchInterruptedError
from reelsight.redaction import redacted

if TYPE_CHECKING:
    import httpx
    from rich.console import RenderableType

__all__ = ["command"]


def command(
    url: Annotated[str, typer.Argument(help="Base URL of the server.")] = "http://127.0.0.1:8100",
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="One look: everything since the server started.")
    ] = False,
    key: Annotated[str | None, typer.Option("--key", help="API key of the server.")] = None,
    json_: options.JsonOption = False,
) -> None:
    """Show a server's rates and latencies live; without a terminal or with --once, one table.

    With --json it prints one object a look, until it is interrupted or, with --once, once.
    """
    import httpx

    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=10)
    except httpx.InvalidURL as error:
        raise FetchError(f"{redacted(url)!r} is no URL: {error}", code="fetch.bad_url") from error
    with client:
        first = Window(_look(client))
        if json_ and once:
            print_json(first.told())
        elif json_:
            _follow(client, first, interval, lambda window: print_json(window.told()))
        elif once or not sys.stdout.isatty():
            _print(first, url)
        else:
            _live(client, first, interval, url)


def _look(client: httpx.Client) -> Reading:
    import httpx

    try:
        answer = client.get("/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchInterruptedError(
            f"{redacted(str(client.base_url))} does not answer: {error}",
            hint="Start it with `reelsight serve`, or give its URL.",
        ) from error
    if answer.status_code != 200:
        raise FetchError(
            f"{redacted(str(client.base_url))} answers {answer.status_code} for /metrics",
            code="fetch.not_metrics",
            hint="Give --key where the server asks for keys.",
        )
    return Reading.parse(answer.text)


def _follow(client: httpx.Client, first: Window, interval: float, show: Any) -> None:
    """Show a window after each interval, until interrupted."""
    window = first
    show(window)
    while True:
        time.sleep(interval)
        window = Window(_look(client), window.now)
        show(window)


def _live(client: httpx.Client, first: Window, interval: float, url: str) -> None:
    from rich.live import Live

    with Live(_drawn(first, url), auto_refresh=False, screen=True) as live:
        _follow(client, first, interval, lambda w: live.update(_drawn(w, url), refresh=True))


def _print(window: Window, url: str) -> None:
    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(_drawn(window, url))


def _drawn(window: Window, url: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    told = window.told()
    span = "since start" if told["window_s"] is None else f"last {told['window_s']:.1f} s"
    replicas = ", ".join(f"{name} x{n}" for name, n in told["replicas"].items())
    fill = "-" if told["batch_fill"] is None else f"{told['batch_fill']:.0%}"
    head = [
        f"{redacted(url)}  {span}  replicas: {replicas}",
        f"engine {', '.join(told['engines'])}  bank {', '.join(told['banks'])}",
        f"in flight {told['in_flight']:.0f}  waiting: {told['waiting_clips']:.0f} clips, "
        f"{told['waiting_frames']:.0f} frames  frames {told['frames']:.0f}"
        f" ({_rate(told['frames_per_s'])}/s)  batch fill {fill}",
    ]
    if told["unheard"]:
        head.append(f"NOT HEARD: {', '.join(told['unheard'])}")
    rejects = ", ".join(f"{n:.0f} x {code}" for code, n in told["rejects"].items())
    return Group(
        Text("\n".join(head)),
        _routes(told),
        _times(told),
        Text(f"refused: {rejects}" if rejects else "nothing refused"),
    )


def _routes(told: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("route", "requests", "per s", "refused", "mean ms", "p50 ms", "p99 ms")
    for row in told["routes"]:
        table.add_row(
            Text(row["route"]),
            f"{row['requests']:.0f}",
            _rate(row["per_s"]),
            f"{row['refused']:.0f}",
            *(_ms(row[key]) for key in ("mean_s", "p50_s", "p99_s")),
        )
    return table


def _times(told: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table("step", "times", "mean ms", "p50 ms", "p99 ms")
    waits = {f"wait: {name}": spread for name, spread in told["queues"].items()}
    for name, spread in (waits | told["steps"]).items():
        if spread["count"]:
            times = (_ms(spread[key]) for key in ("mean_s", "p50_s", "p99_s"))
            table.add_row(name, f"{spread['count']:.0f}", *times)
    return table


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
