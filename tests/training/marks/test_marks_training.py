"""A tiny configuration learns on a CPU, survives a kill, repeats bit for bit, and ships a pair."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
for _name in ("onnx", "onnxscript"):
    pytest.importorskip(_name, reason=f"{_name} is not installed: pip install 'reelsight[export]'")

from engines.runtimes.ort_marks import open_pair  # noqa: E402
from tests.reelsight.media.process_tree import children  # noqa: E402
from training.marks.__main__ import main  # noqa: E402
from training.marks.codec_pool import CodecPool  # noqa: E402
from training.marks.film import Pair  # noqa: E402
from training.marks.pictures import load_pictures  # noqa: E402
from training.marks.recipe import TINY  # noqa: E402
from training.marks.schedule import Schedule  # noqa: E402
from training.marks.synthetic import draw_pictures  # noqa: E402
from training.marks.trainer import Trainer  # noqa: E402

ROOT = Path(__file__).parents[3]
STEPS = 150


@dataclass
class Finished:
    """A run and its directory."""

    work: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photo_pack: Path) -> Finished:
    """The tiny recipe, trained to its end."""
    work = tmp_path_factory.mktemp("marks")
    words = ["--work", str(work), "--data", str(photo_pack), "--recipe", "tiny", "--cpu"]
    status = main([*words, "--steps", str(STEPS), "--workers", "1", "--minutes", "4"])
    assert status == 0
    return Finished(work, json.loads((work / "metrics.json").read_text(encoding="utf-8")))


def test_it_learns_to_read_bits(finished: Finished) -> None:
    warm, last = finished.rows
    assert warm["gate"]["passed"]
    assert warm["gate"]["reached"] > 0.9
    gates = last["evaluation"]["gates"]
    assert gates["clean"] > 0.9
    assert gates["h264-28 pooled"] > 0.85
    assert last["evaluation"]["presence_auc"] > 0.8
    assert last["coded_steps"] >= STEPS // 5 - 2
    # What is asked for is what it costs, but for rounding and clipping.
    assert last["evaluation"]["psnr"] == pytest.approx(last["evaluation"]["strength_db"], abs=0.8)


def test_the_runtime_takes_the_exported_pair(finished: Finished) -> None:
    opened = open_pair(finished.work / "final")
    assert (opened.writer.size, opened.writer.bits) == (TINY.shape.size, TINY.shape.bits)
    assert opened.pair.recipe == TINY.name
    luma = draw_pictures(2, opened.writer.size, seed=78)
    pair = Pair(finished.work / "final", threads=1)
    logits, presence = pair.read(luma)
    rows = opened.reader.run(np.repeat(luma[..., None], 3, axis=-1))
    np.testing.assert_allclose(rows, np.column_stack([logits, presence]), atol=1e-4)
    bits = np.random.default_rng(6).integers(0, 2, pair.bits).astype(np.float32)
    drawn = opened.writer.residual(luma[0], bits, 36.0)
    np.testing.assert_allclose(drawn, pair.residual(luma[:1], bits, 36.0)[0], atol=1e-4)


def test_the_exported_pair_marks_and_reads_a_picture(finished: Finished) -> None:
    pair = Pair(finished.work / "final", threads=1)
    assert (pair.size, pair.bits) == (TINY.shape.size, TINY.shape.bits)
    luma = draw_pictures(6, pair.size, seed=77)
    bits = np.random.default_rng(5).integers(0, 2, pair.bits).astype(np.float32)
    residual = pair.residual(luma, bits, 30.0)
    rms = np.sqrt((residual**2).mean((1, 2)))
    np.testing.assert_allclose(rms, 255 / 10 ** (30 / 20), rtol=1e-3)
    marked = np.clip(luma + residual + 0.5, 0, 255).astype(np.uint8)
    logits, presence = pair.read(marked)
    assert ((logits > 0) == (bits > 0.5)).mean() > 0.85
    assert ((logits.mean(0) > 0) == (bits > 0.5)).mean() > 0.9
    other = pair.residual(luma, 1 - bits, 30.0)
    flipped, _ = pair.read(np.clip(luma + other + 0.5, 0, 255).astype(np.uint8))
    assert ((flipped.mean(0) > 0) == (bits > 0.5)).mean() < 0.1
    assert presence.mean() > pair.read(luma)[1].mean()


def test_the_card_names_files_data_and_measures(finished: Finished) -> None:
    card = (finished.work / "final" / "CARD.md").read_text(encoding="utf-8")
    assert "Photographs: 36" in card
    assert "h264-28" in card
    assert "$" not in card
    for name in ("embedder.onnx", "extractor.onnx"):
        assert name in card


def _trainer(work: Path, pool: CodecPool) -> Trainer:
    device = torch.device("cpu")
    pictures = load_pictures(TINY, None, work, device)
    # The real encoders begin at step 8 of 10.
    return Trainer(TINY, Schedule(TINY, 10), pictures, pool, device, patient=True)


def _advance(trainer: Trainer, steps: int) -> None:
    while trainer.step < steps:
        trainer.train_step()
        trainer.spent += 1


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    sizes = {"clips": 12, "frames": TINY.frames, "side": max(TINY.sides)}
    # Each begins by seeding the generators that all of them draw from.
    whole = _trainer(tmp_path, CodecPool(0, **sizes))
    _advance(whole, 13)
    first = _trainer(tmp_path, CodecPool(0, **sizes))
    _advance(first, 11)
    # A clip is with the encoder when the run stops.
    assert not first.line.empty
    first.save(tmp_path / "checkpoint.pt")
    second = _trainer(tmp_path, CodecPool(0, **sizes))
    second.load(tmp_path / "checkpoint.pt")
    _advance(second, 13)
    assert second.coded == whole.coded > 2
    for nets in ("nets", "average"):
        expected = getattr(whole, nets).state_dict()
        for name, value in getattr(second, nets).state_dict().items():
            assert torch.equal(value, expected[name]), name


def _command(work: Path, *words: str) -> list[str]:
    fixed = ("--work", str(work), "--recipe", "tiny", "--cpu", "--workers", "1", "--steps", "4000")
    return [sys.executable, "-m", "training.marks", *fixed, *words]


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    paths = os.pathsep.join((str(ROOT / "platform"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "checkpoint.pt"
    with subprocess.Popen(
        _command(tmp_path, "--save", "0", "--report", "0"),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        # A step is reported before it is saved, so two reports tell of one checkpoint.
        reports = (line for line in process.stdout if line.startswith('{"stage"'))
        assert [next(reports) for _ in range(2)]
        encoders = [os.pidfd_open(child) for child in children(process.pid)]
        process.send_signal(signal.SIGKILL)
    # A process that encodes does not outlive its owner.
    assert encoders
    for descriptor in encoders:
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
    reached = torch.load(checkpoint, weights_only=True)["counts"][0]
    assert 0 < reached < 4000
    stop = str(reached + 2)
    again = subprocess.run(
        _command(tmp_path, "--stop-after", stop),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"step {reached}," in again.stdout
    assert again.stdout.splitlines()[-1] == f"to be continued at step {stop}"


def test_what_is_left_of_the_schedule_fits_the_last_call(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, CodecPool(0, clips=12, frames=TINY.frames, side=max(TINY.sides)))
    trainer.spent = 4.0
    trainer.stretch(90.0)
    assert trainer.place().overall == pytest.approx(0.4)
    trainer.spent += 45.0
    assert trainer.place().overall == pytest.approx(0.7)
    trainer.spent += 45.0
    assert trainer.place().overall == pytest.approx(1.0)
