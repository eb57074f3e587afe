"""A small ViT whose weights are trained: distilled from the image tower of reelsight-mini.

Frames of known truth are composed by processes, each of which also asks the teacher, on ONNX
Runtime; the student then learns the teacher's embeddings and what the label bank makes of them. It
lives in the teacher's space, so the teacher's text tower is its own. Every stage leaves its result
in the work directory and is skipped where that is there. How good a low precision is on these
weights is not asked here: see `trained`.
"""

# ruff: noqa: E402  # Packages must be declared before anything imports them: see _declare_bare.

from __future__ import annotations

import importlib.util
import json
import math
import multiprocessing as mp
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


def _declare_bare(package: str, *needs: str) -> None:
    """Make a package's modules importable where its __init__ needs what is not installed.

    A machine lent for its GPU has neither PyAV nor a web stack, and nothing here decodes a video.
    """
    if all(importlib.util.find_spec(need) for need in needs):
        return
    spec = importlib.util.find_spec(package)
    if spec is not None:
        parent, _, name = package.rpartition(".")
        sys.modules[package] = importlib.util.module_from_spec(spec)
        setattr(sys.modules[parent], name, sys.modules[package])


_declare_bare("reelsight.samples", "av", "pyarrow")
_declare_bare("reelsight.labels", "pydantic", "yaml")
_declare_bare("reelsight.engine", "pyarrow")

import numpy as np
import numpy.typing as npt

from engines.export.model_directory import file_entry, write_model_directory
from engines.export.openclip import export_image_tower
from engines.export.openclip_import import import_open_clip
from engines.export.parity import image_parity
from engines.gate.gate import embed_frames
from engines.precision.frameset import FrameSet, degraded
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.labels.bank_file import load_bank, save_bank
from reelsight.models import MINI
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.model import Model
from reelsight.samples.backgrounds import procedural
from reelsight.samples.canvas import Pixels
from reelsight.samples.vocabulary import names
from training.mini.dataset import SPLITS, Photos, make_frame, truth_row
from training.mini.scoring import best_threshold
from training.mini.tower import MEAN, STD

__all__ = [
    "SETS",
    "Frames",
    "Recipe",
    "clock",
    "compose_sets",
    "distil",
    "say",
    "set_clock",
    "trained_already",
]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

STUDENT = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 224,
        "layers": 6,
        "width": 256,
        "head_width": 64,
        "patch_size": 16,
    },
    # Never trained and never exported: open_clip makes no image tower without a text tower.
    "text_cfg": {"context_length": 24, "vocab_size": 2048, "width": 64, "heads": 1, "layers": 1},
}
_NAME = "mini-vit-6x256-p16"
_BLOCK = 50
_BUCKET = 25
# Weight of the labels beside the embedding: the sum over the labels is some ten times larger.
_LABELS_WEIGHT = 0.1
_REPORT_S = 10.0
_started = [time.monotonic()]


@dataclass(frozen=True, slots=True)
class SetKind:
    """One set of frames.

    Attributes:
        seed: First word of all its seeds; no other set and no split of the teacher's training has
            it.
        degraded: Whether the second half holds the degraded forms of the first.
    """

    seed: int
    degraded: bool


SETS = {
    "train": SetKind(6001, False),
    "threshold": SetKind(6002, False),
    "calibration": SetKind(6003, True),
    "heldout": SetKind(6005, True),
}


@dataclass(frozen=True, slots=True)
class Frames:
    """A composed set.

    Attributes:
        pixels: uint8 [n, 224, 224, 3].
        truth: bool [n, L], in the order of the vocabulary. A degraded frame has its clean form's,
            though a crop may have cut a label's mark away.
        rows: float32 [n, dim], the teacher's embeddings, L2-normalised.
    """

    pixels: npt.NDArray[np.uint8]
    truth: Bools
    rows: Floats

    @classmethod
    def load(cls, work: Path, name: str) -> Frames:
        """Read what compose_sets() wrote."""
        pixels, truth, rows = (np.load(work / f"{name}.{part}.npy", "r") for part in _PARTS)
        return cls(pixels, truth, rows)


# The last one that is written says that the set is whole.
_PARTS = ("pixels", "truth", "rows")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the student is trained.

    Attributes:
        seconds: Of training; the schedule spans them.
        batch: Frames a step.
        rate: Peak of the learning rate.
        device: `cuda` or `cpu`.
        threads: CPU threads of the exported student while its thresholds are fitted.
    """

    seconds: float
    batch: int
    rate: float
    device: str
    threads: int


def say(words: str) -> None:
    """Print a line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _started[0]:6.1f} s] {words}", flush=True)


