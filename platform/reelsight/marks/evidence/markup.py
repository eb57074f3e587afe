"""Pieces of the page. Whatever comes from outside goes through `escaped`, here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["STYLE", "cells", "escaped", "facts", "paragraph", "table"]

STYLE = """
:root{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;--wash:#f5f7f9}
*{box-sizing:border-box}
body{margin:0;background:var(--wash);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
main{max-width:62rem;margin:2rem auto;padding:2rem 2.5rem;background:var(--paper);
 border:1px solid var(--line)}
.kind{margin:0;color:var(--soft)}
h1{margin:.1rem 0 1rem;font-size:1.7rem;overflow-wrap:anywhere}
h2{margin:2.2rem 0 .6rem;font-size:1.15rem;border-bottom:1px solid var(--line);
 padding-bottom:.25rem;overflow-wrap:anywhere}
.verdict{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline;padding:.8rem 1rem;
 border-left:.5rem solid #8a94a0;background:var(--wash)}
.verdict strong{font-size:1.25rem;letter-spacing:.02em}
.v-identified{border-color:#a3201d}.v-multiple{border-color:#a3201d}
.v-probable{border-color:#b97400}.v-marked_unknown{border-color:#b97400}
table{border-collapse:collapse;width:100%;font-size:.93rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;
 border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.facts th{width:17rem;font-weight:500;color:var(--soft)}
td{font-variant-numeric:tabular-nums}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.88rem}
svg{display:block;width:100%;height:auto}
details{margin-top:1rem}summary{cursor:pointer;font-weight:500}
img{max-width:9rem;max-height:6rem;display:block}
li{margin:.4rem 0}
@media print{body{background:#fff}main{border:0;margin:0;padding:0;max-width:none}
 section,figure,tr{break-inside:avoid}}
@media(max-width:40rem){main{padding:1rem}.facts th{width:9rem}}
"""


def escaped(value: Any) -> str:
    """Text that is safe in an element and in a quoted attribute."""
    text = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )
    return html.escape(text, quote=True)


def paragraph(text: str) -> str:
    """A paragraph of text."""
    return f"<p>{escaped(text)}</p>"


def cells(*values: Any) -> tuple[str, ...]:
    """Values as markup; None is an empty cell."""
    return tuple("" if value is None else escaped(value) for value in values)


def facts(*pairs: tuple[str, Any]) -> str:
    """Names and values, one pair a line; what is None is left out."""
    rows = "".join(
        f"<tr><th scope='row'>{escaped(name)}</th><td>{escaped(value)}</td></tr>"
        for name, value in pairs
        if value is not None
    )
    return f"<table class='facts'>{rows}</table>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    Args:
        head: Titles, as text.
        rows: Cells, as markup (see `cells`).
    """
    titles = "".join(f"<th scope='col'>{escaped(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
