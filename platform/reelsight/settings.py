"""The settings tree: defaults < YAML file < REELSIGHT_ environment < flags. Frozen once loaded.

Nested names use two underscores in the environment: REELSIGHT_MEDIA__SAMPLING__RATE=2. Nothing
else in the project reads the environment.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from reelsight.errors import ConfigError
from reelsight.media.backends.negotiate import BackendName
from reelsight.media.decoder import Decoding
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling

__all__ = [
    "CriticalEngine",
    "EmbeddingSettings",
    "EngineSettings",
    "FetchSettings",
    "InferenceSettings",
    "JobSettings",
    "LiveBankSettings",
    "MediaSettings",
    "RaySettings",
    "ServeSettings",
    "Settings",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Backend = Literal[
    "auto",
    "onnxruntime-cpu",
    "onnxruntime-cuda",
    "aotinductor",
    "tensorrt",
    "tensorrt-rtx",
    "fake",
]
Precision = Literal["auto", "fp32", "fp16", "fp16-norms32", "bf16", "int8", "int8-fp32", "fp8"]


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

    backend: Backend = "onnxruntime-cpu"
    precision: Precision = "fp32"
    registry: str | None = None
    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    threads: int = Field(default=1, ge=1)
    buckets: tuple[int, ...] = (2, 4, 8, 16, 32)
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


class CriticalEngine(_Strict):
    """The second engine, which decides critical labels that are near their thresholds.

    Attributes:
        backend: As engine.backend.
        precision: As engine.precision; higher than that of the engine that serves.
    """

    backend: Backend = "onnxruntime-cpu"
    precision: Precision = "fp32"


class LiveBankSettings(_Strict):
    """Label banks that change while the service runs.

    Attributes:
        poll_s: Seconds between two looks at which bank is current.
        labels: Most labels of a draft.
        phrases: Most prompts x templates of a draft.
        max_bytes: Largest body of a draft.
        drafts: Most drafts.
        preview_frames: Frames whose embeddings a replica keeps for previews; 0 for none.
    """

    poll_s: float = Field(default=1.0, gt=0)
    labels: int = Field(default=2000, ge=1)
    phrases: int = Field(default=8192, ge=1)
    max_bytes: int = Field(default=1 << 21, ge=1)
    drafts: int = Field(default=64, ge=1)
    preview_frames: int = Field(default=4096, ge=0)


class FetchSettings(_Strict):
    """Clips that a request names by `uri`. Off unless hosts are named.

    Attributes:
        hosts: Host names that may be asked, in lower case; `*.example.com` for every name below.
            Numeric addresses are never taken.
        ports: TCP ports that may be asked.
        timeout_s: Seconds for the whole of a fetch, names and all.
        max_bytes: Largest file, where media.limits does not say less.
        min_bytes_per_s: Slowest mean rate, after two seconds of grace.
        at_once: Fetches at a time in one replica; more are refused at once.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    timeout_s: float = Field(default=20.0, gt=0)
    max_bytes: int = Field(default=256 << 20, ge=1)
    min_bytes_per_s: int = Field(default=65_536, ge=1)
    at_once: int = Field(default=8, ge=1)

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        name = re.compile(r"(\*\.)?([a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}", re.ASCII)
        for host in hosts:
            if not name.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name such as clips.example.com")
        return hosts


class JobSettings(_Strict):
    """What the HTTP door answers later: which clips, how many, for how long.

    Attributes:
        jobs_dir: Where jobs, their uploads and their results are kept: a directory of this machine
            that its replicas share; None for `jobs` below data_dir.
        sync_bytes: Clips larger than this become jobs, unless the client says that it waits.
        sync_seconds: So do clips whose header says that they are longer, seconds.
        jobs_max: Jobs that are kept, finished ones too; more are refused until old ones expire.
        jobs_max_bytes: Bytes of their uploads and results.
        jobs_at_once: Jobs that one replica runs at a time; None for as many as `job_share` lets
            decode on this machine.
        job_share: Share of a replica's decoders that jobs may take, 0..1. One at least is theirs,
            and one at least is never.
        job_timeout_s: Seconds for one attempt.
        job_attempts: Attempts before a job has failed.
        job_lease_s: Seconds of silence after which a job's replica counts as dead.
        job_ttl_s: Seconds for which a result is kept.
        webhook_hosts: Hosts, as `name` or `name:port`, that results may be posted to; empty for
            none. Without a port 80 and 443 are meant.
        webhook_secret: What posts are signed with: `whsec_` and 24 to 64 bytes in base64.
        webhook_attempts: Posts before a receiver is given up.
        webhook_backoff_s: Seconds before the second post; five times as many before each further.
    """

    jobs_dir: Path | None = None
    sync_bytes: int = Field(default=64 << 20, ge=1)
    sync_seconds: float = Field(default=120.0, gt=0)
    jobs_max: int = Field(default=1000, ge=1)
    jobs_max_bytes: int = Field(default=10 << 30, ge=1)
    jobs_at_once: int | None = Field(default=None, ge=1)
    job_share: float = Field(default=0.5, ge=0, le=1)
    job_timeout_s: float = Field(default=1800.0, gt=0)
    job_attempts: int = Field(default=3, ge=1)
    job_lease_s: float = Field(default=30.0, gt=0)
    job_ttl_s: float = Field(default=86_400.0, gt=0)
    webhook_hosts: tuple[str, ...] = ()
    webhook_secret: SecretStr | None = None
    webhook_attempts: int = Field(default=6, ge=1)
    webhook_backoff_s: float = Field(default=5.0, gt=0)

    @field_validator("webhook_secret")
    @classmethod
    def _a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            kind, _, key = secret.get_secret_value().partition("_")
            try:
                size = len(base64.b64decode(key, validate=True))
            except binascii.Error:
                size = 0
            if kind != "whsec" or not 24 <= size <= 64:
                raise ValueError("a webhook secret is whsec_ and 24 to 64 bytes in base64")
        return secret

    @model_validator(mode="after")
    def _signed(self) -> JobSettings:
        if self.webhook_hosts and self.webhook_secret is None:
            raise ValueError("webhook_hosts needs webhook_secret: nothing is posted unsigned")
        return self


