"""The networks in training: one step, the averaged weights, and a checkpoint that goes on exactly.

Counted in steps on a CPU, a run that was stopped and resumed ends in the same weights, bit for bit:
the state holds every generator and the clips that were on their way through an encoder. Counted in
minutes, or on a GPU, it goes on where it was without that promise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelsight.errors import ConfigError, first_line
from training.marks.attacks import ATTACKS, AttackDraw
from training.marks.batches import Batch, new_clips, new_stills, seen_by_extractor
from training.marks.clip_line import ClipLine, MarkedClips, draw_jobs
from training.marks.codec_pool import CodecPool
from training.marks.embedder import Embedder
from training.marks.extractor import Extractor
from training.marks.losses import (
    bit_loss,
    pooled_loss,
    presence_loss,
    visibility_penalty,
    weighted,
    wrong_share,
)
from training.marks.pictures import Pictures
from training.marks.recipe import Recipe
from training.marks.schedule import Place, Schedule
from training.marks.visibility import visibility_map

__all__ = ["Networks", "Trainer"]

_PRESENCE, _POOLED = 0.1, 0.5
_CLIP_NORM = 1.0
_FORMAT = 1


class Networks(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """The pair."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.embedder = Embedder(recipe.shape, seed)
        self.extractor = Extractor(recipe.shape)


