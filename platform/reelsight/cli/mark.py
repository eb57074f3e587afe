"""`reelsight mark`: issue marked copies, and make the tenant keys that they depend on.

How a copy is embedded and how a clip is traced have modules of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import mark_embed, mark_match, mark_trace, options
from reelsight.cli.console import print_json, show_lines
from reelsight.cli.mark_pair import LedgerOption, PairOption, load, user

if TYPE_CHECKING:
    from reelsight.marks.ledger import Issued
    from reelsight.nouns.mark import Carrier, Identity
    from reelsight.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Marked copies: keys, issue, embed, trace, match.")
app.command(name="embed")(mark_embed.command)
app.command(name="trace")(mark_trace.command)
app.command(name="match")(mark_match.command)

_CONFLICT = "config.conflict"


@app.command()
def issue(
    asset: Annotated[str, typer.Option("--asset", help="Name of the asset in your catalogue.")],
    recipient: Annotated[
        str, typer.Option("--recipient", help="Who gets the copy; a pseudonym is best.")
    ],
    carrier: Annotated[
        str | None,
        typer.Option("--carrier", help="MODEL@VERSION that will put the mark in; else the pair."),
    ] = None,
    pair: PairOption = None,
    channel: Annotated[str, typer.Option("--channel", help="How it goes out.")] = "file",
    asset_file: Annotated[
        Path | None, typer.Option("--asset-file", help="The unmarked asset, to be hashed.")
    ] = None,
    asset_sha256: Annotated[
        str | None, typer.Option("--asset-sha256", help="Its sha256, where it is known.")
    ] = None,
    valid_from: Annotated[
        str | None, typer.Option("--valid-from", help="ISO 8601; default the moment of issue.")
    ] = None,
    epoch: Annotated[
        int, typer.Option("--epoch", min=0, help="Counts copies to the same recipient.")
    ] = 0,
    psnr_db: Annotated[
        float | None, typer.Option("--psnr-db", help="Of the marked copy, where known.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="How the copy is encoded, where known.")
    ] = None,
    operator: Annotated[
        str | None, typer.Option("--operator", help="Who issues; default your user name.")
    ] = None,
    code_file: Annotated[
        Path | None,
        typer.Option("--code-file", help="New file (mode 0600) for the code, for the embedder."),
    ] = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Write a copy into the ledger; its code goes into --code-file and nowhere else."""
    from reelsight.digest import file_sha256
    from reelsight.errors import ConfigError
    from reelsight.marks.keys import Keyring
    from reelsight.marks.ledger import Ledger, Order, open_store
    from reelsight.marks.times import parse_time

    if (asset_file is None) == (asset_sha256 is None):
        raise ConfigError("one of --asset-file and --asset-sha256 is wanted", code=_CONFLICT)
    if code_file is not None and code_file.exists():
        raise ConfigError(f"{code_file} exists", code=_CONFLICT)
    settings = load(config, ledger, pair)
    order = Order(
        identity=_identity(asset, recipient, epoch),
        asset_sha256=asset_sha256 or file_sha256(_there(asset_file)),
        channel=channel,
        carrier=_carrier(carrier, settings),
        valid_from=parse_time(valid_from) if valid_from else None,
        bits=settings.marks.bits,
        psnr_db=psnr_db,
        encoder=encoder,
    )
    keyring = Keyring.load(settings.marks)
    wait_s = settings.marks.ledger_wait_s
    with open_store(settings.ledger, create=True, wait_s=wait_s) as store:
        issued = Ledger(store, keyring).issue(order, operator or user())
    if code_file is not None:
        _write_private(code_file, f"{issued.code.data.hex()}\n")
    _tell(issued, settings.ledger, code_file, json_)


def _tell(issued: Issued, ledger: str, code_file: Path | None, as_json: bool) -> None:
    from reelsight.redaction import redacted

    row, where = issued.row, redacted(ledger)
    if as_json:
        print_json(
            {
                "serial": row.serial,
                "row": row.index,
                "hash": row.hash,
                "created": issued.created,
                "at": row.at,
                "ledger": where,
                "code_file": None if code_file is None else str(code_file),
            }
        )
        return
    what = "issued" if issued.created else "was issued before,"
    lines = [f"row {row.index} of {where}, {row.hash}"]
    if code_file is not None:
        lines.append(f"code in {code_file}: whoever has it can forge this copy's mark")
    show_lines(f"{row.serial} {what} {row.at}", lines)


def _identity(asset: str, recipient: str, epoch: int) -> Identity:
    from reelsight.errors import MarkError
    from reelsight.nouns.mark import Identity

    try:
        return Identity(asset, recipient, epoch)
    except ValueError as error:
        raise MarkError(str(error)) from None


def _carrier(text: str | None, settings: Settings) -> Carrier:
    from engines.mark_catalog import pair_of
    from reelsight.errors import ConfigError
    from reelsight.nouns.mark import Carrier
    from reelsight.nouns.mark_pair import MarkPair

    if text is None:
        return MarkPair.load(pair_of(settings)).carrier
    model, at, version = text.partition("@")
    if not at:
        raise ConfigError(f"--carrier wants MODEL@VERSION, got {text!r}")
    return Carrier(model, version)


@app.command()
def keygen(
    output: Annotated[Path, typer.Argument(help="File for the tenant key; it must not exist.")],
    json_: options.JsonOption = False,
) -> None:
    """Make a tenant key, from which every codeword is derived, into a file of mode 0600."""
    from reelsight.marks.keys import TenantKey, generate_tenant_key

    key = generate_tenant_key()
    _write_private(output, f"{key}\n")
    facts = {"file": str(output), "id": TenantKey.parse(key).id}
    if json_:
        print_json(facts)
        return
    show_lines(
        f"key {facts['id']} is in {output}",
        [
            "set marks.key_file to it where copies are issued and traced, never on GPU workers",
            "keep a copy in a safe: without it no copy can be traced, with it every one be forged",
        ],
    )


def _write_private(path: Path, text: str) -> None:
    """A new file of mode 0600.

    Raises:
        ConfigError: It is there, or cannot be written.
    """
    import os

    from reelsight.errors import ConfigError

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", code="config.key") from None


def _there(path: Path | None) -> Path:
    from reelsight.errors import FetchError

    if path is None or not path.is_file():
        raise FetchError(f"no asset at {path}")
    return path
