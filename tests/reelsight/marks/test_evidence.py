"""A trace as JSON and as a page, made of hostile names: signed, read again, safe to open."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

from reelsight.errors import MarkError
from reelsight.marks.evidence import (
    parse_trace,
    sign_trace,
    trace_document,
    trace_page,
    trace_schema,
    trace_signer,
)
from reelsight.marks.evidence.drawing import agreement_strip
from reelsight.nouns.mark_trace import (
    Accused,
    ChainProof,
    FrameUse,
    LedgerHead,
    LedgerSource,
    ModelUse,
    NullCalibration,
    Power,
    Suspect,
    Trace,
    Trials,
    Verdict,
    WindowResult,
)
from reelsight.signing import generate_key, public_key

EVIL = "<script>alert(1)</script>\"'&\u202e"
# The smallest JPEG that is one: a grey pixel.
PIXEL = (
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////"
    "////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
ROOT = Path(__file__).parents[3]


def synthetic(name: str = "anna", verdict: Verdict = "IDENTIFIED") -> Trace:
    """A trace of everything that a trace can hold."""
    head = LedgerHead("0f" * 16, 812, "c" * 64, "2026-11-21T18:00:00.000000Z")
    code = "f0e2fb3df0d6bb20"
    bits = [1 if bit == "1" else -1 for bit in f"{int(code, 16):064b}"]
    pooled = tuple(
        (0.4 + (i * 37 % 64) / 40) * bit * (-0.3 if i in (9, 40) else 1)
        for i, bit in enumerate(bits)
    )
    source = LedgerSource("QX3V7A2M5K6TBN4D", name, f"{name} film", "screener", "t", "reelmark 1")
    proof = ChainProof(
        411, "a" * 64, json.dumps({"recipient": name}), ("b" * 64,) * 400, head, "sig"
    )
    numbers = (0.0, 24.0, 61.2, 66.0, 62, 64, -17.1, -10.9, -15.9)
    first = Accused(source, *numbers, code, "5a" * 16, "d" * 64, proof)
    other = replace(source, serial="AAAA7A2M5K6TBN4D", recipient=f"{name} the second")
    second = replace(first, source=other, start_s=24.0, end_s=48.0, log10_p_adjusted=-7.2)
    runner = replace(second, log10_p_adjusted=0.0, code=None, copy_key=None, proof=None)
    windows = tuple(
        WindowResult(a, b, s, p)
        for a, b, s, p in [
            (0.0, 48.0, source.serial, -4.1),
            (0.0, 24.0, source.serial, -10.9),
            (24.0, 48.0, other.serial, -7.2),
            *((6.0 * g, 6.0 * g + 6, (source if g < 4 else other).serial, -3.5) for g in range(8)),
        ]
    )
    frames = tuple(
        FrameUse(i / 2, 1.0 + i % 3, 0.97, 0.8 + i % 5 / 30, PIXEL if i % 2 else None)
        for i in range(40)
    )
    return Trace(
        verdict=verdict,
        statement=f"The picture carries the mark of the copy of {name}.",
        suspect=Suspect(name, "e" * 64, "2026-11-20T09:00:00.000000Z", 48_120_334, 48.0),
        accused=(first, second) if verdict == "MULTIPLE" else (first,),
        runner_up=runner,
        margin=40.2,
        joint_log10_p_adjusted=-12.0,
        trials=Trials(10_000, 2, 1, 15, 0),
        identified=1e-6,
        probable=1e-3,
        windows=windows,
        frames=frames,
        pooled=pooled,
        view=name,
        presence=0.97,
        power=Power(64, -11.2, 0.042, ((0.0, 1.0), (0.05, 0.94), (0.1, 0.55))),
        left_out={f"not asked for {name}": 12},
        head=head,
        models=(ModelUse("extractor", name, "9" * 64),),
        calibration=NullCalibration(10.5, 4200, -2.1, 0),
        rerun=f"reelsight mark trace {name}",
        code_version="0.1",
        made_at="2026-11-21T18:00:01.000000Z",
    )


def test_a_document_is_read_again() -> None:
    for verdict in get_args(Verdict):
        trace = synthetic(EVIL, verdict)
        document = trace_document(trace)
        assert parse_trace(document) == trace
        assert trace_document(parse_trace(document)) == document


@pytest.mark.parametrize("change", [{"verdict": "GUILTY"}, {"format": "reelsight-trace/2"}])
def test_what_is_no_trace_is_refused(change: dict[str, str]) -> None:
    whole = json.loads(trace_document(synthetic())) | change
    with pytest.raises(MarkError, match="trace"):
        parse_trace(json.dumps(whole).encode())
    with pytest.raises(MarkError, match="no trace"):
        parse_trace(b"{}")


def test_the_signature_is_over_every_byte() -> None:
    key = generate_key()
    document = trace_document(synthetic())
    signature = sign_trace(document, key)
    trusted = (public_key(generate_key()), public_key(key))
    assert trace_signer(document, signature, trusted) == trusted[1]
    for place in range(0, len(document), len(document) // 50):
        changed = bytearray(document)
        changed[place] ^= 1
        assert trace_signer(bytes(changed), signature, trusted) is None
    assert trace_signer(document, signature, trusted[:1]) is None
    assert trace_signer(document, b"rubbish", trusted) is None


def test_the_schema_names_every_field_and_verdict() -> None:
    schema = trace_schema()
    whole = json.loads(trace_document(synthetic()))
    assert set(schema["properties"]) == set(whole)
    assert schema["properties"]["verdict"]["enum"] == list(get_args(Verdict))
    assert set(schema["required"]) == set(whole) - {"format"}


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(params=get_args(Verdict))
def evil(request: pytest.FixtureRequest) -> tuple[str, Page]:
    text = trace_page(synthetic(EVIL, request.param))
    return text, Page(text)


def test_nothing_of_a_name_is_markup(evil: tuple[str, Page]) -> None:
    text, page = evil
    assert not page.open
    assert "script" not in page.tags
    assert "<script" not in text
    assert "alert(1)" in page.text  # It is there, as text.
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in text  # What turns text around could show another name.


def test_a_page_fetches_nothing(evil: tuple[str, Page]) -> None:
    text, page = evil
    sources = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert sources
    assert all(
        value is not None and value.startswith("data:image/jpeg;base64,") for value in sources
    )
    assert not {"link", "iframe", "object", "form", "a"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:", text)
    policy = dict(page.attributes)["content"]
    assert "default-src 'none'" in text
    assert policy is not None


def test_a_page_says_what_a_lawyer_asks() -> None:
    trace = synthetic("anna", "IDENTIFIED")
    text = Page(trace_page(trace)).text
    for wanted in (
        "IDENTIFIED",
        trace.statement,
        "What this report does not show",
        "10,000",
        trace.suspect.sha256,
        trace.head.hash,
        "62 of 64",
        "10.5 hours of unmarked footage",
        "reelsight mark trace anna",
        "QX3V7A2M5K6TBN4D",
        "f0e2fb3df0d6bb20",
    ):
        assert wanted in text, wanted
    quiet = replace(trace, verdict="NO_EVIDENCE", accused=(), runner_up=None, calibration=None)
    text = Page(trace_page(quiet)).text
    assert "It may be a copy all the same" in text
    assert "f0e2fb3df0d6bb20" not in text


def test_bars_that_disagree_have_another_colour() -> None:
    drawn = agreement_strip([1.0, 1.0, -1.0, 1.0, -1.0, -1.0, -1.0, -1.0], "d0")  # 1101 0000
    assert re.findall(r"fill='(#\w+)'", drawn) == ["#25496b"] * 8
    drawn = agreement_strip([-1.0, 1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 2.0], "d0")
    assert re.findall(r"fill='(#\w+)'", drawn).count("#e07a72") == 2
