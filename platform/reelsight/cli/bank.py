"""`reelsight bank`: build, show and list label banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Label banks: build, show, list.")


@app.command()
def build(
    definition: Annotated[Path, typer.Argument(help="labels.yaml")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the bank to this file.")
    ] = None,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Embed the labels with the model's text tower and release the bank."""
    from engines.catalog import recipe_for
    from reelsight.labels import BankDefinition, BankShelf, build_bank_for, save_bank

    settings = options.load(config, model=model, engine=engine)
    written = BankDefinition.load(definition)
    bank = build_bank_for(recipe_for(settings), written)
    path = save_bank(bank, output) if output else BankShelf(settings.banks_dir).put(bank)
    facts = {"name": bank.name, "hash": bank.hash, "labels": len(bank), "path": str(path)}
    if json_:
        print_json(facts)
    else:
        show_table(
            ["bank", "hash", "labels", "file"], [[bank.name, bank.hash[:12], len(bank), path]]
        )


@app.command()
def show(
    bank: Annotated[
        str | None, typer.Argument(help="Name or file; default the model's own bank.")
    ] = None,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Show a bank's labels, prompts and thresholds."""
    import json

    from engines.catalog import recipe_for
    from reelsight.errors import BankError
    from reelsight.labels import BankShelf, own_bank

    settings = options.load(config, model=model, engine=engine)
    own = own_bank(recipe_for(settings))
    if own is not None and bank in (None, own.name):
        found = own
    elif bank is not None:
        found = BankShelf(settings.banks_dir).find(bank)
    else:
        raise BankError("the model came without a bank; name one", code="bank.missing")
    if json_:
        print_json(json.loads(found.document()) | {"hash": found.hash})
        return
    show_table(
        ["label", "threshold", "prompts", "aliases"],
        [
            (
                label.name,
                f"{label.threshold:.3f}",
                "; ".join(label.prompts),
                ", ".join(name for names in label.aliases.values() for name in names),
            )
            for label in found.labels
        ],
        title=f"{found.name} {found.hash[:12]}, for {found.model} {found.model_hash[:12]}",
    )


@app.command(name="list")
def list_(config: options.ConfigOption = None, json_: options.JsonOption = False) -> None:
    """List the banks on the shelf and the one that is shipped."""
    from engines.catalog import EMBEDDED_MODEL, find_model
    from reelsight.errors import BankError
    from reelsight.labels import BANK_SUFFIX, BankShelf, load_bank

    settings = options.load(config)
    shipped = find_model(EMBEDDED_MODEL, settings.cache_dir).directory / f"labels{BANK_SUFFIX}"
    paths = [shipped, *BankShelf(settings.banks_dir).paths()]
    rows: list[dict[str, str | int]] = []
    for path in paths:
        try:
            bank = load_bank(path)
        except BankError as error:  # One damaged file is a line, not the end of the list.
            rows.append({"name": path.name, "error": error.message, "path": str(path)})
            continue
        rows.append(
            {
                "name": bank.name,
                "hash": bank.hash,
                "model": bank.model,
                "labels": len(bank),
                "path": str(path),
            }
        )
    if json_:
        for row in rows:
            print_json(row)
        return
    show_table(
        ["bank", "hash", "model", "labels", "file"],
        [
            (
                row["name"],
                str(row.get("hash", "damaged"))[:12],
                row.get("model"),
                row.get("labels"),
                row["path"],
            )
            for row in rows
        ],
    )
