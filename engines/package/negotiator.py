"""The negotiator: which package of a registry runs a model here, and why each other one does not.

It compares manifests with this machine and opens nothing. The FP32 master on the CPU is always a
candidate, the last one: it is the reference, so it needs no package and no gate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engines.backend import Availability, Backend
from engines.gate.judging import laxer_limits
from engines.package.backends import BACKENDS, backend_named
from engines.package.manifest import PackageManifest
from engines.package.registry import Listed
from engines.precision.onnx_graph import model_master_sha256
from engines.precision.plan import plan_named
from reelsight.errors import ConfigError, PackageError
from reelsight.nouns.model import Model

__all__ = ["AUTO", "MASTER", "Negotiation", "Verdict", "Wish", "negotiate"]

AUTO = "auto"
MASTER = "the FP32 master"
# Fastest first, where nothing was measured.
_PRECISIONS = ("fp8", "int8", "int8-fp32", "fp16", "bf16", "fp16-norms32", "fp32")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants and can do.

    Attributes:
        model: Whose engine.
        precision: Name of a plan, or `auto`.
        backend: Name of a backend, or `auto`.
    """

    model: Model
    precision: str = AUTO
    backend: str = AUTO


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of one candidate.

    Attributes:
        path: Of the package in its registry, or MASTER; empty for a backend without a package.
        backend: Its backend; empty where its manifest cannot be read.
        precision: Its precision; empty likewise.
        chosen: Whether it is the choice.
        reason: Why it was chosen, passed over, or refused.
        code: Stable identifier of that reason.
        listed: The package; None for the master.
    """

    path: str
    backend: str
    precision: str
    chosen: bool
    reason: str
    code: str
    listed: Listed | None = None

    def document(self) -> dict[str, Any]:
        """For machines: everything but the package itself."""
        return {
            "path": self.path,
            "backend": self.backend,
            "precision": self.precision,
            "chosen": self.chosen,
            "code": self.code,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The choice and its reasons, best candidate first."""

    verdicts: tuple[Verdict, ...]

    @property
    def choice(self) -> Verdict | None:
        """The chosen candidate, if any is usable."""
        return next((verdict for verdict in self.verdicts if verdict.chosen), None)

    def require(self) -> Verdict:
        """The choice.

        Raises:
            PackageError: `package.none_usable`, with every refusal.
        """
        if self.choice is None:
            words = "; ".join(f"{v.path or v.backend}: {v.reason}" for v in self.verdicts)
            raise PackageError(
                f"no usable engine package: {words}",
                code="package.none_usable",
                hint="Build one here with `reelsight engine build`, or set engine.precision=fp32 "
                "and engine.backend=onnxruntime-cpu.",
            )
        return self.choice

    def without(self, verdict: Verdict, error: PackageError) -> Negotiation:
        """The same after the choice turned out to be unusable: the next best is chosen."""
        left = [
            replace(v, chosen=False, reason=error.message, code=error.code) if v == verdict else v
            for v in self.verdicts
        ]
        return Negotiation(tuple(_choose(left)))


def negotiate(
    wish: Wish,
    packages: Iterable[Listed],
    backend_of: Callable[[str], Backend] = backend_named,
) -> Negotiation:
    """Judge every candidate for a wish.

    Args:
        wish: What is wanted.
        packages: What a registry lists, of any model.
        backend_of: Finds a backend by name. Only backends of packages that are otherwise fit are
            asked for and probed: their libraries take seconds to import.

    Raises:
        ConfigError: There is no such precision or backend.
    """
    if wish.precision != AUTO:
        plan_named(wish.precision)
    if wish.backend not in (AUTO, *BACKENDS):
        backend_named(wish.backend)
    machine = _Machine(backend_of)
    judged = []
    for listed in packages:
        code, reason = _refused(wish, listed, machine)
        manifest = listed.manifest
        backend = "" if manifest is None else manifest.spec.backend
        precision = "" if manifest is None else manifest.spec.precision
        judged.append(Verdict(listed.path, backend, precision, False, reason, code, listed))
    wanted = BACKENDS if wish.backend == AUTO else (wish.backend,)
    without = [
        Verdict("", name, "", False, "there is no package of it", "package.none")
        for name in wanted
        if name not in {verdict.backend for verdict in judged}
    ]
    master = Verdict(MASTER, "onnxruntime-cpu", "fp32", False, *_master_refused(wish))
    return Negotiation(tuple(_choose([*_ranked(judged), master, *without])))


_USABLE = "usable"


