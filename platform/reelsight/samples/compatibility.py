"""Which labels may be true of one picture at once.

The rules keep truth honest: whatever would hide or change another label's evidence conflicts with
it. They are symmetric.
"""

from __future__ import annotations

from reelsight.samples.vocabulary import GROUPS, group_of

__all__ = ["compatible", "conflicts", "room_for"]

_LIMITS = {
    "screen": 1,
    "layout": 1,
    "weather": 1,
    "degrade": 1,
    "tone": 1,
    "framing": 1,
    "overlay": 3,
}

_SMALL = frozenset({"logo_overlay", "ticker", "subtitles", "subscribe_button", "emoji", "sticker"})
_SCENIC = frozenset({"cartoon", "starfield", "fireworks", "fire"})
_NIGHT = frozenset({"starfield", "fireworks", "fire"})
_COLOURED = frozenset(
    {"emoji", "red_circle", "subscribe_button", "price_tag", "censor_bar", "snow"}
)


def compatible(first: str, second: str) -> bool:
    """Whether both labels can be true of one picture.

    Args:
        first: A label.
        second: Another label.
    """
    if first == second:
        return True
    groups = {group_of(first), group_of(second)}
    if "blank" in groups or "plain" in groups:
        return False
    if len(groups) == 1:
        return _LIMITS[groups.pop()] > 1
    pair = {first, second}
    return not any(
        rule(pair, groups) for rule in (_screen_rule, _degrade_rule, _tone_rule, _edge_rule)
    )


def conflicts(labels: frozenset[str]) -> list[tuple[str, str]]:
    """Pairs among the labels that cannot both be true."""
    ordered = sorted(labels)
    pairs = [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]
    return [pair for pair in pairs if not compatible(*pair)]


def room_for(label: str, chosen: frozenset[str]) -> bool:
    """Whether one more label fits beside the chosen ones: compatible, and its group not full."""
    group = group_of(label)
    count = sum(1 for other in chosen if group_of(other) == group)
    return count < _LIMITS.get(group, 1) and all(compatible(label, other) for other in chosen)


def _screen_rule(pair: set[str], groups: set[str]) -> bool:
    """Data screens bear small overlays only; drawn worlds bear any, and gentle effects."""
    if "screen" not in groups:
        return False
    screen = next(label for label in pair if group_of(label) == "screen")
    (other,) = pair - {screen}
    if group_of(other) == "overlay":
        if screen in _NIGHT and other in {"censor_bar", "countdown"}:
            return True
        return screen not in _SCENIC and other not in _SMALL
    if screen == "cartoon":
        return group_of(other) in {"weather", "layout"} or other == "negative"
    return not (screen in _SCENIC and other in {"scanlines", "frame_border", "glitch"})


def _degrade_rule(pair: set[str], groups: set[str]) -> bool:
    """Blur and mosaic wipe fine content below them; exposure hides weather; glitches hide seams."""
    if pair & {"blur", "mosaic"}:
        return bool(groups & {"weather", "layout"}) or "blurred_side_bars" in pair
    if pair & {"overexposed", "underexposed"} and (groups & {"weather"} or "scanlines" in pair):
        return True
    if "glitch" in pair and "layout" in groups:
        return True
    return "underexposed" in pair and "censor_bar" in pair


def _tone_rule(pair: set[str], groups: set[str]) -> bool:
    """A negative changes every colour that defines another label; grey hides red."""
    if "negative" in pair:
        return bool(groups & {"weather", "degrade", "framing"} or pair & _COLOURED)
    grey = pair & {"black_and_white", "sepia"}
    return bool(grey and pair & {"red_circle", "subscribe_button", "price_tag", "emoji"})


def _edge_rule(pair: set[str], groups: set[str]) -> bool:
    """Dark edges cannot be told from black bars."""
    bars = pair & {"letterbox", "pillarbox"}
    if bars and pair & {"underexposed", "vignette", "censor_bar"}:
        return True
    if "framing" in groups and "layout" in groups:
        return not (pair & {"letterbox", "frame_border"} and pair & {"photo_grid", "split_screen"})
    return "vignette" in pair and "framing" in groups


assert set(GROUPS) == {*_LIMITS, "blank", "plain"}
