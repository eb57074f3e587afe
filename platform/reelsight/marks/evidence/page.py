"""A Trace as one HTML page: no scripts, nothing fetched, everything escaped, and printable.

It says what was found, what that means and what it does not, before any number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from reelsight.marks.evidence.document import trace_document
from reelsight.marks.evidence.drawing import agreement_strip, windows_chart
from reelsight.marks.evidence.markup import STYLE, cells, escaped, facts, paragraph, table
from reelsight.marks.wording import odds
from reelsight.nouns.mark_trace import Accused, FrameUse, Trace

__all__ = ["trace_page"]

_MEANING = {
    "IDENTIFIED": "One recipient's copy is in the video, beyond the limit set for naming anybody.",
    "PROBABLE": "One copy fits better than chance explains well. It is not enough to name anybody.",
    "MULTIPLE": "More than one copy took part in the video.",
    "MARKED_UNKNOWN": "The video seems to carry a mark, of no copy that was compared.",
    "NO_EVIDENCE": "No copy was found in the video. It may be a copy all the same.",
    "INSUFFICIENT": "There was too little to look at. Nothing follows from that.",
}
_LIMITS = (
    "It shows that pictures of a marked copy went into the video. It does not show who leaked it: "
    "copies can be stolen from whoever received them.",
    "Whoever held the tenant key, the codeword or the marked copy itself could have put the mark "
    "there. The report opens the codewords of the copies it names: they are spent, and the report "
    "is to be kept as carefully as a copy.",
    "The probabilities hold if the codewords were drawn at random before the video was known, "
    "which the ledger's chain and its kept heads are there to show; they assume nothing about the "
    "extractor, its training, or how alike neighbouring frames are.",
    "Every comparison that was made is counted in the adjusted probability. Attempts that were "
    "made and are not listed under `What was tried` would make it too small.",
)


def trace_page(trace: Trace) -> str:
    """The page.

    Args:
        trace: What was found.

    Returns:
        HTML, complete and self-contained.
    """
    digest = hashlib.sha256(trace_document(trace)).hexdigest()
    parts = [
        _head(trace),
        _suspect(trace),
        *(_accused(trace, number, one) for number, one in enumerate(trace.accused, 1)),
        _comparison(trace),
        _timeline(trace),
        _frames(trace),
        _tried(trace),
        _limits(),
        _provenance(trace, digest),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Trace of {escaped(trace.suspect.name)}: {escaped(trace.verdict)}</title>"
        f"<style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _head(trace: Trace) -> str:
    return (
        "<header><p class='kind'>Report of a leak trace</p>"
        f"<h1>{escaped(trace.suspect.name)}</h1>"
        f"<div class='verdict v-{escaped(trace.verdict.lower())}'>"
        f"<strong>{escaped(trace.verdict.replace('_', ' '))}</strong>"
        f"<span>{escaped(_MEANING[trace.verdict])}</span></div>"
        f"{paragraph(trace.statement)}</header>"
    )


def _suspect(trace: Trace) -> str:
    suspect = trace.suspect
    return "<h2>The video</h2>" + facts(
        ("Name", suspect.name),
        ("sha256", suspect.sha256),
        ("Received", suspect.received_at),
        ("Length", None if suspect.duration_s is None else f"{suspect.duration_s:.1f} s"),
        ("Size", None if suspect.size_bytes is None else f"{suspect.size_bytes:,} bytes"),
        ("Frames read", f"{len(trace.frames)}, {_used(trace.frames)} of them used"),
        ("View", trace.view),
    )


def _accused(trace: Trace, number: int, one: Accused) -> str:
    source = one.source
    title = f"Copy {number}: {source.recipient}" if len(trace.accused) > 1 else source.recipient
    if one.log10_p_adjusted <= math.log10(trace.identified):
        limit = f"beyond the limit for naming (1 in {1 / trace.identified:,.0f})"
    elif one.log10_p_adjusted <= math.log10(trace.probable):
        limit = f"a person has to look (1 in {1 / trace.probable:,.0f}), short of naming"
    else:
        limit = "short of any limit by itself: one of two that fit together"
    body = facts(
        ("Recipient", source.recipient),
        ("Asset", source.asset),
        ("Channel", source.channel),
        ("Serial", source.serial),
        ("Issued", source.issued_at),
        ("Mark", source.carrier),
        ("Where it fits best", f"{one.start_s:.1f} s to {one.end_s:.1f} s"),
        ("Bits that agree", f"{one.agreeing} of {one.bits}"),
        ("Chance, after all that was tried", f"{_chance(one.log10_p_adjusted)}; {limit}"),
        ("Chance, this copy alone", _chance(one.log10_p)),
        ("Statistic T", f"{one.statistic:.4g} of at most {one.most:.4g}"),
        ("By the signs alone (for comparison)", _chance(one.log10_p_hard)),
    )
    more = _strip(trace, number, one) + _proof(one)
    return f"<section><h2>{escaped(title)}</h2>{body}{more}</section>"


def _strip(trace: Trace, number: int, one: Accused) -> str:
    if number != 1 or one.code is None or len(trace.pooled) != 4 * len(one.code):
        return ""
    return (
        "<figure>"
        + agreement_strip(trace.pooled, one.code)
        + "<figcaption>Each bar is one bit: what was read, upward for 1 and downward for 0. Dark "
        "bars agree with the codeword of this copy, light red ones do not.</figcaption></figure>"
    )


def _proof(one: Accused) -> str:
    if one.proof is None:
        return ""
    proof = one.proof
    signed = "signed" if proof.head_signature else "not signed in this report"
    return (
        "<details open><summary>Its row in the ledger</summary>"
        + facts(
            ("Row", f"{proof.index} of ledger {proof.head.ledger}"),
            ("Hash before it", proof.prev),
            ("Content", proof.body),
            ("Leads to", f"{proof.head.hash} (row {proof.head.rows - 1}), {signed}"),
            ("By", f"{len(proof.later)} later rows, whose hashes are in the JSON report"),
            ("Commitment", one.commitment),
            ("Opened by the copy's key", one.copy_key),
            ("which gives the codeword", one.code),
        )
        + "</details>"
    )


def _comparison(trace: Trace) -> str:
    if trace.runner_up is None:
        return ""
    second = trace.runner_up
    rows = [("Best other recipient", second.source.recipient)]
    rows += [("Its copy", f"{second.source.serial} of {second.source.asset}")]
    rows += [("Chance, after all that was tried", _chance(second.log10_p_adjusted))]
    rows += [("Bits that agree", f"{second.agreeing} of {second.bits}")]
    if trace.margin is not None:
        rows += [("T of the best copy less T of this one", f"{trace.margin:.4g}")]
    if trace.joint_log10_p_adjusted is not None and len(trace.accused) > 1:
        both = f"{_chance(trace.joint_log10_p_adjusted)}; small means that one of the two is in it"
        rows += [("Chance that the best two fit with neither in the video", both)]
    return "<h2>Who came next</h2>" + facts(*rows)


def _timeline(trace: Trace) -> str:
    if len(trace.windows) < 2:
        return ""
    return (
        "<h2>Along the video</h2><figure>"
        + windows_chart(trace)
        + "<figcaption>Each bar is a stretch of the video that was compared by itself, the whole "
        "video on top. Filled bars fit a named copy beyond the limit for naming, pale ones beyond "
        "the limit for a person to look.</figcaption></figure>"
    )


def _frames(trace: Trace) -> str:
    if not trace.frames:
        return ""
    shown = sorted(trace.frames, key=lambda f: -f.weight)[:24]
    shown.sort(key=lambda f: f.pts)
    rows = []
    for frame in shown:
        picture = ""
        if frame.thumbnail is not None:
            picture = f"<img alt='' src='data:image/jpeg;base64,{escaped(frame.thumbnail)}'>"
        share = None if frame.agreement is None else f"{frame.agreement:.0%}"
        rows.append(
            (
                picture,
                *cells(f"{frame.pts:.2f} s", f"{frame.weight:.2f}", share, f"{frame.presence:.2f}"),
            )
        )
    more = len(trace.frames) - len(shown)
    note = paragraph(
        f"The {len(shown)} frames of the most weight; {more} more are in the JSON report."
    )
    return (
        "<h2>Frames</h2>"
        + (note if more else "")
        + table(("", "Time", "Weight", "Agrees with the best copy", "Presence (a hint)"), rows)
    )


def _tried(trace: Trace) -> str:
    trials, power = trace.trials, trace.power
    detectable = (
        "no copy could have been named"
        if power.detectable_error is None
        else f"up to {power.detectable_error:.1%} of the bits wrong, with a probability of 95 %"
    )
    rates = [cells(f"{rate:.0%}", f"{chance:.3f}") for rate, chance in power.table]
    calibration = trace.calibration
    null = (
        "none in this report"
        if calibration is None
        else f"{calibration.hours:g} hours of unmarked footage, {calibration.traces:,} traces, "
        f"{calibration.named} named anybody; the least likely: "
        f"{_chance(calibration.lowest_log10_p_adjusted)}"
    )
    return (
        "<h2>What was tried</h2>"
        + facts(
            ("Copies compared", f"{trials.rows:,}"),
            ("Views and extractors", f"{trials.attempts}, and {trials.tried_before} before"),
            ("Windows of the timeline", trials.windows),
            ("Look at a live stream", trials.look or "no stream"),
            ("Videos looked at together", f"{trials.suspects:,}"),
            *((f"Not compared: {why}", f"{n:,} copies") for why, n in trace.left_out.items()),
            ("A copy would have been named with", detectable),
            ("On unmarked footage", null),
        )
        + table(("Bits wrong", "Probability of being named"), rates)
    )


def _limits() -> str:
    items = "".join(f"<li>{escaped(text)}</li>" for text in _LIMITS)
    return f"<h2>What this report does not show</h2><ul>{items}</ul>"


def _provenance(trace: Trace, digest: str) -> str:
    head = trace.head
    return "<h2>How it was made</h2>" + facts(
        ("Made", f"{trace.made_at} by reelsight {trace.code_version}"),
        *((m.role.capitalize(), f"{m.name}, sha256 {m.sha256}") for m in trace.models),
        ("Ledger", f"{head.ledger}, {head.rows:,} rows, {head.hash}, read {head.at}"),
        ("Made again by", trace.rerun),
        ("sha256 of the JSON report", digest),
        ("Format", trace.format),
    )


def _used(frames: Sequence[FrameUse]) -> int:
    return sum(frame.weight > 0 for frame in frames)


def _chance(log10_p: float) -> str:
    """A probability for people, and as a power of ten."""
    return odds(log10_p) if log10_p > -1 else f"{odds(log10_p)} (10^{log10_p:.1f})"