class Trainer:
    """One run.

    Args:
        recipe: What is trained.
        schedule: Over the run's budget.
        pictures: Both splits.
        pool: Real encoders.
        device: Where.
        seed: Of weights, carriers and every draw.
        patient: Wait for the encoders in every step, so that a run repeats exactly.
        compiled: Whether torch compiles the extractor.
    """

    def __init__(
        self,
        recipe: Recipe,
        schedule: Schedule,
        pictures: dict[str, Pictures],
        pool: CodecPool,
        device: torch.device,
        *,
        seed: int = 0,
        patient: bool = False,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.schedule, self.pictures, self.device = recipe, schedule, pictures, device
        self.rng = np.random.default_rng([seed, 3])
        self.nets = Networks(recipe, seed).to(device)
        self.nets.extractor.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.nets).eval().requires_grad_(False)
        # Both keep their tensors for life: loading a state copies into them.
        self._means = [v for v in self.average.state_dict().values() if v.is_floating_point()]
        self._nows = [v for v in self.nets.state_dict().values() if v.is_floating_point()]
        self._read: Callable[[Tensor], tuple[Tensor, Tensor]] = self.nets.extractor
        if compiled:
            self._read = torch.compile(self.nets.extractor)
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=recipe.rate, betas=(0.9, 0.98), fused=device.type == "cuda"
        )
        self.line = ClipLine(pool, recipe.shape.size, recipe.keyframe, device)
        self.pool, self.patient = pool, patient
        self.draw = AttackDraw(device)
        self.step, self.stage, self.coded, self.extended = 0, 0, 0, 0
        self.spent, self.seconds = 0.0, 0.0
        self.seen: dict[str, Tensor] = {}

    def _groups(self) -> list[dict[str, Any]]:
        named = list(self.nets.extractor.named_parameters())
        return [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
            {"params": list(self.nets.embedder.parameters()), "weight_decay": 0.0},
        ]

    def place(self) -> Place:
        """Where the run stands."""
        return self.schedule.place(self.spent, self.stage)

    def train_step(self) -> None:
        """One update; `seen` then holds what a report may show, on the device."""
        place = self.place()
        self._set(place)
        coded = self._next_clips(place)
        embedder, stage = self.nets.embedder, place.stage
        clips = coded
        if clips is None and stage.clips:
            clips, _ = new_clips(self.recipe, self.pictures["train"], place, self.recipe.shape.size)
        stills = new_stills(embedder, self.pictures["train"], place, self._stills(place))
        batch = seen_by_extractor(
            stills, clips, embedder, self.recipe.keyframe, self.draw, place, self.rng
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._fast()):
            logits, presence = self._answers(batch.luma)
        terms = self._terms(batch, logits.float(), presence.float())
        if stage.visibility and stage.embedder:
            half = len(stills.luma) // 2
            visible = visibility_map(stills.luma[:half])
            penalty = visibility_penalty(stills.residual[:half], visible)
            terms["visibility"] = (stage.visibility, penalty)
        loss = weighted(terms)
        # The device is still busy with what was launched; encoders work while gradients are made.
        self.line.send()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.nets.parameters(), _CLIP_NORM)
        self.optimizer.step()
        self._follow()
        self._note(batch, logits, loss, coded)
        self.step += 1

    def _answers(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return self._read(luma)
        # The boundary to torch's compiler, which fails in many ways; eager training goes on.
        except Exception as error:
            if self._read is self.nets.extractor:
                raise
            print(f"not compiled: {first_line(error)}", flush=True)
            self._read = self.nets.extractor
            return self._read(luma)

    def _fast(self) -> bool:
        return bool(self.device.type == "cuda")

    def _stills(self, place: Place) -> int:
        return (self.recipe.batch - place.stage.clips * self.recipe.frames) // 2 * 2

    def _set(self, place: Place) -> None:
        stage = place.stage
        self.nets.train()
        self.nets.embedder.guide.requires_grad_(stage.guide)
        self.nets.embedder.carriers.requires_grad_(stage.embedder)
        self.nets.embedder.fast = self._fast()
        for nets in (self.nets, self.average):
            nets.embedder.masking.fill_(place.between(stage.masking))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(place, self.step)

    def _next_clips(self, place: Place) -> MarkedClips | None:
        """Clips that came back from the encoders; the next ones are sent on their way."""
        if not place.stage.codecs:
            return None
        back = self.line.take(wait=self.patient)
        if self.line.empty:
            side = int(self.rng.choice(self.recipe.sides))
            clips, source = new_clips(self.recipe, self.pictures["train"], place, side)
            jobs = draw_jobs(
                self.rng, place.stage.codecs, len(clips.bits), place.between(place.stage.strength)
            )
            self.line.start(self.nets.embedder, clips, source, jobs)
        return back if back is not None and len(back.bits) == place.stage.clips else None

    def _terms(
        self, batch: Batch, logits: Tensor, presence: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        terms = {"bits": (1.0, bit_loss(logits, batch.bits, batch.carried))}
        if batch.stills < len(logits):
            clips = slice(batch.stills, None)
            pooled = pooled_loss(
                logits[clips], batch.bits[clips], batch.carried[clips], self.recipe.frames
            )
            terms["pooled"] = (_POOLED, pooled)
        terms["presence"] = (_PRESENCE, presence_loss(presence, batch.carried))
        return terms

    def _note(self, batch: Batch, logits: Tensor, loss: Tensor, coded: MarkedClips | None) -> None:
        with torch.no_grad():
            wrong = wrong_share(logits, batch.bits)
            stills = batch.stills
            ours = batch.carried[:stills] > 0
            # Rows without our mark say nothing about an attack.
            draws = batch.draws[:stills] & ours[:, None]
            self.draw.learn(draws, wrong[:stills])
            weight = batch.carried[:stills]
            right = 1 - (wrong[:stills] * weight).sum() / weight.sum().clamp(min=1)
            self._mean("stills", right)
            self._mean("loss", loss.detach())
            if coded is not None:
                self.coded += 1
                weight = batch.carried[stills:]
                right = 1 - (wrong[stills:] * weight).sum() / weight.sum().clamp(min=1)
                self._mean("coded", right)

    def _mean(self, name: str, value: Tensor) -> None:
        old = self.seen.get(name)
        self.seen[name] = value.float() if old is None else old * 0.97 + value.float() * 0.03

    def _follow(self) -> None:
        """Move the averaged weights toward the current ones, and the statistics of batch norm."""
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._nows, 1 - keep)

    def attack_errors(self) -> dict[str, float]:
        """Share of wrong bits that every attack of the stage left lately."""
        errors = self.draw.errors.tolist()
        names = self.place().stage.attacks
        return {n: round(e, 4) for n, e in zip(ATTACKS, errors, strict=True) if n in names}

    def stretch(self, seconds: float) -> None:
        """Let what is left of the schedule take so many seconds."""
        overall = self.place().overall
        self.schedule.budget = seconds / max(1e-6, 1 - overall)
        self.spent = overall * self.schedule.budget

    def freeze_embedder(self) -> None:
        """From here on the embedder is the averaged one, as it will be exported."""
        self.nets.embedder.load_state_dict(self.average.embedder.state_dict())

    def save(self, path: Path) -> None:
        """Write a checkpoint, complete or not at all, and beside it the averaged weights alone."""
        state = {
            "format": _FORMAT,
            "recipe": self.recipe.name,
            "nets": self.nets.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ends": self.schedule.ends,
            "counts": [self.step, self.stage, self.coded, self.extended],
            "times": [self.spent, self.seconds],
            "draw": self.draw.errors,
            "seen": self.seen,
            "line": self.line.state(),
            "numpy": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }
        draft = path.with_suffix(".part")
        torch.save(state, draft)
        draft.replace(path)
        small = path.with_name("average.part")
        torch.save({"recipe": self.recipe.name, "average": self.average.state_dict()}, small)
        small.replace(path.with_name("average.pt"))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: It is of another recipe or format.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if (state["format"], state["recipe"]) != (_FORMAT, self.recipe.name):
            raise ConfigError(
                f"{path} is a checkpoint of recipe {state['recipe']!r}, not {self.recipe.name!r}.",
                hint="Name the recipe it was made with, or another --work.",
            )
        self.nets.load_state_dict(state["nets"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.ends = list(state["ends"])
        self.step, self.stage, self.coded, self.extended = state["counts"]
        self.spent, self.seconds = state["times"]
        self.draw.errors, self.seen = state["draw"], state["seen"]
        self.rng.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu())
        self.line.restore(state["line"])

    def start_from(self, path: Path) -> None:
        """Begin the schedule at the averaged weights of another run."""
        state = torch.load(path, map_location=self.device, weights_only=True)["average"]
        self.nets.load_state_dict(state)
        self.average.load_state_dict(state)
