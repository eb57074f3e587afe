"""Settings of what the HTTP door answers later, and of the webhooks that tell of it."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from reelsight.settings.group import Group

__all__ = ["JobSettings"]


class JobSettings(Group):
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