def clock() -> float:
    """When the run started; its child processes are to be told with set_clock()."""
    return _started[0]


def set_clock(started: float) -> None:
    """Count seconds from another process's start."""
    _started[0] = started


def _teacher_bank() -> LabelBank:
    """The shipped bank; its labels are the vocabulary's, in its order."""
    bank = load_bank(MINI / "labels.bank.safetensors")
    if tuple(label.name for label in bank.labels) != tuple(names()):
        raise SystemExit("the shipped bank has other labels than the vocabulary")
    return bank


class _Grounds(Photos):
    """Procedural pictures where training took photographs."""

    def __init__(self) -> None:
        self.files, self.pixels = [], []

    def draw(self, rng: np.random.Generator) -> Pixels:
        width, height = (int(side) for side in rng.integers(230, 500, 2))
        return procedural(rng, width, height)


def compose_sets(
    work: Path, counts: dict[str, int], *, workers: int, photos: Path | None = None
) -> None:
    """Compose sets and ask the teacher about them; the same counts give the same frames.

    Call it before the first use of a GPU: it forks.

    Args:
        work: Where the sets are kept.
        counts: Frames by the name of a set, the degraded ones included; rounded up to blocks.
        workers: Processes.
        photos: JPEG files to lay the training set's scenes on, beside procedural pictures.
    """
    missing = {n: c for n, c in counts.items() if not (work / f"{n}.{_PARTS[-1]}.npy").exists()}
    if not missing:
        return
    with mp.get_context("fork").Pool(workers, _adopt, (photos,)) as pool:
        for name, count in missing.items():
            blocks = math.ceil(count / (_BLOCK * (1 + SETS[name].degraded)))
            tasks = [(name, index) for index in range(blocks)]
            _gather(work, name, blocks, pool.imap(_block, tasks))


def _gather(work: Path, name: str, blocks: int, made: Any) -> None:
    kind = SETS[name]
    half = blocks * _BLOCK
    parts: dict[str, npt.NDArray[Any]] = {}
    for index, block in enumerate(made):
        for part, values in zip(_PARTS, block, strict=True):
            if part not in parts:
                shape = (half * (1 + kind.degraded), *values.shape[1:])
                parts[part] = np.empty(shape, values.dtype)
            parts[part][index * _BLOCK : (index + 1) * _BLOCK] = values[:_BLOCK]
            if kind.degraded:
                at = half + index * _BLOCK
                parts[part][at : at + _BLOCK] = values[_BLOCK:]
    for part in _PARTS:
        np.save(work / f"{name}.{part}.npy", parts[part])
    say(f"{name}: {len(parts['rows'])} frames composed")


_adopted: dict[str, Any] = {}


def _adopt(photos: Path | None) -> None:
    _adopted["grounds"] = _Grounds()
    _adopted["train"] = Photos(photos, SPLITS["train"]) if photos else _adopted["grounds"]
    _adopted["teacher"] = OrtCpuEngine(Model.load(MINI), buckets=(_BUCKET,))


def _block(task: tuple[str, int]) -> tuple[Pixels, Bools, Floats]:
    name, index = task
    kind = SETS[name]
    rng = np.random.default_rng([kind.seed, index])
    # Photographs are laid under every second block, so that both kinds of ground are seen.
    photographic = name == "train" and index % 2 == 0
    made = [
        make_frame(rng, _adopted["train" if photographic else "grounds"]) for _ in range(_BLOCK)
    ]
    pixels = np.stack([frame for frame, _ in made])
    truth = np.stack([truth_row(true) for _, true in made])
    if kind.degraded:
        worse = degraded(FrameSet(pixels), kind.seed * 100_000 + index).frames
        pixels, truth = np.concatenate([pixels, worse]), np.concatenate([truth, truth])
    return pixels, truth, embed_frames(_adopted["teacher"], pixels)


def trained_already(work: Path) -> bool:
    """Whether a student is there; it needs no training set then."""
    return (work / "student" / "model.json").exists() or (work / "student.pt").exists()


