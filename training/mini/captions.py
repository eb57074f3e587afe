"""Training text: phrases of labels, varied as people vary them, and captions of several labels.

The held-out paraphrases are unknown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reelsight.samples.vocabulary import find, labels

__all__ = ["caption", "corpus", "vary"]

_LEADS = (
    "",
    "a frame with",
    "a video with",
    "a picture with",
    "a picture of",
    "a video of",
    "a clip of",
    "this shows",
    "a shot of",
    "a screenshot of",
    "an image with",
    "there is",
    "a video frame showing",
    "footage of",
)
_SYNONYMS = (
    ("picture", "image", "frame", "shot", "photo"),
    ("video", "clip", "footage"),
    ("screen", "display"),
    ("big", "large"),
    ("small", "little", "tiny"),
    ("color", "colour"),
    ("colors", "colours"),
    ("colored", "coloured", "colorful"),
    ("gray", "grey"),
    ("words", "text", "letters"),
    ("bottom", "lower edge"),
    ("vertical", "upright"),
    ("entire", "whole", "full"),
    ("old", "vintage", "antique"),
    ("television", "tv"),
    ("symbol", "icon", "sign"),
    ("shown", "displayed"),
    ("around", "surrounding"),
    ("center", "middle"),
    ("empty", "blank"),
)
_SWAPS = {word: group for group in _SYNONYMS for word in group if " " not in word}
_ARTICLES = frozenset({"a", "an", "the"})


def vary(rng: np.random.Generator, phrase: str) -> str:
    """Say one phrase another way: synonyms, dropped words and articles, a lead-in."""
    words = phrase.replace(",", "").split()
    keep_articles = rng.random() < 0.6
    swap, drop = rng.random(len(words)), rng.random(len(words))
    dropping = 0.15 if rng.random() < 0.35 and len(words) > 3 else 0.0
    kept = []
    for word, swapped, dropped in zip(words, swap.tolist(), drop.tolist(), strict=True):
        if dropped < dropping or (word in _ARTICLES and not keep_articles):
            continue
        group = _SWAPS.get(word)
        swapping = group is not None and swapped < 0.4
        kept.append(group[int(swapped / 0.4 * len(group))] if group and swapping else word)
    text = " ".join(kept) or phrase
    lead = _LEADS[int(rng.integers(0, len(_LEADS)))] if rng.random() < 0.5 else ""
    return f"{lead} {text}".strip()


def caption(rng: np.random.Generator, names: Sequence[str]) -> str:
    """A caption that is true of exactly the pictures that bear all the labels.

    Args:
        rng: Source of the wording.
        names: One label or more. One label is at times said in two ways at once.
    """
    parts = []
    for name in names:
        phrases = find(name).phrases
        parts.append(vary(rng, phrases[int(rng.integers(0, len(phrases)))]))
    if len(parts) == 1:
        if rng.random() < 0.15:
            phrases = find(names[0]).phrases
            parts.append(vary(rng, phrases[int(rng.integers(0, len(phrases)))]))
            return ", ".join(parts)
        return parts[0]
    rng.shuffle(parts)
    joint = (" and ", " with ", ", ", " plus ")[int(rng.integers(0, 4))]
    return joint.join(parts)


def corpus(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Text to train a tokenizer on: every phrase and alias, then varied captions."""
    every = labels()
    for label in every:
        yield from label.phrases
        yield from (name.lower() for name in label.en)
    for group in _SYNONYMS:
        yield from group
    for _ in range(count):
        picks = rng.choice(len(every), int(rng.integers(1, 4)), replace=False)
        yield caption(rng, [every[i].name for i in picks.tolist()])