class _Machine:
    """What of this machine a package may be refused for; each backend is probed once."""

    def __init__(self, backend_of: Callable[[str], Backend]) -> None:
        self._backend_of = backend_of
        self._known: dict[str, tuple[Backend, Availability]] = {}

    def refusal(self, manifest: PackageManifest) -> tuple[str, str]:
        name = manifest.spec.backend
        if name not in self._known:
            try:
                backend = self._backend_of(name)
            except ConfigError as error:
                return "package.unknown_backend", error.message
            self._known[name] = backend, backend.probe()
        backend, state = self._known[name]
        if not state.usable:
            return "package.backend_unavailable", state.reason
        reason = backend.refusal(manifest.spec, manifest.target)
        return (_USABLE, "") if reason is None else ("package.other_machine", reason)


def _refused(wish: Wish, listed: Listed, machine: _Machine) -> tuple[str, str]:
    """Code and words of the first thing that is wrong; (_USABLE, "") when nothing is."""
    manifest = listed.manifest
    if manifest is None:
        problem = listed.problem or PackageError("its manifest cannot be read")
        return problem.code, problem.message
    spec = manifest.spec
    if spec.model_hash != wish.model.hash:
        return (
            "package.other_model",
            f"it is of {spec.model} ({spec.model_hash[:12]}), "
            f"not {wish.model.name} ({wish.model.hash[:12]})",
        )
    master = model_master_sha256(wish.model)
    if master is not None and manifest.master_sha256 != master:
        return (
            "package.other_onnx",
            f"it was made of an image tower {manifest.master_sha256[:12]}, "
            f"the model's is {master[:12]}",
        )
    if wish.backend not in (AUTO, spec.backend):
        return "package.other_backend", f"{wish.backend} is wanted"
    if wish.precision not in (AUTO, spec.precision):
        return "package.other_precision", f"{wish.precision} is wanted"
    if manifest.refusal is not None:
        return manifest.refusal_code, manifest.refusal
    gate = manifest.gate
    laxer = [] if gate is None else laxer_limits(gate, spec)
    if laxer:
        return "package.lax_gate", f"its gate was laxer than this version's in {', '.join(laxer)}"
    return machine.refusal(manifest)


def _master_refused(wish: Wish) -> tuple[str, str]:
    """As reason and code of a Verdict."""
    if wish.backend not in (AUTO, "onnxruntime-cpu"):
        return f"{wish.backend} is wanted", "package.other_backend"
    if wish.precision not in (AUTO, "fp32"):
        return f"{wish.precision} is wanted", "package.other_precision"
    return "", _USABLE


def _choose(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Mark the first usable candidate and say of the others that they were passed over."""
    out: list[Verdict] = []
    chosen: Verdict | None = None
    for verdict in verdicts:
        if verdict.code not in (_USABLE, "package.chosen", "package.passed_over"):
            out.append(verdict)
        elif chosen is None:
            chosen = replace(
                verdict, chosen=True, code="package.chosen", reason="the best that is usable here"
            )
            out.append(chosen)
        else:
            words = f"usable, but {chosen.backend} {chosen.precision} goes before it"
            out.append(replace(verdict, chosen=False, code="package.passed_over", reason=words))
    return out


def _ranked(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Backends in their order; within one by measured speed where all were measured alike.

    Speeds of different machines cannot be compared: where one package of a backend was measured on
    another machine, or on none, its packages go in the order of their precisions.
    """
    machines: dict[str, set[str | None]] = {}
    for verdict in verdicts:
        if verdict.code == _USABLE:
            machines.setdefault(verdict.backend, set()).add(_measured(verdict)[0])
    comparable = {
        backend for backend, found in machines.items() if len(found) == 1 and None not in found
    }

    def key(verdict: Verdict) -> tuple[Any, ...]:
        if verdict.listed is None or verdict.listed.manifest is None:
            return (True, len(BACKENDS), 0.0, 0, verdict.path)
        by_speed = verdict.code == _USABLE and verdict.backend in comparable
        return (
            verdict.code != _USABLE,
            _place(BACKENDS, verdict.backend),
            -_measured(verdict)[1] if by_speed else 0.0,
            _place(_PRECISIONS, verdict.precision),
            verdict.path,
        )

    return sorted(verdicts, key=key)


def _measured(verdict: Verdict) -> tuple[str | None, float]:
    """Where a package was measured, None when nowhere, and frames a second of its best bucket."""
    manifest: PackageManifest | None = verdict.listed.manifest if verdict.listed else None
    if manifest is None or manifest.benchmark is None:
        return None, 0.0
    machine = [manifest.benchmark["machine"], manifest.target.gpu]
    return json.dumps(machine, sort_keys=True), float(manifest.benchmark["frames_per_s"])


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
