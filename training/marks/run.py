"""The loop around the training: minutes, reports, gates, exports, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reelsight.errors import RunError
from training.marks.batches import new_stills, seen_by_extractor
from training.marks.calibrate import centre, temper
from training.marks.card import write_card
from training.marks.evaluate import evaluate, unmarked_logits
from training.marks.export_marks import Exported, export_pair
from training.marks.trainer import Trainer

__all__ = ["Limits", "Run"]

# A stage whose gate stops the run may take this many times its share.
_PATIENCE = 3
# Training that is this much above a stopping gate need not wait for the stage's end.
_AHEAD = 0.03
_CALIBRATION = 512


@dataclass(frozen=True)
class Limits:
    """When a call ends and what it does on the way.

    Attributes:
        deadline: On the monotonic clock, after which the call writes its state and returns.
        steps: Budget in steps; None when it is counted in seconds.
        stop_after: Step after which the call returns, for a run in parts; None for no such step.
        report_s: Seconds between lines.
        save_s: Seconds between checkpoints.
        last: Whether the training is finished at the deadline, wherever it stands.
        gated: Whether a missed gate that stops a run does so.
    """

    deadline: float
    steps: int | None = None
    stop_after: int | None = None
    report_s: float = 15.0
    save_s: float = 100.0
    last: bool = False
    gated: bool = True


class Run:
    """One call of a run.

    Args:
        trainer: New or resumed.
        work: Where the checkpoint, the metrics and the exports go.
        limits: When it ends.
        data: What the model card says of the data.
        say: Prints a line.
    """

    def __init__(
        self,
        trainer: Trainer,
        work: Path,
        limits: Limits,
        data: str,
        say: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self.trainer, self.work, self.limits, self.data, self.say = trainer, work, limits, data, say
        self._clock = self._reported = self._saved = time.monotonic()
        self._first = trainer.step

    def go(self) -> bool:
        """Train until the budget or the call is over.

        Returns:
            Whether the training is finished.

        Raises:
            RunError: `train.gate`, when a stage missed a gate that stops the run.
        """
        trainer, limits = self.trainer, self.limits
        self._clock = time.monotonic()
        while not self._over():
            trainer.train_step()
            now = time.monotonic()
            trainer.seconds += now - self._clock
            trainer.spent += 1.0 if limits.steps is not None else now - self._clock
            self._clock = now
            if now - self._reported > limits.report_s:
                self._report()
            if trainer.schedule.place(trainer.spent, trainer.stage).index > trainer.stage:
                self._end_of_stage()
            elif now - self._saved > limits.save_s:
                self._save()
        finished = limits.last or trainer.spent >= trainer.schedule.budget
        if finished:
            self._finish()
        self._save()
        return finished

    def _over(self) -> bool:
        trainer, limits = self.trainer, self.limits
        if limits.stop_after is not None and trainer.step >= limits.stop_after:
            return True
        late = time.monotonic() >= limits.deadline
        return late or trainer.spent >= trainer.schedule.budget

    def _require_finite(self) -> None:
        loss = self.trainer.seen.get("loss")
        if loss is not None and not torch.isfinite(loss):
            raise RunError(
                f"the loss is {float(loss)} at step {self.trainer.step}.",
                code="train.diverged",
                hint="Run again from the last checkpoint; lower the rate if it returns.",
            )

    def _save(self) -> None:
        self._require_finite()
        self.trainer.save(self.work / "checkpoint.pt")
        self._saved = self._clock = time.monotonic()

    def _report(self) -> None:
        trainer = self.trainer
        self._require_finite()
        place = trainer.place()
        now = time.monotonic()
        row: dict[str, Any] = {
            "stage": place.stage.name,
            "within": round(place.within, 3),
            "step": trainer.step,
            "steps_s": round((trainer.step - self._first) / max(1e-6, now - self._reported), 2),
            "psnr": round(place.between(place.stage.psnr), 2),
            "rate": round(trainer.schedule.rate(place, trainer.step), 6),
            "coded_steps": trainer.coded,
            **{name: round(float(value), 4) for name, value in trainer.seen.items()},
        }
        if trainer.device.type == "cuda":
            row["gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        if len(place.stage.attacks) > 2:
            row["errors"] = trainer.attack_errors()
        self.say(json.dumps(row))
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._reported, self._first = now, trainer.step
        gate = place.stage.gate
        ahead = gate is not None and gate.stop and row["stills"] > min(0.995, gate.least + _AHEAD)
        if ahead and self.limits.steps is None:
            trainer.schedule.move_end(trainer.stage, place.overall)

    def _evaluation(self) -> dict[str, Any]:
        trainer = self.trainer
        # The encoders are needed; clips on their way are dropped.
        trainer.line.take(wait=True)
        stage = trainer.recipe.stages[trainer.stage]
        return evaluate(
            trainer.recipe,
            trainer.average.embedder,
            trainer.average.extractor,
            trainer.pictures["held"],
            trainer.pool,
            stage.psnr[1],
        )

    def _row(self, evaluation: dict[str, Any], stage: str) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "stage": stage,
            "step": trainer.step,
            "trained_s": round(trainer.seconds, 1),
            "coded_steps": trainer.coded,
            "data": self.data,
            "evaluation": evaluation,
        }

    def _end_of_stage(self) -> None:
        trainer = self.trainer
        stage = trainer.recipe.stages[trainer.stage]
        evaluation = self._evaluation()
        row = self._row(evaluation, stage.name)
        passed = True
        if stage.gate is not None:
            reached = evaluation["gates"][stage.gate.measure]
            passed = reached >= stage.gate.least
            row["gate"] = {
                "measure": stage.gate.measure,
                "least": stage.gate.least,
                "reached": reached,
                "passed": passed,
            }
        self._keep(row)
        if not passed and stage.gate is not None and stage.gate.stop and self.limits.gated:
            self._hold_back(row["gate"])
            return
        trainer.stage += 1
        if not trainer.recipe.stages[trainer.stage].embedder:
            trainer.freeze_embedder()
        self._export(stage.name, row)
        self._save()

    def _hold_back(self, gate: dict[str, Any]) -> None:
        trainer = self.trainer
        trainer.extended += 1
        if trainer.extended >= _PATIENCE:
            self._save()
            raise RunError(
                f"stage {trainer.recipe.stages[trainer.stage].name!r} reached {gate['measure']} "
                f"{gate['reached']} of {gate['least']}, {_PATIENCE} times its share.",
                code="train.gate",
                hint="Do not spend more time on it: start with 30 dB or fewer bits.",
            )
        share = trainer.recipe.stages[trainer.stage].share
        trainer.schedule.move_end(trainer.stage, trainer.place().overall + share)
        self.say(f"the gate is missed; the stage goes on: {gate}")

    def _finish(self) -> None:
        trainer = self.trainer
        moved, temperature = self._calibrate()
        stage = trainer.recipe.stages[trainer.stage]
        row = self._row(self._evaluation(), stage.name)
        row["calibration"] = {"largest_shift": moved, "temperature": temperature}
        self._keep(row)
        self._export("final", row)

    def _calibrate(self) -> tuple[float, float]:
        """Centre and temper the averaged extractor on training pictures under the last attacks."""
        trainer = self.trainer
        reader, embedder = trainer.average.extractor, trainer.average.embedder
        train, place = trainer.pictures["train"], trainer.place()
        batch = min(trainer.recipe.batch, 64)
        rounds = max(1, min(_CALIBRATION, trainer.recipe.batch * 4) // batch)
        unmarked = torch.cat([unmarked_logits(reader, [train], batch) for _ in range(rounds)])
        moved = centre(reader, unmarked)
        logits, bits = [], []
        with torch.no_grad():
            for _ in range(rounds):
                stills = new_stills(embedder, train, place, batch)
                seen = seen_by_extractor(
                    stills,
                    None,
                    embedder,
                    trainer.recipe.keyframe,
                    trainer.draw,
                    place,
                    trainer.rng,
                )
                ours = seen.carried > 0
                logits.append(reader(seen.luma)[0][ours])
                bits.append(seen.bits[ours])
        return moved, temper(reader, torch.cat(logits), torch.cat(bits))

    def _keep(self, row: dict[str, Any]) -> None:
        path = self.work / "metrics.json"
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        rows.append(row)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        brief = {k: row["evaluation"][k] for k in ("psnr", "ssim", "presence_auc", "gates")}
        self.say(f"{row['stage']} at step {row['step']}: {json.dumps(brief)} {row.get('gate', '')}")

    def _export(self, name: str, row: dict[str, Any]) -> dict[str, Exported]:
        out = self.work / name
        average = self.trainer.average
        files = export_pair(average.embedder, average.extractor, out)
        write_card(out / "CARD.md", self.trainer.recipe, files, row)
        for file in files.values():
            self.say(f"{file.path}: {file.bytes / 1e6:.2f} MB, error {file.max_abs:.1e}")
        return files
