"""`reelsight probe`: what a clip is, and what each way of sampling it would cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines, show_table

if TYPE_CHECKING:
    from reelsight.media.decode_plan import Survey
    from reelsight.media.probe import Header

__all__ = ["command"]

_POLICIES = ("rate:1", "rate:0.2", "count:8", "keyframe", "keyframe+fill:1", "scene")


def command(
    path: Annotated[str, typer.Argument(help="A video file or uri.")],
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="Plan this sampling, e.g. rate:2@fast; may be repeated."),
    ] = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Show a clip's header, its packets, and the plan and cost of each sampling."""
    from reelsight.media.decode_plan import survey
    from reelsight.media.fetch import fetch
    from reelsight.media.probe import probe
    from reelsight.media.sampler import ACCURACIES, Sampling

    limits = options.load(config, set_).media.limits
    names = policy or [f"{name}@{accuracy}" for name in _POLICIES for accuracy in ACCURACIES]
    samplings = [Sampling.parse(name) for name in names]
    data = fetch(path, limits)
    header, found = probe(data, limits), survey(data, samplings, limits)
    if json_:
        print_json({"path": path, "bytes": len(data), "header": asdict(header), **asdict(found)})
    else:
        _show(path, header, found)


def _show(path: str, header: Header, found: Survey) -> None:
    turned = f", turned {header.rotation} degrees" if header.rotation else ""
    lines = [
        f"{header.codec} in {header.demuxer}, {header.width}x{header.height} {header.pixel_format}"
        f"{turned}, {_number(header.fps)} frames/s, {_number(header.duration_s)} s by its header"
    ]
    if found.index is None:
        show_lines(
            path, [*lines, f"no plan: {found.untold}; every sampling decodes the whole clip"]
        )
        return
    index = found.index
    lines.append(
        f"{index.pictures} pictures in {index.end_s:.3f} s, {index.keyframes} keyframes "
        f"({index.fresh_starts} fresh starts), at most {index.longest_gap_s:.2f} s apart; "
        f"nothing refers to {index.unreferenced}"
    )
    show_lines(path, lines)
    columns = ["sampling", "asked", "frames", "decoded", "bytes", "restarts", "cost", "error (s)"]
    rows: list[list[Any]] = [
        [
            plan.sampling,
            plan.asked,
            plan.returned,
            plan.pictures,
            plan.size_bytes,
            plan.restarts,
            f"{plan.cost:.2f}",
            f"{plan.max_error_s:.3f}",
        ]
        for plan in found.plans
    ]
    show_table(columns, rows)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