def distil(work: Path, recipe: Recipe) -> tuple[Path, Path]:
    """The student's model directory and its bank; trained where they are not there yet.

    The bank is the teacher's with thresholds fitted to the student on the threshold set, as the
    teacher's own were.
    """
    directory, bank_file = work / "student", work / "student.bank.safetensors"
    if not (directory / "model.json").exists():
        checkpoint = work / "student.pt"
        if not checkpoint.exists():
            _train(work, recipe, checkpoint)
        _write(_loaded(checkpoint), directory)
        say(f"student exported and checked: {directory}")
    if not bank_file.exists():
        _fit_bank(work, Model.load(directory), bank_file, recipe.threads)
        say("student's thresholds fitted")
    return directory, bank_file


def _student() -> Any:
    open_clip = import_open_clip()
    # The constructor rather than a named configuration: it needs no file and leaves no name behind.
    return open_clip.model.CLIP(**STUDENT)


def _loaded(checkpoint: Path) -> Any:
    import torch

    model = _student()
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return model.float().eval()


def _train(work: Path, recipe: Recipe, checkpoint: Path) -> None:
    """Cosine distance to the teacher's embedding, and cross entropy to its label confidences."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, normalize

    torch.manual_seed(0)
    bank, frames, device = _teacher_bank(), Frames.load(work, "train"), torch.device(recipe.device)
    model = _student().to(device).train()
    weights = list(model.visual.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.02)
    pixels, rows = (torch.from_numpy(a.copy()).to(device) for a in (frames.pixels, frames.rows))
    matrix = torch.from_numpy(bank.matrix.copy()).to(device)
    thresholds = torch.from_numpy(bank.thresholds).to(device)
    draw = torch.Generator(device).manual_seed(1)
    say(f"student: {sum(w.numel() for w in weights) / 1e6:.1f} M weights, {len(rows)} frames")
    begun = reported = time.monotonic()
    step, part = 0, 0.0
    while part < 1:
        for group in optimizer.param_groups:
            group["lr"] = (
                recipe.rate * min(1, (step + 1) / 200) * (1 + math.cos(math.pi * part)) / 2
            )
        picked = torch.randint(0, len(rows), (recipe.batch,), generator=draw, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            seen = model.encode_image(_normalised(pixels[picked]))
        seen, wanted = normalize(seen.float(), dim=-1), rows[picked]
        said, taught = (bank.logit_scale * (r @ matrix.T - thresholds) for r in (seen, wanted))
        labels = binary_cross_entropy_with_logits(said, taught.sigmoid(), reduction="none")
        distance = 1 - (seen * wanted).sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        (distance + _LABELS_WEIGHT * labels.sum(1).mean()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        now = time.monotonic()
        if now - reported > _REPORT_S:
            say(f"step {step}, 1 - cosine to the teacher {distance.item():.4f}")
            reported = now
        part = (now - begun) / recipe.seconds
    draft = checkpoint.with_suffix(".part")
    torch.save(model.state_dict(), draft)
    draft.replace(checkpoint)
    say(f"student trained: {step} steps of {recipe.batch}, last distance {distance.item():.4f}")


def _normalised(frames: Any) -> Any:
    # The teacher's means and deviations are the same in every channel.
    return (frames.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]


def _write(model: Any, directory: Path) -> None:
    teacher = Model.load(MINI)

    def fill(scratch: Path) -> dict[str, Any]:
        image = scratch / "image.onnx"
        export_image_tower(model, image, geometry=teacher.geometry, mean=MEAN, std=STD)
        image_parity(model, image, geometry=teacher.geometry, mean=MEAN, std=STD).check()
        document: dict[str, Any] = json.loads((MINI / "model.json").read_text(encoding="utf-8"))
        files = {"image": file_entry(image)}
        for kind, source in (("text", teacher.text), ("tokenizer", teacher.tokenizer)):
            shutil.copyfile(source, scratch / source.name)
            files[kind] = file_entry(scratch / source.name)
        return {**document, "name": _NAME, "files": files}

    write_model_directory(directory, fill)


def _fit_bank(work: Path, student: Model, path: Path, threads: int) -> None:
    bank, frames = _teacher_bank(), Frames.load(work, "threshold")
    engine = OrtCpuEngine(student, buckets=(_BUCKET,), threads=threads)
    scores = embed_frames(engine, frames.pixels) @ bank.matrix.T
    labels = tuple(
        replace(label, threshold=best_threshold(scores[:, column], frames.truth[:, column])[0])
        for column, label in enumerate(bank.labels)
    )
    fitted = replace(bank, model=student.name, model_hash=student.hash, labels=labels)
    save_bank(fitted, path)
