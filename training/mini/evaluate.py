"""Measure the exported model: python -m training.mini.evaluate (see README.md).

Three questions: average precision per label on held-out pictures with the shipped prompts; the same
with labels named only by held-out paraphrases; and whether the right label comes first on sample
clips. The paraphrases are known to this program alone, and it refuses to run if one of them is, or
is contained in, a training text.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import yaml

from reelsight.samples import write_samples
from reelsight.samples.vocabulary import labels, names
from training.mini.captions import corpus
from training.mini.dataset import SIZE, SPLITS, fixed_set
from training.mini.scoring import Mini, average_precision

Floats = npt.NDArray[np.float32]

_ARTICLES = frozenset({"a", "an", "the"})


def _words(text: str) -> list[str]:
    return [word for word in text.lower().replace(",", " ").split() if word not in _ARTICLES]


def _within(short: list[str], long: list[str]) -> bool:
    """Whether all words of `short` occur in `long` in order, with others between at will."""
    rest = iter(long)
    return all(word in rest for word in short)


def load_paraphrases(captions: int = 50_000) -> dict[str, list[str]]:
    """The held-out paraphrases, after the check that training never saw one.

    Args:
        captions: Generated captions to search besides every training phrase.

    Raises:
        ValueError: One is a training text or contained in one.
    """
    path = Path(__file__).with_name("heldout_phrases.json")
    held: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    if set(held) != set(names()):
        raise ValueError(f"labels differ: {sorted(set(held) ^ set(names()))}")
    phrases = [_words(phrase) for label in labels() for phrase in label.phrases]
    text = "\n".join(" ".join(_words(t)) for t in corpus(np.random.default_rng(11), captions))
    for name, paraphrases in held.items():
        for paraphrase in paraphrases:
            words = _words(paraphrase)
            if any(_within(words, phrase) for phrase in phrases) or " ".join(words) in text:
                raise ValueError(f"{name}: held-out paraphrase {paraphrase!r} is in training text")
    return held


def per_label(scores: Floats, truth: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Average precision by label; scores and truth [images, labels]."""
    return {
        name: round(average_precision(scores[:, column], truth[:, column]), 4)
        for column, name in enumerate(names())
    }


def at_thresholds(
    scores: Floats, truth: npt.NDArray[np.bool_], thresholds: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Precision, recall and F1 over all decisions at the fitted thresholds."""
    said = scores >= thresholds
    right = float((said & truth).sum())
    precision, recall = right / float(said.sum()), right / float(truth.sum())
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / (precision + recall), 4),
    }


def sampled(path: Path, rate: float) -> tuple[npt.NDArray[np.uint8], list[float]]:
    """Frames of a clip at a fixed rate, squashed by bicubic swscale, and their times (seconds)."""
    frames, times, due = [], [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is None or frame.time + 1e-6 < due:
                continue
            small = frame.reformat(SIZE, SIZE, format="rgb24", interpolation="BICUBIC").to_ndarray()
            turns = round((frame.rotation or 0) / 90)
            frames.append(np.ascontiguousarray(np.rot90(small, turns)))
            times.append(float(frame.time))
            due += 1.0 / rate
    return np.stack(frames), times


def clip_report(
    mini: Mini, bank: Floats, thresholds: npt.NDArray[np.float64], directory: Path, count: int
) -> dict[str, Any]:
    """How often the label shown longest is ranked first, by four ways to rank.

    `cosine`, `margin` (cosine less the label's threshold) and `probability` (sigmoid of the model's
    logit) are means over all frames. `confidence` is how the library ranks a clip's tags: the
    sigmoid of the scaled margin, over frames where it is at least one half, times their share.
    """
    scale, bias = mini.manifest["logit_scale"], mini.manifest["logit_bias"]
    first: dict[str, int] = {"cosine": 0, "margin": 0, "probability": 0, "confidence": 0}
    misses: list[dict[str, Any]] = []
    frame_hits = frame_count = 0
    clips = write_samples(directory, count=count, seed=4242)
    for clip in clips:
        frames, times = sampled(clip.path, 1.0)
        scores = mini.images(frames) @ bank.T
        truth = [next(p.label for p in clip.truth if t < p.end_s + 1e-6) for t in times]
        top = [names()[i] for i in (scores - thresholds).argmax(1).tolist()]
        frame_hits += sum(a == b for a, b in zip(truth, top, strict=True))
        frame_count += len(times)
        confidence = 1 / (1 + np.exp(-scale * (scores - thresholds)))
        ranked = {
            "cosine": scores.mean(0),
            "margin": (scores - thresholds).mean(0),
            "probability": (1 / (1 + np.exp(-(scale * scores + bias)))).mean(0),
            "confidence": np.where(confidence >= 0.5, confidence, 0.0).mean(0),
        }
        for way, values in ranked.items():
            best = names()[int(values.argmax())]
            first[way] += best == clip.expected[0]
            if way == "confidence" and best != clip.expected[0]:
                misses.append({"clip": clip.clip_id, "expected": clip.expected[0], "first": best})
    return {
        "clips": count,
        "top1": {way: round(hits / count, 4) for way, hits in first.items()},
        "frame_top1": round(frame_hits / frame_count, 4),
        "misses": misses,
    }


def milliseconds(mini: Mini, frames: npt.NDArray[np.uint8]) -> float:
    """Milliseconds a frame takes on the session's threads: the best of five runs of 16 frames."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        mini.images(frames[:16])
        best = min(best, time.perf_counter() - start)
    return round(best / 16 * 1000, 2)


def main() -> None:
    """Evaluate and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--clip-count", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    held = load_paraphrases()
    bank_file = yaml.safe_load((options.model / "labels.yaml").read_text(encoding="utf-8"))
    thresholds = np.asarray([row["threshold"] for row in bank_file["labels"]])
    frames, truth = fixed_set(options.photos, SPLITS["heldout"], options.frames, options.workers)
    mini = Mini(options.model)
    speed = milliseconds(mini, frames)
    images = mini.images(frames)
    bank = mini.bank([row["prompts"] for row in bank_file["labels"]], bank_file["templates"])
    trained = per_label(images @ bank.T, truth)
    named = per_label(images @ mini.bank([held[name] for name in names()], ["{}"]).T, truth)
    single = [
        per_label(images @ mini.bank([[held[name][turn]] for name in names()], ["{}"]).T, truth)
        for turn in range(4)
    ]
    report = {
        "frames": len(frames),
        "labels": len(names()),
        "positives": {name: int(n) for name, n in zip(names(), truth.sum(0), strict=True)},
        "map": round(float(np.mean(list(trained.values()))), 4),
        "map_paraphrases": round(float(np.mean(list(named.values()))), 4),
        "map_single_paraphrase": round(float(np.mean([list(s.values()) for s in single])), 4),
        "at_thresholds": at_thresholds(images @ bank.T, truth, thresholds),
        "milliseconds_a_frame_one_thread": speed,
        "worst": sorted(trained.items(), key=lambda item: item[1])[:8],
        "worst_paraphrases": sorted(named.items(), key=lambda item: item[1])[:8],
        "sample_clips": clip_report(mini, bank, thresholds, options.clips, options.clip_count),
        "average_precision": trained,
        "average_precision_paraphrases": named,
        "average_precision_single_paraphrase": {
            name: [s[name] for s in single] for name in names()
        },
    }
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    shown = ("map", "map_paraphrases", "map_single_paraphrase", "at_thresholds", "worst")
    print(json.dumps({key: report[key] for key in (*shown, "worst_paraphrases", "sample_clips")}))
    print(f"{speed} ms a frame")


if __name__ == "__main__":
    main()
