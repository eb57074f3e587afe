"""`reelsight keys`: who may use the HTTP door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines, show_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="API keys of the HTTP door: add, list, revoke.")

_FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="Keys file; default serve.keys_file, or keys.yaml in data_dir."),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="tags, embeddings, labels:read, labels:write, jobs or admin; repeat."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames-per-minute", help="Frames it may have looked at.")
    ] = None,
    file: _FileOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Make a key and print it, this once."""
    from reelsight.keyring import add_key

    path = file or options.load(config).keys_file
    key, entry = add_key(path, name, scope or ["tags"], frames)
    facts = {"key": key, "id": entry.id, "name": entry.name, "scopes": list(entry.scopes)}
    if json_:
        print_json(facts | {"frames_per_minute": entry.frames_per_minute, "file": str(path)})
        return
    print(key)
    show_lines(
        f"Key {entry.id} of {entry.name}: keep it, it is shown once.",
        [f"scopes: {', '.join(entry.scopes)}", f"its hash is in {path}"],
    )


@app.command(name="list")
def list_(
    file: _FileOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List the keys: ids, names and scopes, nothing secret."""
    from reelsight.keyring import load_keyring

    ring = load_keyring(file or options.load(config).keys_file)
    rows = [key.model_dump(mode="json", exclude={"sha256"}) for key in ring.keys]
    if json_:
        for row in rows:
            print_json(row)
        return
    columns = ["id", "name", "scopes", "frames_per_minute", "created"]
    show_table(columns, [[row[column] for column in columns] for row in rows])


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(help="Its id or name.")],
    file: _FileOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Take a key away; servers that run notice within a second."""
    from reelsight.keyring import revoke_key

    entry = revoke_key(file or options.load(config).keys_file, which)
    if json_:
        print_json({"revoked": entry.id, "name": entry.name})
    else:
        show_lines(f"Key {entry.id} of {entry.name} is revoked.", [])
