"""From a wish to a verified package on this node, and from there to an engine.

A package is copied once a node and verified by every process that opens it, because its files are
native code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from engines.package.backends import backend_named
from engines.package.directory import EnginePackage, open_package
from engines.package.negotiator import Negotiation, Wish, negotiate
from engines.package.node_cache import NodeCache
from engines.package.registry import Listed, Registry
from engines.package.signing import Trust
from reelsight.engine.protocol import Engine
from reelsight.errors import EngineError, PackageError
from reelsight.nouns.model import Model

__all__ = [
    "PackageRef",
    "choose_package",
    "fetch_package",
    "open_packaged",
    "open_verified",
    "reference",
]


# What no other package would cure.
_OURS = frozenset({"package.registry", "package.unwritable"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackageRef:
    """A package that any node can fetch; picklable.

    Attributes:
        registry: Location of its registry.
        path: Below the registry's root.
        manifest_sha256: Which version of it.
        cache: Where this project keeps packages on a node.
        trust: Whose packages are opened.
    """

    # It may hold credentials.
    registry: str = field(repr=False)
    path: str
    manifest_sha256: str
    cache: Path
    trust: Trust


def choose_package(
    wish: Wish, registry: Registry, cache: Path
) -> tuple[Negotiation, PackageRef | None]:
    """Negotiate and fetch; a package that turns out to be damaged gives way to the next best.

    One that is replaced while it is fetched is looked for again, once.

    Returns:
        The negotiation, and where its choice is; None when the choice is the FP32 master or
        nothing.

    Raises:
        PackageError: `package.registry` or `package.unwritable`: no package is to blame.
    """
    negotiation = negotiate(wish, registry.list())
    again = True
    while (choice := negotiation.choice) is not None and choice.listed is not None:
        ref = reference(registry, choice.listed, cache)
        try:
            fetch_package(ref)
        except PackageError as error:
            if error.code in _OURS:
                raise
            if error.code == "package.replaced" and again:
                # What took its place is as good a candidate; twice in a row is a reason to go on.
                again = False
                negotiation = negotiate(wish, registry.list())
                continue
            _log.warning("engine package %s is passed over: %s", choice.path, error.message)
            negotiation = negotiation.without(choice, error)
        else:
            return negotiation, ref
    return negotiation, None


def reference(registry: Registry, listed: Listed, cache: Path) -> PackageRef:
    """How other processes find a package that was listed."""
    return PackageRef(registry.location, listed.path, listed.manifest_sha256, cache, registry.trust)


def fetch_package(ref: PackageRef) -> EnginePackage:
    """The package on this node, verified; copied from its registry if no process did so before.

    Raises:
        PackageError: It is damaged, replaced, not trusted, or cannot be copied.
    """
    cache, key = NodeCache(ref.cache), ref.manifest_sha256[:32]

    def download(scratch: Path) -> None:
        listed = Listed(ref.path, ref.manifest_sha256, None)
        Registry(ref.registry, ref.trust).download(listed, scratch)

    return cache.obtain_whole(key, download, lambda directory: _verified(directory, ref))


def open_packaged(ref: PackageRef, model: Model, *, threads: int) -> Engine:
    """Fetch, verify and open; called in the process that runs the engine.

    Raises:
        PackageError: As fetch_package.
        EngineError: `engine.other_machine` where the package is not for this node, or the backend
            cannot open it.
    """
    return open_verified(fetch_package(ref), model, threads=threads)


def open_verified(package: EnginePackage, model: Model, *, threads: int) -> Engine:
    """Open a package that was verified.

    Raises:
        EngineError: `engine.other_machine`, or the backend cannot open it.
    """
    manifest = package.manifest
    spec = manifest.spec
    backend = backend_named(spec.backend)
    state = backend.probe()
    refusal = backend.refusal(spec, manifest.target) if state.usable else state.reason
    if spec.model_hash != model.hash:
        refusal = f"it is of {spec.model} ({spec.model_hash[:12]}), not of {model.name}"
    if refusal is not None:
        raise EngineError(
            f"{manifest.path} does not run on this node: {refusal}",
            code="engine.other_machine",
            hint="Give every node the same model, GPU and library versions.",
        )
    return backend.open(spec, package.directory, model, threads=threads)


def _verified(directory: Path, ref: PackageRef) -> EnginePackage:
    package = open_package(directory, ref.trust)
    if package.manifest_sha256 != ref.manifest_sha256:
        raise PackageError(f"{directory} holds another package", code="package.damaged")
    return package
