"""Drawings of the page, as inline SVG: bits against a codeword, and copies along the timeline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reelsight.marks.evidence.markup import escaped
from reelsight.nouns.mark_trace import Trace

__all__ = ["agreement_strip", "windows_chart"]

_INK, _RED, _LINE, _SOFT = "#25496b", "#e07a72", "#d9dee4", "#5b6470"
_FILLS = ("#25496b", "#a3201d", "#4a7c3a", "#7a4f9a", "#b97400")


def agreement_strip(pooled: Sequence[float], code: str) -> str:
    """One bar a bit: its soft value, dark where its sign is the codeword's.

    Args:
        pooled: Soft bits.
        code: The codeword, hex, of as many bits.
    """
    bits = f"{int(code, 16):0{4 * len(code)}b}"
    most = max((abs(value) for value in pooled), default=0.0) or 1.0
    step = 960 / max(len(pooled), 1)
    bars = []
    for i, (value, bit) in enumerate(zip(pooled, bits, strict=True)):
        height = max(56 * abs(value) / most, 1.0)
        top = 60 - height if value >= 0 else 60
        colour = _INK if (value >= 0) == (bit == "1") else _RED
        bars.append(
            f"<rect x='{i * step:.1f}' y='{top:.1f}' width='{step * 0.8:.1f}' "
            f"height='{height:.1f}' fill='{colour}'/>"
        )
    return (
        "<svg viewBox='0 0 960 120' role='img' aria-label='Bits read and the codeword'>"
        f"<line x1='0' y1='60' x2='960' y2='60' stroke='{_LINE}'/>{''.join(bars)}</svg>"
    )


def windows_chart(trace: Trace) -> str:
    """The windows of the timeline, longest on top; coloured by the copy that fits best there."""
    start = min(w.start_s for w in trace.windows)
    span = max(w.end_s for w in trace.windows) - start or 1.0
    serials = {one.source.serial: i for i, one in enumerate(trace.accused)}
    lengths = sorted({round(w.end_s - w.start_s, 3) for w in trace.windows}, reverse=True)
    # Halving gives lengths that differ by one segment: they share a line.
    lines = {length: max(round(math.log2(lengths[0] / length)), 0) for length in lengths if length}
    marks = []
    for window in trace.windows:
        row = lines.get(round(window.end_s - window.start_s, 3), 0)
        x = 960 * (window.start_s - start) / span
        width = max(960 * (window.end_s - window.start_s) / span - 2, 1)
        colour, opacity = _look(trace, serials.get(window.serial or ""), window.log10_p_adjusted)
        label = f"{window.start_s:.1f} to {window.end_s:.1f} s: 10^{window.log10_p_adjusted:.1f}"
        marks.append(
            f"<rect x='{x:.1f}' y='{row * 18:.1f}' width='{width:.1f}' height='14' rx='2' "
            f"fill='{colour}' fill-opacity='{opacity}'><title>{escaped(label)}</title></rect>"
        )
    height = 18 * (max(lines.values(), default=0) + 1)
    return (
        f"<svg viewBox='0 0 960 {height + 46}' role='img' aria-label='Copies along the video'>"
        f"{''.join(marks)}"
        f"<text x='0' y='{height + 14}' font-size='13' fill='{_SOFT}'>{start:.1f} s</text>"
        f"<text x='960' y='{height + 14}' font-size='13' text-anchor='end' fill='{_SOFT}'>"
        f"{start + span:.1f} s</text>{_legend(trace, height + 34)}</svg>"
    )


def _look(trace: Trace, copy: int | None, log10_p: float) -> tuple[str, str]:
    if copy is None or log10_p > math.log10(trace.probable):
        return _LINE, "1"
    named = log10_p <= math.log10(trace.identified)
    return _FILLS[copy % len(_FILLS)], "1" if named else "0.45"


def _legend(trace: Trace, y: int) -> str:
    drawn, x = [], 0
    for i, one in enumerate(trace.accused[: len(_FILLS)]):
        name = one.source.recipient
        name = name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"
        drawn.append(
            f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{_FILLS[i]}'/>"
            f"<text x='{x + 18}' y='{y}' font-size='13' fill='{_SOFT}'>{escaped(name)}</text>"
        )
        x += 40 + 8 * len(name)
    return "".join(drawn)
