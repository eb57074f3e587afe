"""JSON into dataclasses, strictly: a field too many, too few or of another kind is an error.

The kinds are those of the dataclass's own annotations. It knows no manifest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["read"]

T = TypeVar("T")


def read(kind: type[T], document: Any, *, where: str = "") -> T:
    """A dataclass from what `dataclasses.asdict` wrote and JSON carried.

    Fields may be text, booleans, numbers, literals, tuples of one kind, mappings with text keys,
    other dataclasses (also one of several, told apart by their fields), and each of these or None.
    A float may be written as a whole number, and is finite.

    Raises:
        TypeError, ValueError: It does not fit; the message names the field.
    """
    name = where or kind.__name__
    if not isinstance(document, Mapping):
        raise TypeError(f"{name} is {_shown(document)}, not an object")
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    if set(document) != set(hints):
        raise ValueError(f"{name} differs in {sorted(map(str, set(document) ^ set(hints)))}")
    return kind(**{key: _value(hints[key], document[key], f"{name}.{key}") for key in hints})


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return _value(_member(inner, value, where), value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in inner:
            raise ValueError(f"{where} is {_shown(value)}, not one of {inner}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where} is {_shown(value)}, not a list")
        return tuple(_value(inner[0], item, f"{where}[{at}]") for at, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise TypeError(f"{where} is {_shown(value)}, not an object")
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return read(hint, value, where=where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def _member(inner: tuple[Any, ...], value: Any, where: str) -> Any:
    """The kind of a union that a value is of: of several dataclasses, the one of its fields."""
    kinds = [kind for kind in inner if kind is not NoneType]
    if len(kinds) == 1:
        return kinds[0]
    names = set(value) if isinstance(value, Mapping) else None
    classes = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
    fitting = [kind for kind in classes if set(_hints(kind)) == names]
    if len(fitting) != 1:
        raise ValueError(f"{where} is none of {', '.join(kind.__name__ for kind in kinds)}")
    return fitting[0]


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise TypeError(f"{where} is {_shown(value)}, not a number")
        return float(value)
    if hint is int and type(value) is not int:
        raise TypeError(f"{where} is {_shown(value)}, not a whole number")
    if type(value) is not hint:
        raise TypeError(f"{where} is {_shown(value)}, not {hint.__name__}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
