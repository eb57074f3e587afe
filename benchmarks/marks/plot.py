"""The plot of docs/marks.md, drawn as SVG from the results."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["plot"]

_COLOURS = ("#25496b", "#a3201d", "#4a7c3a", "#7a4f9a", "#b97400", "#2a8a8a", "#7a7a7a")
_W, _H = 380, 300


def plot(document: dict[str, Any]) -> str:
    """Two panels: innocent codes against the bound, and copies that are named against frames."""
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 960 520' "
        "font-family='sans-serif' font-size='12'><rect width='960' height='520' fill='#fff'/>"
        f"<g transform='translate(60,40)'>{_tails(document['null'])}</g>"
        f"<g transform='translate(540,40)'>{_power(document)}</g></svg>\n"
    )


def _tails(families: list[dict[str, Any]]) -> str:
    lowest = min(
        math.log10(level["reached"] / level["codes"])
        for family in families
        for level in family["levels"]
        if level["reached"]
    )
    floor = math.floor(lowest)
    levels: list[float] = [level["log10_bound"] for level in families[0]["levels"]]

    def x(value: float) -> float:
        return _W * (levels[0] - value) / (levels[0] - levels[-1])

    def y(value: float) -> float:
        return _H * value / floor

    parts = [_frame("Innocent codes beyond the bound", "the bound", "observed")]
    parts += [_text(x(level), _H + 16, f"1e{level}", "middle") for level in levels]
    for tick in range(0, floor - 1, -1):
        parts.append(_text(-6, y(tick) + 4, f"1e{tick}", "end"))
        parts.append(
            f"<line x1='0' x2='{_W}' y1='{y(tick):.1f}' y2='{y(tick):.1f}' stroke='#eee'/>"
        )
    ends = [f"{x(level):.1f},{y(level):.1f}" for level in levels]
    parts.append(
        f"<polyline points='{' '.join(ends)}' fill='none' stroke='#000' stroke-dasharray='5 4'/>"
    )
    for colour, family in zip(_COLOURS, families, strict=False):
        points = [
            (x(level["log10_bound"]), y(math.log10(level["reached"] / level["codes"])))
            for level in family["levels"]
            if level["reached"]
        ]
        parts.append(_line(points, colour))
    parts.append(_legend([*(f["family"] for f in families)], 0, _H + 56))
    parts.append(_text(x(levels[2]) + 8, y(levels[2]) - 8, "observed = bound", "start"))
    return "".join(parts)


def _power(document: dict[str, Any]) -> str:
    curves = document["power"]
    frames = [point["frames"] for point in curves[0]["points"]]

    def x(value: float) -> float:
        return _W * math.log2(value) / math.log2(frames[-1])

    rows, limit = document["protocol"]["power_rows"], document["protocol"]["identified"]
    title = f"Copies named among {rows:,} at {limit:g}"
    parts = [_frame(title, "independent frames pooled", "share named")]
    parts += [_text(x(n), _H + 16, str(n), "middle") for n in frames]
    for tenth in range(0, 11, 2):
        y = _H * (1 - tenth / 10)
        parts.append(_text(-6, y + 4, f"{tenth / 10:.1f}", "end"))
        parts.append(f"<line x1='0' x2='{_W}' y1='{y:.1f}' y2='{y:.1f}' stroke='#eee'/>")
    for colour, curve in zip(_COLOURS, curves, strict=False):
        points = [(x(p["frames"]), _H * (1 - p["named"])) for p in curve["points"]]
        parts.append(_line(points, colour))
    names = [f"{curve['frame_error_rate']:.0%} of a frame's bits wrong" for curve in curves]
    parts.append(_legend(names, 0, _H + 56))
    return "".join(parts)


def _frame(title: str, below: str, beside: str) -> str:
    return (
        f"<text x='0' y='-16' font-size='14' font-weight='bold'>{title}</text>"
        f"<rect width='{_W}' height='{_H}' fill='none' stroke='#999'/>"
        + _text(_W / 2, _H + 38, below, "middle")
        + f"<text transform='translate(-42,{_H / 2}) rotate(-90)' "
        f"text-anchor='middle'>{beside}</text>"
    )


def _line(points: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = "".join(
        f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2.5' fill='{colour}'/>" for a, b in points
    )
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>{dots}"


def _legend(names: list[str], x: float, y: float) -> str:
    return "".join(
        f"<rect x='{x}' y='{y + 16 * i}' width='10' height='10' fill='{colour}'/>"
        + _text(x + 16, y + 16 * i + 9, name, "start")
        for i, (colour, name) in enumerate(zip(_COLOURS, names, strict=False))
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{words}</text>"
