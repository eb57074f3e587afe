"""Train reelsight-mini: python -m training.mini.train --photos DIR --out DIR --minutes 8.

A sigmoid loss (SigLIP: https://arxiv.org/abs/2303.15343, equation 1) over a matrix of images and
phrases whose truth is known for every pair: a phrase is true of an image when all its labels are.
Frames come from processes into a ring on the device and are seen a few times before they are
overwritten; phrases are worded anew in every step. A run ends after --minutes and goes on from its
checkpoint; the schedule spans --total-minutes of training.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelsight.samples.vocabulary import labels, names
from training.mini.captions import caption
from training.mini.dataset import SIZE, SPLITS, FrameFactory, Photos, fixed_set
from training.mini.tower import MEAN, STD, build_model, config
from training.mini.wording import build_tokenizer, encode, with_dropout


class Ring:
    """Frames on the device and their truth; new chunks overwrite the oldest.

    Args:
        capacity: Frames held.
        device: Where.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.frames = torch.empty((capacity, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
        self.truth = np.zeros((capacity, len(names())), bool)
        self.filled = 0
        self.received = 0
        self._at = 0

    def put(self, frames: np.ndarray, truth: np.ndarray) -> None:
        """Copy one chunk in."""
        count, capacity = len(frames), len(self.frames)
        if self._at + count > capacity:
            self._at = 0
        target = slice(self._at, self._at + count)
        self.frames[target] = torch.from_numpy(frames).to(self.frames.device)
        self.truth[target] = truth
        self._at += count
        self.received += count
        self.filled = max(self.filled, self._at)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, np.ndarray]:
        """A random batch: uint8 [count, SIZE, SIZE, 3] on the device and bool [count, labels]."""
        rows = rng.integers(0, self.filled, count)
        return self.frames[torch.from_numpy(rows).to(self.frames.device)], self.truth[rows]


def pixels(frames: Tensor) -> Tensor:
    """Normalised float32 [n, 3, SIZE, SIZE] from uint8 frames."""
    mean = torch.tensor(MEAN, device=frames.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=frames.device).view(1, 3, 1, 1)
    return (frames.permute(0, 3, 1, 2).float() / 255 - mean) / std


def phrases(
    rng: np.random.Generator, truth: np.ndarray, each: int, joint: int
) -> tuple[list[str], np.ndarray]:
    """Texts of one step and what they name.

    Args:
        rng: Source of the wording.
        truth: Bool [n, labels]; joint captions are taken from its rows, so that they are true of
            some image.
        each: Phrases of every single label.
        joint: Captions of two or three labels.

    Returns:
        The texts, and bool [texts, labels].
    """
    every = names()
    texts: list[str] = []
    rows: list[list[int]] = []
    for index, name in enumerate(every):
        for _ in range(each):
            texts.append(caption(rng, [name]))
            rows.append([index])
    several = np.flatnonzero(truth.sum(1) > 1)
    for row in rng.permutation(several)[:joint].tolist():
        there = np.flatnonzero(truth[row])
        picks = rng.permutation(there)[: int(rng.integers(2, 4))].tolist()
        texts.append(caption(rng, [every[i] for i in picks]))
        rows.append(picks)
    needs = np.zeros((len(rows), len(every)), bool)
    for index, row_labels in enumerate(rows):
        needs[index, row_labels] = True
    return texts, needs


def sigmoid_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """SigLIP's loss, summed over phrases and averaged over images; logits [images, phrases]."""
    signs = positive.float() * 2 - 1
    return -torch.nn.functional.logsigmoid(logits * signs).sum(1).mean()


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over labels of average precision; scores and truth [images, labels]."""
    values = []
    for column in range(truth.shape[1]):
        hits = truth[np.argsort(-scores[:, column], kind="stable"), column]
        if hits.any():
            values.append(float((np.cumsum(hits) / (np.arange(len(hits)) + 1))[hits].mean()))
    return float(np.mean(values))


class Trainer:
    """One run.

    Args:
        options: Command line options.
        device: Where to train.
    """

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.model = build_model().to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
            lr=options.rate,
            betas=(0.9, 0.98),
        )
        # Both keep their tensors for life: loading a state copies into them.
        self._means = [v for v in self.average.state_dict().values() if v.is_floating_point()]
        self._nows = [v for v in self.model.state_dict().values() if v.is_floating_point()]
        self.spent = 0.0
        self.step = 0
        self.tokenizer = with_dropout(options.out / "tokenizer.json", 0.08)
        self.rng = np.random.default_rng([options.seed, 1])

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.spent, self.step = state["spent"], state["step"]
        self.rng = np.random.default_rng([self.options.seed, 1, self.step])

    def start_from(self, path: Path) -> None:
        """Begin a new schedule at the averaged weights of another run."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["average"])
        self.average.load_state_dict(state["average"])

    def save(self, path: Path) -> None:
        """Write a checkpoint, complete or not at all, and beside it the averaged weights alone."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "spent": self.spent,
            "step": self.step,
        }
        draft = path.with_suffix(".part")
        torch.save(state, draft)
        draft.replace(path)
        torch.save({"average": self.average.state_dict()}, path.with_name("average.pt"))

    def rate(self) -> float:
        """Learning rate now: a short warm-up, then half a cosine over the whole schedule."""
        progress = min(1.0, self.spent / (self.options.total_minutes * 60))
        warm = min(1.0, (self.step + 1) / 200)
        return float(
            self.options.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        )

    def train_step(self, ring: Ring) -> Tensor:
        """One update; gives the loss, on the device."""
        frames, truth = ring.draw(self.rng, self.options.batch)
        texts, needs = phrases(self.rng, truth, self.options.each, self.options.joint)
        tokens = torch.from_numpy(encode(self.tokenizer, texts)).to(self.device)
        there = torch.from_numpy(truth).to(self.device).float()
        wanted = torch.from_numpy(needs).to(self.device).float()
        positive = (there @ wanted.T) >= wanted.sum(1)[None, :] - 0.5
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            batch = pixels(frames).contiguous(memory_format=torch.channels_last)
            seen = self.model.encode_image(batch, normalize=True)
            said = self.model.encode_text(tokens, normalize=True)
        scale = self.model.logit_scale.clamp(max=math.log(60)).exp()
        logits = scale * seen.float() @ said.float().T + self.model.logit_bias
        loss = sigmoid_loss(logits, positive)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self._follow()
        self.step += 1
        return loss.detach()

    def _follow(self) -> None:
        """Move the averaged weights toward the current ones."""
        keep = min(0.999, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._nows, 1 - keep)

    def validate(self, frames: np.ndarray, truth: np.ndarray) -> float:
        """Mean average precision of the averaged weights with the first phrases as prompts."""
        with torch.no_grad():
            return self._validate(frames, truth)

    def _validate(self, frames: np.ndarray, truth: np.ndarray) -> float:
        tokenizer = with_dropout(self.options.out / "tokenizer.json", 0.0)
        bank = []
        for label in labels():
            tokens = torch.from_numpy(encode(tokenizer, list(label.phrases[:6]))).to(self.device)
            bank.append(self.average.encode_text(tokens, normalize=True).mean(0))
        matrix = torch.nn.functional.normalize(torch.stack(bank), dim=1)
        scores = [
            self.average.encode_image(
                pixels(torch.from_numpy(frames[at : at + 256]).to(self.device)), normalize=True
            )
            @ matrix.T
            for at in range(0, len(frames), 256)
        ]
        return mean_average_precision(torch.cat(scores).float().cpu().numpy(), truth)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--total-minutes", type=float, default=16.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--joint", type=int, default=96)
    parser.add_argument("--ring", type=int, default=120_000)
    parser.add_argument("--fill", type=int, default=8_000, help="frames before the first step")
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--validate", type=int, default=2000, help="frames; 0 for none")
    parser.add_argument("--start", type=Path, help="average.pt of an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train until the minutes are over."""
    options = arguments()
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    tokenizer_file = options.out / "tokenizer.json"
    if not tokenizer_file.exists():
        text_cfg = config()["text_cfg"]
        build_tokenizer(text_cfg["vocab_size"], text_cfg["context_length"]).save(
            str(tokenizer_file)
        )
    held = None
    if options.validate:
        held = fixed_set(options.photos, SPLITS["threshold"], options.validate, options.workers)
    epoch = int(time.time()) if checkpoint.exists() else options.seed
    photos = Photos(options.photos, SPLITS["train"])
    factory = FrameFactory(
        photos, SPLITS["train"], workers=options.workers, chunk=64, slots=64, epoch=epoch
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    trainer = Trainer(options, device)
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif options.start is not None:
        trainer.start_from(options.start)
    ring = Ring(options.ring, device)
    print(
        f"photos {len(photos.pixels)}, device {device}, ready {time.monotonic() - started:.0f} s",
        flush=True,
    )
    _loop(trainer, ring, factory, held, started)
    factory.close()
    trainer.save(checkpoint)


def _loop(trainer: Trainer, ring: Ring, factory: FrameFactory, held: Any, started: float) -> None:
    options = trainer.options
    while ring.received < options.fill:
        for chunk in factory.take(wait=True):
            ring.put(*chunk)
    before, reported, saved, losses = trainer.spent, time.monotonic(), time.monotonic(), []
    begun, first_step, log = time.monotonic(), trainer.step, options.out / "log.jsonl"
    while time.monotonic() - started < options.minutes * 60:
        for chunk in factory.take(wait=False):
            ring.put(*chunk)
        losses.append(trainer.train_step(ring))
        now = time.monotonic()
        trainer.spent = before + now - begun
        if now - reported > 20:
            row: dict[str, Any] = {
                "step": trainer.step,
                "spent_s": round(trainer.spent),
                "loss": round(float(torch.stack(losses).mean()), 4),
                "rate": trainer.rate(),
                "steps_s": round((trainer.step - first_step) / (now - begun), 2),
                "frames_made": ring.received,
                "scale": trainer.model.logit_scale.exp().item(),
                "bias": trainer.model.logit_bias.item(),
            }
            if held is not None and now - saved > 55:
                row["map"] = round(trainer.validate(*held), 4)
                trainer.save(options.out / "checkpoint.pt")
                saved = time.monotonic()
            print(json.dumps(row), flush=True)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            reported, losses = time.monotonic(), []


if __name__ == "__main__":
    main()
