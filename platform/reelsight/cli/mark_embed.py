"""`reelsight mark embed`: one marked copy of a film, as a file and as a row of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import is_terminal, print_json, show_lines
from reelsight.cli.mark_pair import LedgerOption, PairOption, load, opened, user

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.runtimes.ort_marks import OpenPair
    from reelsight.copies.embedding import EmbeddedCopy
    from reelsight.copies.marker import CodeAt
    from reelsight.marks.keys import Keyring
    from reelsight.nouns.mark import IssuedCopy
    from reelsight.settings import Settings

__all__ = ["command"]


def command(
    asset: Annotated[Path, typer.Argument(help="The unmarked asset that the copy was issued of.")],
    output: Annotated[
        Path, typer.Argument(help="The copy: .mp4, .mov or .mkv; it must not exist.")
    ],
    copy: Annotated[str, typer.Option("--copy", help="Serial of the issued copy.")],
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="PSNR of the mark, dB; marks.strength_db by default."),
    ] = None,
    crf: Annotated[
        float, typer.Option("--crf", help="libx264's constant rate factor: 0 best, 51 smallest.")
    ] = 18.0,
    preset: Annotated[str, typer.Option("--preset", help="libx264's preset.")] = "medium",
    operator: Annotated[
        str | None, typer.Option("--operator", help="Who embeds; default your user name.")
    ] = None,
    pair: PairOption = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Write a marked copy: pictures are encoded anew (H.264), sound and subtitles are copied."""
    from reelsight.copies.embedding import Embedder
    from reelsight.copies.encoder import EncoderSettings
    from reelsight.engine import EngineHost
    from reelsight.marks.keys import Keyring
    from reelsight.marks.ledger import Embedding, Ledger, open_store

    settings = load(config, ledger, pair)
    if strength is not None:
        settings = _stronger(settings, strength)
    encoding = EncoderSettings(crf, preset)
    networks = opened(settings)
    keyring = Keyring.load(settings.marks)
    wait_s = settings.marks.ledger_wait_s
    with open_store(settings.ledger, wait_s=wait_s) as store:
        issued = _issued(Ledger(store), copy)
    code_at = _code_at(issued, keyring, networks, asset)

    def tell(made: EmbeddedCopy) -> None:
        # Opened anew, and to be written: between the two, a film was encoded.
        with open_store(settings.ledger, create=True, wait_s=wait_s) as store:
            embedding = Embedding(made.sha256, round(made.psnr_db, 2), made.encoder)
            Ledger(store).embedded(copy, embedding, operator or user())

    with closing(EngineHost(networks.reader)) as host, _progress() as progress:
        embedder = Embedder(
            networks.writer,
            host,
            settings.media.limits,
            strength_db=settings.marks.strength_db,
            encoding=encoding,
            progress=progress,
        )
        made = embedder.embed(asset, output, code_at, tell)
    _tell(made, issued, copy, output, json_)


def _stronger(settings: Settings, strength_db: float) -> Settings:
    from dataclasses import replace

    marks = replace(settings.marks, strength_db=strength_db)
    return settings.model_copy(update={"marks": marks})


def _issued(ledger: Any, serial: str) -> IssuedCopy:
    from reelsight.errors import LedgerError

    row = ledger.find(serial)
    if row is None or row.copy is None:
        raise LedgerError(
            f"no copy {serial!r} was issued",
            code="ledger.no_copy",
            hint="`reelsight ledger list` has the serials; `reelsight mark issue` issues one.",
        )
    found: IssuedCopy = row.copy
    return found


def _code_at(issued: IssuedCopy, keyring: Keyring, networks: OpenPair, asset: Path) -> CodeAt:
    """What is to be written when; refuses what the row does not speak of."""
    import numpy as np

    from reelsight.digest import file_sha256
    from reelsight.errors import FetchError, MarkError
    from reelsight.marks.codeword import codeword

    key = keyring.get(issued.key_id)
    if key is None:
        raise MarkError(f"tenant key {issued.key_id} is not here", code="mark.no_key")
    if issued.carrier != networks.pair.carrier:
        said, is_ = issued.carrier, networks.pair.carrier
        raise MarkError(
            f"the copy was issued for {said.model}@{said.version}, the pair is "
            f"{is_.model}@{is_.version}",
            code="mark.other_carrier",
            hint="Give the pair that the copy was issued for, or issue the next epoch with --pair.",
        )
    if issued.bits != networks.writer.bits:
        raise MarkError(
            f"a code of {issued.bits} bits for a pair of {networks.writer.bits}",
            code="mark.length",
        )
    if not asset.is_file():
        raise FetchError(f"no asset at {asset}", code="fetch.not_found")
    if file_sha256(asset) != issued.asset_sha256:
        raise MarkError(
            f"{asset} is not the asset that the copy was issued of",
            code="mark.other_asset",
            hint="Its sha256 is in `reelsight ledger list --json`.",
        )
    made: dict[int | None, Any] = {}

    def code_at(at_s: float) -> Any:
        length = issued.segment_s
        segment = None if length is None else int(max(at_s, 0.0) // length)
        if segment not in made:
            signs = codeword(key, issued.identity, issued.bits, segment).signs
            made.clear()
            made[segment] = (signs > 0).astype(np.float32)
        return made[segment]

    return code_at


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """What hears of progress; it is shown to a person only."""
    if not is_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("marking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(made: EmbeddedCopy, issued: IssuedCopy, serial: str, path: Path, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        facts = asdict(made) | {"active": made.active._asdict()}
        print_json({"serial": serial, "file": str(path), **facts})
        return
    box, proof = made.active, made.proof
    lines = [
        f"{made.frames} pictures in {made.duration_s:.1f} s for {issued.identity.recipient}, "
        f"{box.right - box.left}x{box.bottom - box.top} of each marked",
        f"PSNR {made.psnr_db:.2f} dB, SSIM {made.ssim:.4f}, before encoding",
        f"pictures encoded anew: {made.encoder}",
        f"copied as it was: {', '.join(made.copied) or 'nothing else was there'}",
        f"read back: {proof.wrong} of {proof.bits} bits wrong in {proof.frames} pictures, "
        f"p at most 10^{proof.log10_p:.1f}",
    ]
    if made.left_out:
        lines.append(f"left out: {', '.join(made.left_out)}")
    show_lines(f"{path} carries {serial}", lines)
