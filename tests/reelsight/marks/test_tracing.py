"""Whole traces: one copy, spliced copies, averaged copies, foreign marks, nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reelsight.errors import MarkError
from reelsight.marks.account import Circumstances
from reelsight.marks.codeword import Opening, codeword
from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import Ledger, SignedHead, check_proof, open_store, sign_head
from reelsight.marks.live import LiveTrace
from reelsight.marks.match import CodeTable
from reelsight.marks.policy import Marking
from reelsight.marks.tracing import Tracer
from reelsight.nouns.mark import Identity, SoftBits
from reelsight.nouns.mark_trace import ModelUse, Suspect, Trace
from reelsight.signing import generate_key, public_key
from tests.reelsight.marks.made_copies import frames_of, order, soft_bits

LATER = "2999-01-01T00:00:00.000000Z"
SUSPECT = Suspect("leak.mp4", "f" * 64, LATER)
ROWS = 60


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ledger") / "l"
    with open_store(str(file), create=True) as store:
        ledger = Ledger(store, Keyring((TenantKey(bytes(range(32))),)))
        for i in range(ROWS):
            ledger.issue(order(f"r{i}"), "max")
        for i in range(ROWS):
            ledger.issue(order(f"r{i}", asset="series", pad="rotating", segment_s=4.0), "max")
    return file


@contextmanager
def tracer_of(file: Path, keyring: Keyring, segment_s: float | None = None) -> Iterator[Tracer]:
    with open_store(str(file)) as store:
        ledger = Ledger(store)
        table = CodeTable.of(
            ledger.copies(), keyring, bits=64, received_at=LATER, segment_s=segment_s
        )
        yield Tracer(ledger, keyring, table, SignedHead(store.head()), Marking())


@pytest.fixture
def tracer(ledger_file: Path, keyring: Keyring) -> Iterator[Tracer]:
    with tracer_of(ledger_file, keyring) as made:
        yield made


def accused(trace: Trace) -> list[str]:
    return [one.source.recipient for one in trace.accused]


def test_one_copy_is_identified_with_its_evidence(tracer: Tracer, keyring: Keyring) -> None:
    frames = frames_of(keyring, ["r7"], 12, sigma=1.9)
    models = (ModelUse("extractor", "reelmark", "e" * 64),)
    trace = tracer.trace(SUSPECT, [frames], Circumstances(models=models, rerun="reelsight x"))
    assert (trace.verdict, accused(trace)) == ("IDENTIFIED", ["r7"])
    assert "r7" in trace.statement
    (one,) = trace.accused
    assert one.log10_p_adjusted <= -6
    assert one.log10_p_adjusted > one.log10_p
    assert (trace.trials.rows, trace.trials.attempts, trace.trials.windows) == (ROWS, 1, 5)
    assert trace.left_out == {"its pad is another one": ROWS}
    # What opens the commitment, and what proves the row.
    assert one.code is not None
    assert one.copy_key is not None
    assert one.commitment is not None
    assert one.proof is not None
    assert one.code == codeword(keyring.issuing, Identity("film", "r7"), 64).data.hex()
    assert Opening(one.copy_key).commits_to(one.commitment)
    assert check_proof(one.proof)
    assert f'"recipient":"{one.source.recipient}"' in one.proof.body
    assert one.commitment in one.proof.body
    # The runner-up is named with its numbers, and nothing that would help to forge its mark.
    assert trace.runner_up is not None
    second = trace.runner_up
    assert (second.code, second.copy_key, second.proof) == (None, None, None)
    assert trace.margin == pytest.approx(one.statistic - trace.runner_up.statistic)
    assert one.statistic > second.statistic
    assert one.statistic <= one.most
    signs = codeword(keyring.issuing, Identity("film", "r7"), 64).signs
    assert one.statistic == pytest.approx(float(np.dot(trace.pooled, signs)))
    assert len(trace.frames) == 12
    shares = [frame.agreement for frame in trace.frames if frame.agreement is not None]
    assert 0.6 < float(np.mean(shares)) < 0.8
    assert (trace.models, trace.rerun) == (models, "reelsight x")


def test_a_weak_copy_is_for_a_person_to_look_at(tracer: Tracer, keyring: Keyring) -> None:
    verdicts = {}
    for seed in range(30):
        trace = tracer.trace(SUSPECT, [frames_of(keyring, ["r7"], 4, sigma=2.6, seed=seed)])
        verdicts[trace.verdict] = trace
        limit = trace.accused[0].log10_p_adjusted if trace.accused else 0.0
        assert (trace.verdict == "PROBABLE") == (-6 < limit <= -3)
    assert "A person has to look" in verdicts["PROBABLE"].statement
    assert accused(verdicts["PROBABLE"]) == ["r7"]


def test_a_splice_is_told_from_one_copy(tracer: Tracer, keyring: Keyring) -> None:
    one, other = (frames_of(keyring, [name], 40, sigma=1.2, seed=3) for name in ("r3", "r9"))
    cut = np.arange(40) < 18
    soft = np.where(cut[:, None], one.soft, other.soft)
    trace = tracer.trace(SUSPECT, [soft_bits(soft)])
    assert trace.verdict == "MULTIPLE"
    assert sorted(accused(trace)[:2]) == ["r3", "r9"]
    assert "different parts" in trace.statement
    first, second = sorted(trace.accused[:2], key=lambda a: a.start_s)
    assert first.end_s <= second.start_s
    assert (first.source.recipient, second.source.recipient) == ("r3", "r9")
    # The winner changes along the timeline.
    segments = [w for w in trace.windows if w.end_s - w.start_s <= 2.0]
    assert segments[0].serial == first.source.serial
    assert segments[-1].serial == second.source.serial


def test_two_averaged_copies_are_both_told(tracer: Tracer, keyring: Keyring) -> None:
    trace = tracer.trace(SUSPECT, [frames_of(keyring, ["r3", "r9"], 200, sigma=0.6)])
    assert trace.verdict == "MULTIPLE"
    assert sorted(accused(trace)[:2]) == ["r3", "r9"]
    assert "same part" in trace.statement
    assert trace.joint_log10_p_adjusted is not None
    assert trace.joint_log10_p_adjusted < -12


def test_two_averaged_copies_among_many_are_a_pair_of_which_one_is_in_it(
    tracer: Tracer, keyring: Keyring
) -> None:
    # As if 1000 attempts had been made: neither fits beyond the limit by itself any more.
    about = Circumstances(tried_before=1000)
    frames = frames_of(keyring, ["r3", "r9"], 200, sigma=0.6)
    trace = tracer.trace(SUSPECT, [frames], about)
    assert trace.verdict == "MULTIPLE"
    assert all(-6 < one.log10_p_adjusted <= -3 for one in trace.accused)
    assert "at least one of the two" in trace.statement
    assert "not shown" in trace.statement
    # A pair can be beyond the limit where neither is worth a look by itself.
    trace = tracer.trace(SUSPECT, [frames], Circumstances(tried_before=1_000_000))
    assert (trace.verdict, sorted(accused(trace))) == ("MULTIPLE", ["r3", "r9"])
    assert all(one.log10_p_adjusted > -3 for one in trace.accused)


def test_beside_a_copy_that_is_named_a_pair_accuses_nobody(
    tracer: Tracer, keyring: Keyring
) -> None:
    guilty, other = (codeword(keyring.issuing, Identity("film", r), 64).signs for r in ("r3", "r9"))
    about = Circumstances(tried_before=1000)
    for share in np.linspace(0, 0.9, 91):
        soft = np.tile(guilty + share * other, (2, 1))
        trace = tracer.trace(SUSPECT, [soft_bits(soft)], about)
        joint, second = trace.joint_log10_p_adjusted, trace.runner_up
        assert joint is not None
        assert second is not None
        if joint <= -6 and second.log10_p_adjusted > -3:
            break
    else:
        pytest.fail("no share makes a pair that is worse than its better half")
    assert (trace.verdict, accused(trace)) == ("IDENTIFIED", ["r3"])
    assert second.copy_key is None


def test_three_averaged_copies_name_nobody_who_is_innocent(
    tracer: Tracer, keyring: Keyring
) -> None:
    guilty = {"r3", "r9", "r20"}
    for seed in range(5):
        trace = tracer.trace(SUSPECT, [frames_of(keyring, sorted(guilty), 200, 0.6, seed)])
        assert set(accused(trace)) <= guilty


def test_rotating_pads_name_both_of_two_colluders(ledger_file: Path, keyring: Keyring) -> None:
    rng = np.random.default_rng(1)
    soft = np.concatenate(
        [
            np.mean(
                [
                    codeword(keyring.issuing, Identity("series", r), 64, g).signs
                    for r in ("r3", "r9")
                ],
                axis=0,
            )
            + rng.standard_normal((8, 64))
            for g in range(4)
        ]
    )
    # Far more trials than a static code of 64 bits would bear.
    with tracer_of(ledger_file, keyring, segment_s=4.0) as tracer:
        trace = tracer.trace(SUSPECT, [soft_bits(soft)], Circumstances(tried_before=10**9))
    assert (trace.verdict, sorted(accused(trace))) == ("MULTIPLE", ["r3", "r9"])
    (one, _) = trace.accused
    assert (one.bits, one.code) == (4 * 64, None)
    # What is opened gives the code of every segment.
    opened = Opening(one.copy_key or "")
    assert opened.commits_to(one.commitment or "")
    for segment in range(4):
        wanted = codeword(keyring.issuing, Identity("series", one.source.recipient), 64, segment)
        assert opened.codeword(64, segment) == wanted
    assert trace.accused[0].log10_p_adjusted < -6


def test_a_rotating_pad_is_traced_over_many_segments(ledger_file: Path, keyring: Keyring) -> None:
    rng = np.random.default_rng(2)
    identity = Identity("series", "r5")
    signs = [codeword(keyring.issuing, identity, 64, g).signs for g in range(40)]
    soft = np.repeat(np.array(signs, dtype=np.float64), 8, axis=0)
    soft += 4 * rng.standard_normal(soft.shape)
    with tracer_of(ledger_file, keyring, segment_s=4.0) as tracer:
        trace = tracer.trace(SUSPECT, [soft_bits(soft)])
    assert (trace.verdict, accused(trace)) == ("IDENTIFIED", ["r5"])
    assert (trace.accused[0].bits, len(trace.windows)) == (40 * 64, 79)
    shares = [frame.agreement for frame in trace.frames if frame.agreement is not None]
    assert 0.55 < float(np.mean(shares)) < 0.65


def test_times_that_no_video_has_are_refused(ledger_file: Path, keyring: Keyring) -> None:
    frames = frames_of(keyring, ["r5"], 3, sigma=1)
    late = replace(frames, pts=np.array([0.0, 1.0, 1e12]))
    with (
        tracer_of(ledger_file, keyring, segment_s=4.0) as tracer,
        pytest.raises(MarkError) as caught,
    ):
        tracer.trace(SUSPECT, [late])
    assert caught.value.code == "mark.too_long"
    with tracer_of(ledger_file, keyring) as tracer:
        assert len(tracer.trace(SUSPECT, [late]).windows) <= 63


def test_a_foreign_mark_is_no_evidence_against_anybody(tracer: Tracer, keyring: Keyring) -> None:
    frames = frames_of(keyring, ["somebody else"], 40, sigma=1.0)
    present = replace(frames, presence=np.full(40, 0.97, dtype=np.float32))
    trace = tracer.trace(SUSPECT, [present])
    assert (trace.verdict, trace.accused) == ("MARKED_UNKNOWN", ())
    assert "no evidence" in trace.statement
    trace = tracer.trace(SUSPECT, [frames])
    assert (trace.verdict, trace.accused) == ("NO_EVIDENCE", ())
    assert trace.power.detectable_error is not None
    assert f"{trace.power.detectable_error:.1%}" in trace.statement
    assert "does not show that the video is no copy" in trace.statement


def _no_frames(frames: SoftBits) -> SoftBits:
    return soft_bits(np.zeros((0, 64)))


def _no_quality(frames: SoftBits) -> SoftBits:
    return replace(frames, quality=np.zeros(len(frames), dtype=np.float32))


@pytest.mark.parametrize("spoil", [_no_frames, _no_quality])
def test_too_little_to_look_at(
    tracer: Tracer, keyring: Keyring, spoil: Callable[[SoftBits], SoftBits]
) -> None:
    trace = tracer.trace(SUSPECT, [spoil(frames_of(keyring, ["r7"], 5, sigma=0.1))])
    assert (trace.verdict, trace.accused) == ("INSUFFICIENT", ())


def test_more_trials_than_a_code_can_bear_are_insufficient(
    tracer: Tracer, keyring: Keyring
) -> None:
    frames = frames_of(keyring, ["r7"], 30, sigma=0.1)
    trace = tracer.trace(SUSPECT, [frames], Circumstances(tried_before=10**16))
    assert trace.verdict == "INSUFFICIENT"
    assert trace.power.detectable_error is None


def test_an_empty_ledger_has_nothing_to_say(tmp_path: Path, keyring: Keyring) -> None:
    file = tmp_path / "empty"
    open_store(str(file), create=True).close()
    with tracer_of(file, keyring) as tracer:
        trace = tracer.trace(SUSPECT, [frames_of(keyring, ["r7"], 30, sigma=0.1)])
    assert (trace.verdict, trace.trials.rows, trace.runner_up) == ("NO_EVIDENCE", 0, None)


def test_the_view_that_fits_is_found_and_the_others_are_paid_for(
    tracer: Tracer, keyring: Keyring
) -> None:
    good = replace(frames_of(keyring, ["r7"], 8, sigma=1.5), view="mirrored")
    noise = [replace(frames_of(keyring, [], 8, 1.5, seed), view=f"v{seed}") for seed in range(9)]
    alone = tracer.trace(SUSPECT, [good])
    among = tracer.trace(SUSPECT, [*noise, good])
    assert (among.view, accused(among)) == ("mirrored", ["r7"])
    assert among.trials.attempts == 10
    price = among.accused[0].log10_p_adjusted - alone.accused[0].log10_p_adjusted
    assert price == pytest.approx(1)


def test_bias_that_was_measured_on_unmarked_footage_is_taken_off(
    tracer: Tracer, keyring: Keyring
) -> None:
    frames = frames_of(keyring, ["r7"], 8, sigma=1.5)
    biased = replace(frames, soft=frames.soft + np.float32(3))
    with_bias = tracer.trace(SUSPECT, [biased])
    without = tracer.trace(SUSPECT, [biased], Circumstances(null_mean=np.full(64, 3.0)))
    assert without.verdict == "IDENTIFIED"
    # With the bias the copy is found less surely, and never anybody else.
    assert without.accused[0].log10_p < min([one.log10_p for one in with_bias.accused], default=0.0)
    assert set(accused(with_bias)) <= {"r7"}


def test_a_table_of_rows_that_came_after_the_suspect_is_refused(
    tracer: Tracer, keyring: Keyring
) -> None:
    early = replace(SUSPECT, received_at="2026-01-01T00:00:00.000000Z")
    with pytest.raises(MarkError, match="would be compared") as caught:
        tracer.trace(early, [frames_of(keyring, ["r7"], 5, sigma=1)])
    assert caught.value.code == "mark.suspect_too_early"
    # Another spelling of a time does not compare as text.
    zoned = replace(SUSPECT, received_at="2999-01-01T01:00:00+01:00")
    with pytest.raises(MarkError, match="not written as times are compared") as caught:
        tracer.trace(zoned, [frames_of(keyring, ["r7"], 5, sigma=1)])
    assert caught.value.hint == f"Write {LATER}."
    with pytest.raises(MarkError, match="nothing was read"):
        tracer.trace(SUSPECT, [])
    with pytest.raises(MarkError, match="soft bits of 96"):
        tracer.trace(SUSPECT, [soft_bits(np.zeros((3, 96)))])


def test_a_trace_made_again_is_the_same(tracer: Tracer, keyring: Keyring) -> None:
    frames = [frames_of(keyring, ["r7"], 12, sigma=1.9)]
    first, second = (replace(tracer.trace(SUSPECT, frames), made_at="") for _ in range(2))
    assert first == second


def test_a_signed_head_is_in_the_proof(ledger_file: Path, keyring: Keyring) -> None:
    key = generate_key()
    with open_store(str(ledger_file)) as store:
        ledger = Ledger(store)
        signed = sign_head(store.head(), key)
        table = CodeTable.of(ledger.copies(), keyring, bits=64, received_at=LATER)
        tracer = Tracer(ledger, keyring, table, signed, Marking())
        proof = tracer.trace(SUSPECT, [frames_of(keyring, ["r7"], 12, 1.5)]).accused[0].proof
    assert proof is not None
    SignedHead(proof.head, proof.head_signature).require_signed((public_key(key),))


def test_a_stream_is_looked_at_until_it_is_known_and_pays_for_each_look(
    tracer: Tracer, keyring: Keyring
) -> None:
    stream = frames_of(keyring, ["r7"], 40, sigma=3.0)
    live = LiveTrace(tracer, SUSPECT)
    verdicts, prices = [], []
    for start in range(0, 40, 4):
        part = slice(start, start + 4)
        window = replace(
            stream,
            pts=stream.pts[part],
            soft=stream.soft[part],
            quality=stream.quality[part],
            presence=stream.presence[part],
        )
        trace = live.look(window)
        verdicts.append(trace.verdict)
        prices.append(trace.trials.look)
        assert len(trace.frames) == start + 4
    assert prices == list(range(1, 11))
    assert verdicts[0] != "IDENTIFIED"
    assert verdicts[-1] == "IDENTIFIED"
    file = tracer.trace(SUSPECT, [stream])
    price = math.log10(math.pi**2 * 100 / 6)
    assert trace.accused[0].log10_p_adjusted == pytest.approx(
        file.accused[0].log10_p_adjusted + price
    )
    with pytest.raises(MarkError, match="come after"):
        live.look(window)
    with pytest.raises(MarkError, match="one extractor in one view"):
        live.look(replace(window, view="mirrored"))


def test_a_stream_keeps_no_more_than_it_was_told_to(tracer: Tracer, keyring: Keyring) -> None:
    stream = frames_of(keyring, ["r7"], 40, sigma=3.0)
    live = LiveTrace(tracer, SUSPECT, keep_s=5.0)
    trace = live.look(stream)
    assert len(trace.frames) == 11
    assert trace.frames[0].pts == pytest.approx(14.5)
