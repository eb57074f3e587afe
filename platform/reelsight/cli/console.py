"""What commands say, and how they end.

Exit codes: 0 done, 1 a clip or a check failed, 2 wrong input, 3 something broke that is not the
caller's fault, 4 a run that is damaged or whose sums do not add up.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reelsight.errors import ReelsightError, StoreError
from reelsight.store.location import Location, told
from reelsight.store.run import RunRecord

__all__ = [
    "is_terminal",
    "live_line",
    "print_json",
    "run_app",
    "show_error",
    "show_lines",
    "show_rates",
    "show_run",
    "show_table",
]

# Piped into a file or a log there is no window to fit: leave room for uris and messages.
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
_err = Console(stderr=True, highlight=False)


def is_terminal() -> bool:
    """Whether a person watches the error stream, where progress goes."""
    return sys.stderr.isatty()


@contextmanager
def live_line() -> Iterator[Callable[[str], None] | None]:
    """One line on the error stream that replaces itself; None where nobody watches."""
    if not is_terminal():
        yield None
        return
    with _err.status("starting") as status:
        yield lambda text: status.update(escape(text))


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:  # JSON has no word for NaN and infinity.
        text = json.dumps(_finite(value), ensure_ascii=False, default=_plain)
    print(text)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A table for people."""
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(cell)) for cell in row))
    _out.print(table)


def show_lines(title: str, lines: Sequence[str]) -> None:
    """A title and what belongs under it, as soon as it is known."""
    _out.print(f"[bold]{escape(title)}[/]", *(f"\n  {escape(line)}" for line in lines), sep="")


def show_run(record: RunRecord, output: Location) -> None:
    """How a run ended."""
    _out.print(
        f"run {record.run_id} is [bold]{record.state}[/]: {record.rows} clips = {record.tagged} "
        f"tagged + {record.dead} dead"
        + (f" + {record.pending} pending" if record.pending else "")
        + f", {record.frames} frames"
    )
    if s := record.summary:
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in s["busy"].items())
        _out.print(
            f"last try: {s['clips']} clips in {s['wall_s']:.1f} s, {s['frames_per_s']:.1f} "
            f"frames/s, {s['clips_per_s']:.2f} clips/s; limiting stage: {s['limiting_stage']} "
            f"(busy: {busy})"
        )
    for code, count in record.failures.items():
        _out.print(f"  {count} x {code}")
    _out.print(f"Parquet: {escape(told(output, 'data', record.run_id))}")


def show_rates(summary: Mapping[str, Any], planned: float | None) -> None:
    """What a run did against what its engines could have done, and against its plan.

    The ceiling is of engines that never wait: as fast as these were while they ran.
    """
    rate = summary.get("frames_per_s", 0.0)
    busy = summary.get("busy", {}).get("engine", 0.0)
    said = [f"{busy:.0%} of the engines' ceiling, {rate / busy:.1f} frames/s"] if busy else []
    said += [f"{rate / planned:.0%} of the plan, {planned:.1f} frames/s"] if planned else []
    if said:
        _out.print("; ".join(said))


def show_error(error: ReelsightError) -> None:
    """An error with its code and what to do next."""
    _err.print(f"[red]error[/] {error.code}: {escape(error.message)}")
    _err.print(f"  hint: {escape(error.hint)}")


def run_app(app: Callable[..., Any] | typer.Typer) -> None:
    """Run a command; a typed error becomes words and an exit code, never a stack trace."""
    if not isinstance(app, typer.Typer):
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command()(app)
        app = single
    try:
        app()
    except ReelsightError as error:
        if "--json" in sys.argv:
            print_json({"error": _error_dict(error)})
        show_error(error)
        raise SystemExit(2 if error.http_status < 500 else 3) from None
    except OSError as error:  # Boundary: a path or a disk that no command thought of.
        show_error(StoreError(str(error), code="store.os_error"))
        raise SystemExit(3) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _error_dict(error: ReelsightError) -> dict[str, Any]:
    return {
        "code": error.code,
        "stage": error.stage,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
    }


def _cell(value: Any) -> str:
    """A value for people: short numbers, lists without brackets."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
