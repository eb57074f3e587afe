"""RedisPointer: the BankState in one key of a Redis that every replica reaches.

A swap is WATCH, GET, MULTI, SET, EXEC: Redis drops it where anybody wrote the key in between. When
the connection breaks after EXEC was sent, nobody knows whether it counted; BankState.published is
made so that it can be asked for again. Needs no script and no module on the server.
"""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from reelsight.errors import ConfigError, PointerUnreachable
from reelsight.labels.release import BankState

__all__ = ["RedisPointer"]

_TIMEOUT_S = 2.0


class RedisPointer:
    """A BankPointer in Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it; never shown.
        key: The key.

    Raises:
        ConfigError: The url is none.
    """

    def __init__(self, url: str, key: str) -> None:
        self._key = key
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                # Who asks tries again by itself: a poll soon, a publisher after it was told.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigError(
                "serve.bank_pointer is not the url of a Redis",
                hint="Such as redis://host:6379/0, or leave it out for a file beside the banks.",
            ) from error

    def read(self) -> BankState:
        try:
            return _state(self._client.get(self._key))
        except redis.RedisError as error:
            raise _unreachable("read", error) from error

    def swap(self, before: BankState, after: BankState) -> bool:
        try:
            with self._client.pipeline() as pipe:
                pipe.watch(self._key)  # type: ignore[no-untyped-call]
                if _state(pipe.get(self._key)).version != before.version:
                    return False
                pipe.multi()
                pipe.set(self._key, after.to_json())
                pipe.execute()
                return True
        except redis.WatchError:
            return False
        except redis.RedisError as error:
            raise _unreachable("written", error) from error


def _state(value: object) -> BankState:
    return BankState.from_json(value) if isinstance(value, bytes | str) else BankState()


def _unreachable(done: str, error: redis.RedisError) -> PointerUnreachable:
    # The message of the library may name the host and the user; it goes to the log with the cause.
    return PointerUnreachable(f"the pointer in Redis cannot be {done}: {type(error).__name__}")
