"""`reelsight ledger`: look at the ledger of issued copies, prove it, and take its head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines, show_table

if TYPE_CHECKING:
    from reelsight.marks.ledger import LedgerRow, LedgerStore, Verification
    from reelsight.nouns.mark_trace import LedgerHead
    from reelsight.settings import Settings

__all__ = ["app", "load"]

app = typer.Typer(no_args_is_help=True, help="The ledger of issued copies: list, verify, head.")

_CONFLICT = "config.conflict"

LedgerOption = Annotated[
    str | None, typer.Option("--ledger", help="SQLite file or postgresql:// URL.")
]


def load(config: Path | None, ledger: str | None) -> Settings:
    """Settings with the ledger that a flag names."""
    from reelsight.settings import Settings

    return Settings.load(config, {"marks.ledger": ledger})


@app.command()
def verify(
    head: Annotated[
        list[Path] | None, typer.Option("--head", help="A head that was kept elsewhere.")
    ] = None,
    trusted_key: Annotated[
        list[str] | None,
        typer.Option("--trusted-key", help="Heads must be signed by one of these (ed25519:...)."),
    ] = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Derive every code again and compare commitments.")
    ] = False,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Prove the chain; names the first bad row and exits with 1 where there is one."""
    from reelsight.errors import ConfigError
    from reelsight.marks.keys import Keyring
    from reelsight.marks.ledger import parse_head, verify_chain

    if trusted_key and not head:
        raise ConfigError("--trusted-key wants --head: nothing else is signed", code=_CONFLICT)
    settings = load(config, ledger)
    heads: list[LedgerHead] = []
    for path in head or []:
        if not path.is_file():
            raise ConfigError(f"no head at {path}", code="config.head")
        kept = parse_head(path.read_text(encoding="utf-8"), str(path))
        if trusted_key:
            kept.require_signed(tuple(trusted_key))
        heads.append(kept.head)
    keyring = Keyring.load(settings.marks) if codes else None
    with _open(settings) as store:
        found = verify_chain(store, heads, keyring)
        name = store.name
    if json_:
        print_json(
            {
                "sound": found.sound,
                "rows": found.head.rows,
                "hash": found.head.hash,
                "ledger": found.head.ledger,
                "bad_row": found.bad_row,
                "problem": found.problem,
                "heads": len(heads),
                "commitments": found.commitments if codes else None,
                "unknown_keys": found.unknown_keys if codes else None,
            }
        )
    else:
        show_lines(name, _words(found, len(heads), codes))
    if not found.sound:
        raise typer.Exit(1)


@app.command(name="list")
def list_(
    asset: Annotated[str | None, typer.Option("--asset", help="Of this asset alone.")] = None,
    recipient: Annotated[
        str | None, typer.Option("--recipient", help="Of this recipient alone.")
    ] = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List issued copies, and how each was embedded."""
    from reelsight.marks.ledger import Ledger

    def wanted(row: LedgerRow) -> bool:
        identity = row.copy.identity if row.copy is not None else None
        if identity is None:
            return row.serial in kept
        return asset in (None, identity.asset) and recipient in (None, identity.recipient)

    kept: dict[str, dict[str, Any]] = {}
    with _open(load(config, ledger)) as store:
        for row in Ledger(store).rows():
            if not wanted(row):
                continue
            if row.copy is not None:
                kept[row.serial] = _facts(row)
            elif row.embedding is not None:
                kept[row.serial] |= {
                    "psnr_db": row.embedding.psnr_db,
                    "encoder": row.embedding.encoder,
                    "output_sha256": row.embedding.output_sha256,
                }
        name = store.name
    if json_:
        for facts in kept.values():
            print_json(facts)
        return
    show_table(
        ["row", "serial", "asset", "recipient", "channel", "issued", "carrier", "PSNR dB"],
        [
            [
                facts[name]
                for name in (
                    *("row", "serial", "asset", "recipient", "channel", "issued", "carrier"),
                    "psnr_db",
                )
            ]
            for facts in kept.values()
        ],
        title=name,
    )


@app.command()
def head(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the head to this file.")
    ] = None,
    sign_with: Annotated[
        Path | None,
        typer.Option("--sign-with", help="Private Ed25519 key, as `engine keygen` has."),
    ] = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Take the ledger's head, for somebody else to keep; a broken chain gives none."""
    from reelsight.atomic import write_whole
    from reelsight.errors import ConfigError, LedgerError
    from reelsight.marks.ledger import SignedHead, sign_head, verify_chain

    with _open(load(config, ledger)) as store:
        found = verify_chain(store)
    if not found.sound:
        raise LedgerError(f"row {found.bad_row}: {found.problem}", code="ledger.broken")
    taken = SignedHead(found.head)
    if sign_with is not None:
        try:
            taken = sign_head(found.head, sign_with.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read {sign_with}: {error.strerror}", code="config.key"
            ) from None
    if output is not None:
        write_whole(output, taken.document().encode())
    if json_ or output is None:
        print(taken.document(), end="")
        return
    show_lines(f"{found.head.rows} rows, {found.head.hash}", [f"in {output}; let others keep it"])


def _open(settings: Settings) -> LedgerStore:
    from reelsight.marks.ledger import open_store

    return open_store(settings.ledger, wait_s=settings.marks.ledger_wait_s)


def _facts(row: LedgerRow) -> dict[str, Any]:
    copy = row.copy
    if copy is None:
        return {}
    return {
        "row": row.index,
        "serial": row.serial,
        "asset": copy.identity.asset,
        "recipient": copy.identity.recipient,
        "epoch": copy.identity.epoch,
        "channel": copy.channel,
        "issued": row.at,
        "valid_from": copy.valid_from,
        "operator": row.operator,
        "carrier": f"{copy.carrier.model}@{copy.carrier.version}",
        "bits": copy.bits,
        "key_id": copy.key_id,
        "asset_sha256": copy.asset_sha256,
        "psnr_db": copy.psnr_db,
        "encoder": copy.encoder,
        "hash": row.hash,
    }


def _words(found: Verification, heads: int, codes: bool) -> list[str]:
    if not found.sound:
        return [
            f"BROKEN at row {found.bad_row}: {found.problem}",
            f"sound before: {found.head.hash}",
        ]
    lines = [f"sound: {found.head.rows} rows, {found.head.hash}"]
    if heads:
        lines.append(f"agrees with {heads} kept heads")
    else:
        lines.append("compared with no kept head: rows cut off the end would not be seen (--head)")
    if codes:
        unknown = f", {found.unknown_keys} of keys that are not here" if found.unknown_keys else ""
        lines.append(f"{found.commitments} commitments are those of the tenant key{unknown}")
    return lines
