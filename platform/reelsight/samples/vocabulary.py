"""The labels of reelsight-mini: names, groups, aliases and training phrases.

The words live in `vocabulary.json` beside this file. Held-out paraphrases do not: an evaluation
keeps them, so that nothing here can train on them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from reelsight.errors import ConfigError

__all__ = ["GROUPS", "Label", "find", "group_of", "labels", "names"]

GROUPS = (
    "blank",
    "screen",
    "layout",
    "weather",
    "degrade",
    "framing",
    "overlay",
    "tone",
    "plain",
)
"""From what fills a frame to what lies over it; a scene is painted in about this order."""


@dataclass(frozen=True)
class Label:
    """One thing that a frame can be tagged with.

    Attributes:
        name: Stable identifier, as in reports.
        group: One of `GROUPS`; decides which labels may share a picture.
        en: English display names, the best first.
        zh: Chinese display names, the best first.
        phrases: Training phrases, lower case; the first few serve as prompts.
    """

    name: str
    group: str
    en: tuple[str, ...]
    zh: tuple[str, ...]
    phrases: tuple[str, ...]


@lru_cache(maxsize=1)
def labels() -> tuple[Label, ...]:
    """Every label, in a fixed order."""
    text = resources.files(__package__).joinpath("vocabulary.json").read_text(encoding="utf-8")
    return tuple(
        Label(row["name"], row["group"], tuple(row["en"]), tuple(row["zh"]), tuple(row["phrases"]))
        for row in json.loads(text)["labels"]
    )


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The name of every label, in the order of `labels`."""
    return tuple(label.name for label in labels())


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Label]:
    return {label.name: label for label in labels()}


def find(name: str) -> Label:
    """The label of that name.

    Raises:
        ConfigError: There is none.
    """
    try:
        return _by_name()[name]
    except KeyError:
        known = ", ".join(names())
        raise ConfigError(f"unknown label {name!r}", hint=f"One of: {known}.") from None


def group_of(name: str) -> str:
    """The group of the label of that name."""
    return find(name).group
