"""Settings of single routes of the HTTP door: banks, uris, embeddings, inference."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from reelsight.settings.group import Group

__all__ = ["EmbeddingSettings", "FetchSettings", "InferenceSettings", "LiveBankSettings"]


class LiveBankSettings(Group):
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


class FetchSettings(Group):
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


class EmbeddingSettings(Group):
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


class InferenceSettings(Group):
    """The Open Inference Protocol, /v2.

    Attributes:
        max_frames: Frames in one request.
        max_json_bytes: Size of the part of a request that is JSON; tensors in it are four times as
            large as binary ones, and slow.
    """

    max_frames: int = Field(default=256, ge=1)
    max_json_bytes: int = Field(default=8 << 20, ge=1)
