"""What nodes cost: a table that the user gives as TOML or JSON, or a small dated one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reelsight.errors import ConfigError

__all__ = ["Node", "Prices", "load_prices"]

_DEFAULT = Path(__file__).with_name("prices.toml")


class Node(BaseModel):
    """One kind of node.

    Attributes:
        name: For people.
        vcpus: Logical CPUs, which is what Ray counts.
        gpus: GPUs.
        usd_per_hour: Price of one node.
        core_speed: Speed of one of its cores over one of the machine that measures.
        engine_frames_per_s: What one of its GPUs does with the engine, where that was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    vcpus: int = Field(ge=1)
    gpus: int = Field(default=0, ge=0)
    usd_per_hour: float = Field(ge=0)
    core_speed: float = Field(default=1.0, gt=0)
    engine_frames_per_s: float | None = Field(default=None, gt=0)


class Prices(BaseModel):
    """A table of nodes.

    Attributes:
        date: Of the prices.
        note: Where they come from.
        node: The nodes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str
    note: str = ""
    node: tuple[Node, ...] = Field(min_length=1)


def load_prices(path: Path | None = None) -> Prices:
    """A table of the user's, `.toml` or `.json`, or the one that is shipped.

    Raises:
        ConfigError: There is none, or it does not fit.
    """
    file = path or _DEFAULT
    try:
        text = file.read_text(encoding="utf-8")
        tree = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        return Prices.model_validate(tree)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", code="config.prices") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{file}: {where}: {first['msg']}", code="config.prices", hint=_HINT
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: {error}", code="config.prices", hint=_HINT) from error


_HINT = f"An example is {_DEFAULT}."
