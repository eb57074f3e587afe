"""What a caller is told when no replica could answer it. It knows neither Serve nor Ray."""

from __future__ import annotations

from reelsight.errors import Overloaded

__all__ = ["NoReplica", "ReplicaLost"]


class NoReplica(Overloaded):
    """No replica took the request: none lives, or none has had room for it in all that time.

    Nothing of it was run anywhere.
    """

    code = "serve.no_replica"
    hint = "Try again after Retry-After: a replica is started, or one of them gets room."
    retry_after_s = 5.0


class ReplicaLost(Overloaded):
    """A replica died, or could not be reached, while it had the request, and so did the next.

    Mostly it is the service's own trouble and says nothing of the request; but a request that ends
    whatever runs it looks the same, so whoever asks again must count.
    """

    code = "serve.replica_lost"
    hint = "Try again: the replica is replaced."
