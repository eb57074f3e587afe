"""Who can reach this door decides whether it may open without keys."""

from __future__ import annotations

import ipaddress

from reelsight.errors import ConfigError
from reelsight.keyring import load_keyring
from reelsight.settings import Settings

__all__ = ["pinned_keys", "require_keys_beyond_loopback"]


def require_keys_beyond_loopback(settings: Settings, host: str) -> None:
    """Refuse an address that others can reach, where nobody has to show a key.

    Args:
        settings: Say where the keys are.
        host: Address or name that is listened on.

    Raises:
        ConfigError: `config.open_door`; or the keys file cannot be read.
    """
    if settings.serve.keys_file is not None or settings.keys_file.exists():
        load_keyring(settings.keys_file)
    elif not _loopback(host):
        raise ConfigError(
            f"{host} can be reached from elsewhere, and nobody has to show a key",
            code="config.open_door",
            hint="Make a key with `reelsight keys add`, or listen on 127.0.0.1.",
        )


def pinned_keys(settings: Settings) -> Settings:
    """Settings that name the keys file where there is one: a replica without it must not open."""
    if settings.serve.keys_file is not None or not settings.keys_file.exists():
        return settings
    serve = settings.serve.model_copy(update={"keys_file": settings.keys_file})
    return settings.model_copy(update={"serve": serve})


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
