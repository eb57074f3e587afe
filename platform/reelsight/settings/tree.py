"""The settings tree: defaults < YAML file < REELSIGHT_ environment < flags. Frozen once loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from reelsight.errors import ConfigError
from reelsight.marks.policy import Marking
from reelsight.settings.engine import EngineSettings
from reelsight.settings.media import MediaSettings
from reelsight.settings.offline import RaySettings
from reelsight.settings.serve import ServeSettings

__all__ = ["Settings"]


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes:
        model: A catalogue name, a model directory, or `ARCHITECTURE/PRETRAINED` of open_clip.
        bank: A bank's name or file; None takes the bank that came with the model.
        data_dir: Where built banks are kept, and engine packages unless engine.registry says else.
        cache_dir: Where exported models and copies of packages are kept; on a disk of the node.
        marks: How copies are marked and traced; see Marking. Its tenant keys belong on the machine
            that issues and traces, never on GPU workers.
    """

    model_config = SettingsConfigDict(
        env_prefix="REELSIGHT_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    model: str = "reelsight-mini"
    bank: str | None = None
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("reelsight"))
    cache_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("reelsight"))
    media: MediaSettings = MediaSettings()
    engine: EngineSettings = EngineSettings()
    ray: RaySettings = RaySettings()
    serve: ServeSettings = ServeSettings()
    marks: Marking = Marking()

    @classmethod
    def load(cls, file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
        """Merge defaults, `file`, the environment and `flags`.

        Args:
            file: YAML with the same nesting as this class.
            flags: Dotted names to values; a None value counts as not given.

        Raises:
            ConfigError: A name or value does not fit; the message says which.
        """
        if file is not None and not file.is_file():
            raise ConfigError(f"no configuration file at {file}", code="config.missing")
        try:
            return _sourced(file)(**_nested(flags or {}))
        except ConfigError:
            raise
        except ValidationError as error:
            where = "; ".join(
                f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}{_got(e)}" for e in error.errors()
            )
            # The error underneath repeats what it was given.
            secret = any(e["loc"][:1] == ("marks",) for e in error.errors())
            raise ConfigError(where) from (None if secret else error)
        except yaml.YAMLError as error:
            raise ConfigError(f"{file} is not YAML: {error}") from error
        except (SettingsError, OSError, ValueError, TypeError) as error:
            # Sources refuse what is no mapping at all, each with an error of its own.
            raise ConfigError(f"the settings cannot be read: {error}") from error

    @property
    def keys_file(self) -> Path:
        """The API keys of the HTTP door, whether it is there or not."""
        return self.serve.keys_file or self.data_dir / "keys.yaml"

    @property
    def banks_dir(self) -> Path:
        """Where `reelsight bank build` puts banks."""
        return self.data_dir / "banks"

    @property
    def jobs_dir(self) -> Path:
        """Where the HTTP door keeps its jobs."""
        return self.serve.jobs_dir or self.data_dir / "jobs"

    @property
    def ledger(self) -> str:
        """Where the ledger of issued copies is: a file's path, or a PostgreSQL URL."""
        if self.marks.ledger is not None:
            return self.marks.ledger.get_secret_value()
        return str(self.data_dir / "marks.ledger")

    def for_workers(self) -> Settings:
        """These settings for other processes and machines: without those of marks."""
        return self.model_copy(update={"marks": Marking()})

    @property
    def registry(self) -> str:
        """Where engine packages are published and found."""
        return self.engine.registry or str(self.data_dir / "engines")

    @property
    def packages_dir(self) -> Path:
        """Where this node keeps the packages that it copied from a registry."""
        return self.cache_dir / "engines"


def _got(error: ErrorDetails) -> str:
    """What was given, unless it may hold a key."""
    return "" if error["loc"][:1] == ("marks",) else f" (got {error['input']!r})"


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in flags.items():
        if value is None:
            continue
        *parents, leaf = dotted.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{name!r} in {dotted!r} is set to a value and to a group")
        if isinstance(node.get(leaf), dict):
            raise ConfigError(f"{dotted!r} is set to a value and to a group")
        node[leaf] = value
    return tree


def _sourced(file: Path | None) -> type[Settings]:
    """Settings with its sources in order: flags, environment, file."""

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            if file is None:
                return init_settings, env_settings
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, file)

    return Sourced
