"""Find the weights of a named model: a cache, a local file, or the hub, within seconds.

The hub's client retries for most of a minute per file before it says that there is no network, so
this module asks once, shortly, before it lets that client start. It loads nothing.
"""

from __future__ import annotations

import difflib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engines.export.openclip_import import import_extra, import_open_clip
from reelsight.errors import ModelError, first_line

__all__ = [
    "Source",
    "fetch",
    "invalid_checkpoint",
    "missing_checkpoint",
    "parse",
    "require_clear",
    "unknown_architecture",
]

_PROBE_SECONDS = 5.0
_OFFLINE_HINT = (
    "Run it once where the hub can be reached and copy that machine's cache here (HF_HOME), or "
    "name a local checkpoint: ARCHITECTURE//path/to/checkpoint.pt, or local-dir:/path/to/model."
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's architecture and weights come from.

    Attributes:
        name: The name as it was asked for.
        architecture: The library's name of it, or `local-dir:PATH`.
        tag: A pretrained tag, or None.
        checkpoint: A local weights file, or None.
        settings: The library's record of the tag: where it is (`hf_hub` or `url`), and what
            open_clip says beside (mean, std, resize mode, quick_gelu).
    """

    name: str
    architecture: str
    tag: str | None
    checkpoint: Path | None
    settings: Mapping[str, Any]


def parse(name: str) -> Source:
    """Read a model name.

    Args:
        name: `ARCHITECTURE/TAG`, `ARCHITECTURE//path/to/checkpoint`, `ARCHITECTURE/./checkpoint`,
            `local-dir:PATH` (a directory with open_clip_config.json), or `ARCHITECTURE` alone.

    Raises:
        ModelError: `model.unknown_architecture`, `model.unknown_tag` or `model.checkpoint_missing`.
    """
    open_clip = import_open_clip()
    if name.startswith("local-dir:"):
        directory = Path(name.removeprefix("local-dir:"))
        if not (directory / "open_clip_config.json").is_file():
            raise missing_checkpoint(directory / "open_clip_config.json")
        return Source(name, name, None, None, {})
    architecture, _, rest = name.partition("/")
    if architecture not in open_clip.list_models():
        raise unknown_architecture("open_clip", architecture, open_clip.list_models())
    if not rest:
        return Source(name, architecture, None, None, {})
    if rest.startswith(("/", "./", "../", "~")):
        checkpoint = Path(rest).expanduser()
        if not checkpoint.is_file():
            raise missing_checkpoint(checkpoint)
        return Source(name, architecture, None, checkpoint, {})
    settings = open_clip.get_pretrained_cfg(architecture, rest)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise ModelError(
            f"{architecture} has no tag {rest!r}. Its tags: {', '.join(tags) or 'none'}.",
            code="model.unknown_tag",
            hint=f"Write {architecture}/TAG or {architecture}//path/to/checkpoint.",
        )
    return Source(name, architecture, rest, None, settings)


def fetch(source: Source) -> Path:
    """The weights file of a source with a tag, downloaded when no cache holds it.

    Raises:
        ModelError: `model.weights_unreachable` without network access to the hub, and
            `model.weights_unavailable` when the hub answers but does not give the file.
    """
    cached = next(_cached(source.settings), None)
    if cached is not None:
        return cached
    endpoint = _endpoint(source.settings)
    if not _answers(endpoint):
        raise _unreachable(source)
    try:
        path = import_open_clip().download_pretrained(dict(source.settings))
    except Exception as error:  # boundary: the hub's client raises types of its HTTP libraries
        if not _answers(endpoint):
            raise _unreachable(source) from error
        raise ModelError(
            f"the weights of {source.name} could not be fetched: {error}",
            code="model.weights_unavailable",
            hint=_OFFLINE_HINT,
        ) from error
    return Path(path)


def _cached(settings: Mapping[str, Any]) -> Iterator[Path]:
    hub_id = settings.get("hf_hub", "")
    if hub_id:
        hub, names = import_extra("huggingface_hub"), import_extra("open_clip.constants")
        repository, filename = os.path.split(hub_id)
        wanted = filename or names.HF_WEIGHTS_NAME
        safe = str(PurePosixPath(wanted).with_suffix(".safetensors"))
        for candidate in (names.HF_SAFE_WEIGHTS_NAME if not filename else safe, safe, wanted):
            found = hub.try_to_load_from_cache(repository, candidate)
            if isinstance(found, str):
                yield Path(found)
    elif settings.get("url"):
        found_file = Path.home() / ".cache" / "clip" / os.path.basename(settings["url"])
        if found_file.is_file():
            yield found_file


def _endpoint(settings: Mapping[str, Any]) -> str:
    if settings.get("hf_hub"):
        return str(import_extra("huggingface_hub").constants.ENDPOINT)
    return str(settings["url"])


def _answers(url: str) -> bool:
    """Whether anything speaks HTTP there, in bounded time: name resolution has no timeout."""
    if import_extra("huggingface_hub").constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own url
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):  # noqa: S310
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)
        except OSError:
            answers.append(False)

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS + 1.0)
    return bool(answers and answers[0])


def _unreachable(source: Source) -> ModelError:
    return ModelError(
        f"the weights of {source.name} could not be fetched: there is no network access to the hub "
        "from here, and no cache on this machine holds them.",
        code="model.weights_unreachable",
        hint=_OFFLINE_HINT,
    )


def require_clear(source: Source, seed: int | None, tags: Callable[[], list[str]]) -> None:
    """Refuse a name without weights, and one with weights where random ones are asked for.

    Args:
        source: What the name stands for.
        seed: Of random weights; None for trained ones.
        tags: Gives the architecture's tags, for the refusal.

    Raises:
        ModelError: `model.weights_unnamed` or `model.weights_ambiguous`.
    """
    named = source.tag is not None or source.checkpoint is not None
    if named and seed is not None:
        raise ModelError(
            f"{source.name} names trained weights, and random weights were asked for too.",
            code="model.weights_ambiguous",
            hint="Name the architecture alone for random weights.",
        )
    if not named and seed is None:
        raise ModelError(
            f"{source.name} names no weights. Its tags: {', '.join(tags()) or 'none'}.",
            code="model.weights_unnamed",
            hint=f"Write {source.name}/TAG or {source.name}//path/to/checkpoint.",
        )


def unknown_architecture(library: str, architecture: str, known: list[str]) -> ModelError:
    """The refusal of a name, with the names that are like it."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(architecture.lower(), by_lower, n=5, cutoff=0.5)
    names = ", ".join(by_lower[name] for name in close)
    return ModelError(
        f"{library} knows no architecture {architecture!r}."
        + (f" Close names: {names}." if names else ""),
        code="model.unknown_architecture",
        hint="Write ARCHITECTURE/TAG, such as ViT-B-32/laion2b_s34b_b79k or timm/resnet50/a1_in1k.",
    )


def missing_checkpoint(path: Path) -> ModelError:
    """The refusal of a path without a file."""
    return ModelError(
        f"there is no file {path}.",
        code="model.checkpoint_missing",
        hint="Write ARCHITECTURE//absolute/path, ARCHITECTURE/./relative/path or local-dir:PATH.",
    )


def invalid_checkpoint(source: Source, error: Exception) -> ModelError:
    """The error for weights that are there and cannot be loaded."""
    return ModelError(
        f"the weights of {source.name} could not be loaded: {first_line(error)}",
        code="model.weights_invalid",
        hint="Check that the checkpoint belongs to this architecture and is complete.",
    )
