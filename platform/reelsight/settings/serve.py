"""Settings of the HTTP door as a whole: where it listens, in which shape, and what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from reelsight.settings.engine import CriticalEngine
from reelsight.settings.jobs import JobSettings
from reelsight.settings.routes import (
    EmbeddingSettings,
    FetchSettings,
    InferenceSettings,
    LiveBankSettings,
)

__all__ = ["ServeSettings"]


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
