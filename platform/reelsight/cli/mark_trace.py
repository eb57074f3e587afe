"""`reelsight mark trace`: whose copy a clip is, for people, as JSON and as a page of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines
from reelsight.cli.mark_pair import LedgerOption, PairOption, kept_heads, load, opened_to_trace

if TYPE_CHECKING:
    from engines.runtimes.ort_marks import OpenPair
    from reelsight.marks.tracing import Tracer
    from reelsight.media.sampler import Sampling
    from reelsight.nouns.clip import Clip
    from reelsight.nouns.frames import Frames
    from reelsight.nouns.mark import SoftBits
    from reelsight.nouns.mark_trace import Accused, Trace
    from reelsight.settings import Settings

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a suspect."""

    clip: Clip
    frames: Frames
    attempts: Sequence[SoftBits]


def command(
    clip: Annotated[str, typer.Argument(help="The clip that was found: a file or uri.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the evidence as a page here.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the evidence as JSON here.")
    ] = None,
    sign_with: Annotated[
        Path | None,
        typer.Option("--sign-with", help="Private Ed25519 key; signs --output into FILE.sig."),
    ] = None,
    asset: Annotated[
        str | None, typer.Option("--asset", help="Compare copies of this asset alone.")
    ] = None,
    received_at: Annotated[
        str | None,
        typer.Option("--received-at", help="ISO 8601; default now. Later copies are out."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Frames that are read, as for `reelsight decode`."),
    ] = None,
    search: Annotated[
        bool | None,
        typer.Option(
            "--search/--no-search",
            help="Also look for cuts to the middle and a border; every view is counted.",
        ),
    ] = None,
    tried_before: Annotated[
        int, typer.Option("--tried-before", min=0, help="Views tried at this clip in other traces.")
    ] = 0,
    segment_s: Annotated[
        float | None,
        typer.Option("--segment-s", help="Trace rotating pads of such segments, seconds."),
    ] = None,
    head: Annotated[
        list[Path] | None, typer.Option("--head", help="A ledger's head that was kept elsewhere.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Of the extractor, such as int8-fp32: a package of `engine build --pair`; "
            "marks.precision by default.",
        ),
    ] = None,
    pair: PairOption = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Say whose copy a clip is, with a bound on the chance that an innocent is named."""
    from reelsight.errors import ConfigError
    from reelsight.marks.inquiry import Inquiry, open_tracer, sound_head
    from reelsight.marks.keys import Keyring
    from reelsight.marks.ledger import open_store
    from reelsight.marks.times import parse_time, utc_now
    from reelsight.media.sampler import Sampling

    if sign_with is not None and output is None:
        raise ConfigError("--sign-with wants --output: that is signed", code="config.conflict")
    received = utc_now() if received_at is None else parse_time(received_at)
    settings = load(config, ledger, pair, precision)
    policy = settings.marks.policy if policy is None else policy
    search = settings.marks.search if search is None else search
    sampling = Sampling.parse(policy)
    networks = opened_to_trace(settings)
    keyring = Keyring.load(settings.marks)

    asked = Inquiry(networks.pair.carrier, networks.writer.bits, received, asset, segment_s)
    with open_store(settings.ledger, wait_s=settings.marks.ledger_wait_s) as store:
        sound = sound_head(store, kept_heads(head or []))
        read = _read(clip, settings, networks, sampling, search)
        tracer = open_tracer(store, keyring, settings.marks, sound, asked)
        rerun = [clip, "--pair", str(networks.pair.directory), "--received-at", received]
        rerun += ["--policy", policy, *([] if search else ["--no-search"])]
        rerun += [] if asset is None else ["--asset", asset]
        if settings.marks.precision != "fp32":
            rerun += ["--precision", settings.marks.precision]
        rerun += [] if segment_s is None else ["--segment-s", f"{segment_s:g}"]
        trace = _traced(tracer, read, networks, received, rerun, tried_before)
    _write(trace, report, output, sign_with)
    if json_:
        print_json(trace)
    else:
        _show(trace, report, output)


def _read(
    uri: str, settings: Settings, networks: OpenPair, sampling: Sampling, search: bool
) -> _Read:
    from reelsight.copies.reading import read_marks
    from reelsight.copies.views import PLAIN, SEARCH
    from reelsight.engine import EngineHost
    from reelsight.media.decoder import open_decoder
    from reelsight.media.fetch import fetch

    media = settings.media
    data = fetch(uri, media.limits)
    geometry = networks.reader.spec.geometry
    with closing(open_decoder(media.decoding, sampling)) as decoder:
        clip, frames = decoder.decode(uri, uri, data, sampling, geometry, media.limits)
    with closing(EngineHost(networks.reader)) as host:
        attempts = read_marks(host, clip, frames, SEARCH if search else PLAIN)
    return _Read(clip, frames, attempts)


def _traced(
    tracer: Tracer,
    read: _Read,
    networks: OpenPair,
    received: str,
    rerun: Sequence[str],
    tried_before: int,
) -> Trace:
    import shlex

    from reelsight.copies.thumbnails import thumbnails_of
    from reelsight.marks.account import Circumstances
    from reelsight.nouns.mark_trace import ModelUse, Suspect
    from reelsight.redaction import redacted

    clip, spec = read.clip, networks.reader.spec
    suspect = Suspect(
        name=redacted(clip.uri),
        sha256=clip.sha256 or "",
        received_at=received,
        size_bytes=clip.size_bytes,
        duration_s=clip.duration_s,
    )
    engine = f"{spec.backend}/{spec.backend_version}/{spec.precision}"
    about = Circumstances(
        models=(ModelUse.extractor(networks.pair.carrier, spec.onnx_sha256, engine),),
        tried_before=tried_before,
        rerun=shlex.join(["reelsight", "mark", "trace", redacted(rerun[0]), *rerun[1:]]),
        thumbnails=thumbnails_of(clip, read.frames, read.attempts[0]),
    )
    return tracer.trace(suspect, read.attempts, about)


def _write(trace: Trace, report: Path | None, output: Path | None, sign_with: Path | None) -> None:
    """Evidence opens the codes of whoever is accused: files are for their owner alone."""
    from reelsight.atomic import write_whole
    from reelsight.errors import ConfigError
    from reelsight.marks.evidence import sign_trace, trace_document, trace_page

    if report is not None:
        write_whole(report, trace_page(trace).encode(), mode=0o600)
    if output is None:
        return
    document = trace_document(trace)
    write_whole(output, document, mode=0o600)
    if sign_with is not None:
        try:
            private = sign_with.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {sign_with}: {error.strerror}", code="config.key"
            ) from None
        write_whole(output.with_name(f"{output.name}.sig"), sign_trace(document, private))


def _show(trace: Trace, report: Path | None, output: Path | None) -> None:
    trials, power = trace.trials, trace.power
    lines = [trace.statement, *map(_accused, trace.accused)]
    lines.append(
        f"{sum(frame.weight > 0 for frame in trace.frames)} frames used, best view: {trace.view}; "
        f"{trials.rows} copies x {trials.attempts} views x {trials.windows} windows compared"
    )
    lines += [f"not compared: {count} copies, {why}" for why, count in trace.left_out.items()]
    if power.detectable_error is not None:
        lines.append(f"a copy would have been named with up to {power.detectable_error:.1%} errors")
    lines += [f"evidence: {path}" for path in (report, output) if path is not None]
    show_lines(f"{trace.verdict}  {trace.suspect.name}", lines)


def _accused(one: Accused) -> str:
    source = one.source
    return (
        f"{source.recipient}: copy {source.serial} of {source.asset}, {one.agreeing} of {one.bits} "
        f"bits, {one.start_s:.1f} to {one.end_s:.1f} s, adjusted p 10^{one.log10_p_adjusted:.1f}"
    )
