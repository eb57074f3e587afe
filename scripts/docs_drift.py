"""Keeps the documentation true: what is generated is current, links resolve, the tree is whole.

Run with --write to bring docs/reference.md and the schema of traces up to date; without, it exits
with 1 where anything drifted.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

import reelsight.errors
from reelsight.cli.app import app
from reelsight.errors import ReelsightError
from reelsight.marks.evidence import trace_schema
from reelsight.nouns.schema import MARKS_VERSION, SCHEMA_VERSION, report_schema
from reelsight.settings import Settings

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
TRACE_SCHEMA = ROOT / "docs" / "marks-trace.schema.json"


def main() -> int:
    """Compare or write; returns the exit code."""
    made = {REFERENCE: reference(), TRACE_SCHEMA: json.dumps(trace_schema(), indent=1) + "\n"}
    if "--write" in sys.argv:
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
    problems = [*broken_links(), *untold_directories()]
    problems += [
        f"docs/{path.name} drifted: run `python scripts/docs_drift.py --write`"
        for path, text in made.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    print("\n".join(problems) or "docs are true to the code")
    return 1 if problems else 0


def reference() -> str:
    """The whole of docs/reference.md."""
    sections = {
        "Commands": ("", "| command | what it does |", _commands()),
        "Settings": (
            "By dotted name, for `--set` and YAML; in the environment with the prefix `REELSIGHT_` "
            "and `__` for the dot.",
            "| setting | default |",
            _settings(Settings),
        ),
        "Report columns": (
            f"One row a clip, schema version {SCHEMA_VERSION}; {MARKS_VERSION} where marks were "
            "read, else their column is absent.",
            "| column | type |",
            _columns(),
        ),
        "Errors": (
            "Each class with its default code; the places that raise it narrow the code.",
            "| class | stage | code | HTTP | retryable |",
            _errors(),
        ),
    }
    parts = ["# Reference", "Generated from the code by `scripts/docs_drift.py --write`."]
    for title, (words, head, rows) in sections.items():
        rule = re.sub(r"[^|]+", "---", head)
        parts += [f"## {title}", *([words] if words else []), "\n".join([head, rule, *rows])]
    return "\n\n".join(parts) + "\n"


def broken_links() -> list[str]:
    """Relative links in Markdown files that lead nowhere."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        f"{page.relative_to(ROOT)} links to {target}, which is not there"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]


def untold_directories() -> list[str]:
    """Top-level directories with tracked content that the README's tree does not name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [p for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return [
        f"README.md's tree lacks {p.name}/"
        for p in sorted(found)
        if any(p.rglob("*.*")) and f"{p.name}/" not in readme
    ]


def _commands() -> list[str]:
    root = typer.main.get_command(app)
    rows = []
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        for sub, leaf in sorted(getattr(command, "commands", {"": command}).items()):
            summary = (leaf.help or "").strip().split("\n")[0]
            rows.append(f"| `reelsight {name}{' ' + sub if sub else ''}` | {summary} |")
    return rows


def _settings(kind: Any, prefix: str = "") -> list[str]:
    rows = []
    for name, value in _fields(kind):
        if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
            rows += _settings(value, f"{prefix}{name}.")
        else:
            rows.append(f"| `{prefix}{name}` | `{value}` |")
    return rows


def _fields(kind: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(kind):
        return [(f.name, getattr(kind, f.name)) for f in dataclasses.fields(kind)]
    model: Any = kind if isinstance(kind, type) else type(kind)
    return [
        (name, "a directory of the user's" if field.default_factory else field.default)
        for name, field in model.model_fields.items()
    ]


def _columns() -> list[str]:
    schema = report_schema(1, marks=True)
    rows = [f"| {f.name} | `{f.type}` |".replace("[1]", "[dim]") for f in schema]
    return [*rows, "| carried | struct of the manifest's further columns; absent without any |"]


def _errors() -> list[str]:
    rows = []
    for name in sorted(reelsight.errors.__all__):
        kind = getattr(reelsight.errors, name)
        if isinstance(kind, type) and issubclass(kind, ReelsightError):
            rows.append(
                f"| {name} | {kind.stage} | `{kind.code}` | {kind.http_status} | {kind.retryable} |"
            )
    return rows


if __name__ == "__main__":
    sys.exit(main())
