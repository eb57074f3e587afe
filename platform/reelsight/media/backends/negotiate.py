"""Which backend decodes, and why: by the setting, the trust in the source, and what runs here.

Called once where a process starts to decode. It does not know where settings come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reelsight.errors import ConfigError
from reelsight.media.backends.decord_cpu import DecordBackend
from reelsight.media.backends.nvdec import NvdecBackend
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.seam import DecodeBackend
from reelsight.media.backends.self_test import self_test
from reelsight.media.sampler import Sampling

__all__ = ["BackendName", "Choice", "negotiate"]

BackendName = Literal["auto", "pyav", "decord", "nvdec"]
# What `auto` considers, best first. decord is not among them: it costs what PyAV costs, refuses
# more, and its FFmpeg is of 2021.
_AUTO = ("nvdec", "pyav")


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that was taken.

    Attributes:
        backend: Ready to decode; the caller closes it.
        reason: Why it was taken.
        named: Whether it was asked for by name, and not found to be the best.
        rejected: Name and reason of each that was considered and not taken.
    """

    backend: DecodeBackend
    reason: str
    named: bool = False
    rejected: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        others = "".join(f"; not {name}: {why}" for name, why in self.rejected)
        return f"{self.backend.name}: {self.reason}{others}"


def negotiate(
    wanted: BackendName,
    sampling: Sampling,
    trusted: bool = False,
    offered: Sequence[DecodeBackend] | None = None,
) -> Choice:
    """Choose a backend.

    Args:
        wanted: A backend by name, or `auto` for the best that runs here.
        sampling: What will be asked of it.
        trusted: Whether every clip comes from a trusted source.
        offered: The backends there are; all of ours when None.

    Raises:
        ConfigError: `config.decode_backend` when the one named cannot be used, with the reason.
    """
    if offered is None:
        offered = (PyAVBackend(), DecordBackend(), NvdecBackend())
    known = {backend.name: backend for backend in offered}
    if wanted == "auto":
        return _best(known, sampling, trusted)
    backend = known.get(wanted)
    if backend is None:
        raise ConfigError(
            f"media.backend is one of auto, {', '.join(known)}, got {wanted!r}",
            code="config.decode_backend",
        )
    objection = _objection(backend, sampling, trusted)
    if objection is not None:
        raise ConfigError(
            f"decode backend {wanted!r} cannot be used: {objection}",
            code="config.decode_backend",
            hint="Set media.backend to auto, or to pyav, which always runs.",
        )
    return Choice(backend, "it was asked for", named=True)


def _best(known: dict[str, DecodeBackend], sampling: Sampling, trusted: bool) -> Choice:
    rejected: list[tuple[str, str]] = []
    for name in (name for name in _AUTO if name in known):
        objection = _objection(known[name], sampling, trusted)
        if objection is None:
            reason = "it is the best that runs here" if rejected else "nothing is better"
            return Choice(known[name], reason, rejected=tuple(rejected))
        rejected.append((name, objection))
    raise ConfigError(
        f"no decode backend can be used: {'; '.join(f'{n}: {why}' for n, why in rejected)}",
        code="config.decode_backend",
    )


def _objection(backend: DecodeBackend, sampling: Sampling, trusted: bool) -> str | None:
    """Why a backend is not to be used, the cheapest question first; None when it may be."""
    capabilities = backend.capabilities
    if capabilities.trusted_only and not trusted:
        return "it is for trusted sources, and media.trusted is not set"
    lacking = capabilities.lacks(sampling)
    if lacking is not None:
        return lacking
    unusable = backend.unusable()
    if unusable is not None or isinstance(backend, PyAVBackend):
        return unusable
    failure = self_test(backend).failure
    return None if failure is None else f"it failed the self-test {failure}"
