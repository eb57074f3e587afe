"""The settings tree: defaults < YAML file < REELSIGHT_ environment < flags. Frozen once loaded.

Nested names use two underscores in the environment: REELSIGHT_MEDIA__SAMPLING__RATE=2. Nothing
else in the project reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
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
from reelsight.media.backends.negotiate import BackendName
from reelsight.media.decoder import Decoding
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling

__all__ = ["EngineSettings", "MediaSettings", "RaySettings", "Settings"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MediaSettings(_Strict):
    """How clips are read: which moments are looked at, and what a clip may be.

    Attributes:
        sampling: `policy` rate, count, keyframe, keyframe+fill or scene, with the numbers that it
            reads, and `accuracy` exact, reference or fast; see Sampling.
        limits: Caps checked before any pixel is decoded; see MediaLimits.
        backend: `pyav`; `decord` or `nvdec`, which are refused with the reason where they cannot be
            used; or `auto` for nvdec where sources are trusted and it runs, and PyAV elsewhere.
        trusted: Whether every clip comes from a source that is trusted. Only then do backends other
            than PyAV decode: they know no caps, and what crashes them ends their process.
        isolation: The process in which PyAV decodes: whether there is one, what it may use, and how
            often a clip is tried in it; see Isolation.
    """

    sampling: Sampling = Sampling()
    limits: MediaLimits = MediaLimits()
    backend: BackendName = "auto"
    trusted: bool = False
    isolation: Isolation = Isolation()

    @property
    def decoding(self) -> Decoding:
        """Who decodes."""
        return Decoding(self.backend, self.trusted, self.isolation)


class EngineSettings(_Strict):
    """How a model runs.

    Attributes:
        backend: `onnxruntime-cpu`; `auto` for the best that has a package here; the backend of a
            package by name; or `fake` (deterministic, needs no model).
        precision: `fp32`; another plan, which needs a package; or `auto` for the best package. The
            FP32 master on `onnxruntime-cpu` needs none.
        registry: Where packages are: a directory or `s3://bucket/prefix`; None for `engines` below
            data_dir.
        require_signature: Refuse packages that no trusted key signed. Without it whoever can write
            to the registry can run code here: set it wherever the registry is shared.
        trusted_keys: Public keys, `ed25519:BASE64`, of whoever may build packages.
        threads: Intra-op threads of one engine.
        buckets: Batch sizes, ascending; what is smaller is padded.
        max_queued_frames: Bound of an engine's queue.
    """

    backend: Literal[
        "auto",
        "onnxruntime-cpu",
        "onnxruntime-cuda",
        "aotinductor",
        "tensorrt",
        "tensorrt-rtx",
        "fake",
    ] = "onnxruntime-cpu"
    precision: Literal[
        "auto", "fp32", "fp16", "fp16-norms32", "bf16", "int8", "int8-fp32", "fp8"
    ] = "fp32"
    registry: str | None = None
    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    threads: int = Field(default=1, ge=1)
    buckets: tuple[int, ...] = (4, 8, 16, 32)
    max_queued_frames: int = Field(default=2048, ge=1)

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
            raise ValueError("buckets are positive and ascending")
        return buckets


class RaySettings(_Strict):
    """The shape of the offline run.

    Attributes:
        address: Cluster to join; None joins the one of RAY_ADDRESS, or starts a local one.
        decode_tasks: Decode tasks at a time; None takes the cores of the machine, or of the cluster
            that is joined.
        decode_gpus: GPUs, or the share of one, that a decode task reserves; without it a task sees
            none, and media.backend nvdec needs one.
        engine_actors: Engines; None takes one for every four of those cores, at least two.
        clips_per_block: Largest number of clips in a block of work.
    """

    address: str | None = None
    decode_tasks: int | None = Field(default=None, ge=1)
    decode_gpus: float = Field(default=0.0, ge=0.0)
    engine_actors: int | None = Field(default=None, ge=1)
    clips_per_block: int = Field(default=32, ge=1)


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
            raise ConfigError(where) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{file} is not YAML: {error}") from error
        except (SettingsError, OSError, ValueError, TypeError) as error:
            # Sources refuse what is no mapping at all, each with an error of its own.
            raise ConfigError(f"the settings cannot be read: {error}") from error

    @property
    def banks_dir(self) -> Path:
        """Where `reelsight bank build` puts banks."""
        return self.data_dir / "banks"

    @property
    def ledger(self) -> str:
        """Where the ledger of issued copies is: a file's path, or a PostgreSQL URL."""
        return self.marks.ledger or str(self.data_dir / "marks.ledger")

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