class EmbeddingSettings(_Strict):
    """POST /v1/embeddings.

    Attributes:
        max_inputs: Texts and pictures in one request.
        max_chars: Characters of one text; the text tower reads its first tokens alone.
        max_body_bytes: Size of a request's body.
        text: Whether texts are embedded. The text tower takes its model's memory in each replica.
        max_waiting_texts: Texts that may wait for the text tower in one replica.
    """

    max_inputs: int = Field(default=256, ge=1)
    max_chars: int = Field(default=8192, ge=1)
    max_body_bytes: int = Field(default=32 << 20, ge=1)
    text: bool = True
    max_waiting_texts: int = Field(default=4096, ge=1)


class InferenceSettings(_Strict):
    """The Open Inference Protocol, /v2.

    Attributes:
        max_frames: Frames in one request.
        max_json_bytes: Size of the part of a request that is JSON; tensors in it are four times as
            large as binary ones, and slow.
    """

    max_frames: int = Field(default=256, ge=1)
    max_json_bytes: int = Field(default=8 << 20, ge=1)


class ServeSettings(JobSettings):
    """The HTTP door; what it answers later is JobSettings.

    Attributes:
        host: Address to listen on. Beyond loopback only with API keys.
        port: TCP port.
        topology: `single` for ingress, decoding and engine in one replica, which suits a machine
            without GPUs; `split` for replicas of each.
        timeout_s: Seconds for one request, unless it asks for less.
        body_timeout_s: Seconds within which a request's body must have come.
        max_waiting_clips: Clips that may wait for a decoder in one replica; more are refused at
            once.
        decoders: Clips decoded at a time in one replica; None for the cores of the machine.
        stall_s: Seconds without a finished batch after which a busy engine counts as wedged.
        keys_file: API keys, as `reelsight keys add` writes them; None for `keys.yaml` in data_dir,
            where that is there. Without keys only loopback is listened on.
        frames_per_minute: Frames that one replica looks at for all keys together; None for no
            bound.
        reserve_frames: Frames that a clip is taken for until it is decoded, where its sampling
            names no count.
        max_requests: Requests with a body that one replica has at a time; more are refused before
            their body is read.
        max_body_bytes: Bytes of bodies that one replica holds at a time.
        drain_s: Seconds that requests under way get when the door is closed.
        fetch: Clips named by `uri`.
        critical_engine: Backend and precision of a second engine, which decides critical labels
            near their thresholds; None for none.
        critical_band: How near, in confidence: from 0.5 less this to 0.5 more.
        media_replicas: Replicas that decode, in `split`.
        bank_pointer: Where it stands which bank is current: a `redis://` url, or None for a file
            beside the banks, which every replica must see.
        banks: Banks that change while the service runs.
        embeddings: POST /v1/embeddings; see EmbeddingSettings.
        inference: The Open Inference Protocol; see InferenceSettings.
        log_level: Least level of the JSON lines on stderr; one line a request at `info`.
        metrics_timeout_s: Seconds that /metrics waits for the numbers of other replicas.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8100, ge=1, le=65535)
    topology: Literal["single", "split"] = "single"
    timeout_s: float = Field(default=60.0, gt=0)
    body_timeout_s: float = Field(default=30.0, gt=0)
    max_waiting_clips: int = Field(default=64, ge=1)
    decoders: int | None = Field(default=None, ge=1)
    stall_s: float = Field(default=30.0, gt=0)
    keys_file: Path | None = None
    frames_per_minute: int | None = Field(default=None, ge=1)
    reserve_frames: int = Field(default=32, ge=1)
    max_requests: int = Field(default=256, ge=1)
    max_body_bytes: int = Field(default=2 << 30, ge=1)
    drain_s: float = Field(default=30.0, gt=0)
    fetch: FetchSettings = FetchSettings()
    critical_engine: CriticalEngine | None = None
    critical_band: float = Field(default=0.1, gt=0, le=0.5)
    media_replicas: int = Field(default=1, ge=1)
    bank_pointer: str | None = None
    banks: LiveBankSettings = LiveBankSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    inference: InferenceSettings = InferenceSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_timeout_s: float = Field(default=2.0, gt=0)


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes:
        model: A catalogue name, a model directory, or `ARCHITECTURE/PRETRAINED` of open_clip.
        bank: A bank's name or file; None takes the bank that came with the model.
        data_dir: Where built banks are kept, and engine packages unless engine.registry says else.
        cache_dir: Where exported models and copies of packages are kept; on a disk of the node.
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
                f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']} (got {e['input']!r})"
                for e in error.errors()
            )
            raise ConfigError(where) from error
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
    def registry(self) -> str:
        """Where engine packages are published and found."""
        return self.engine.registry or str(self.data_dir / "engines")

    @property
    def packages_dir(self) -> Path:
        """Where this node keeps the packages that it copied from a registry."""
        return self.cache_dir / "engines"


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
