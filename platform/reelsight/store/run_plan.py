"""RunPlan: what a run is bound to, written once before it starts.

A run that goes on after a crash must be the same run: the same clips, decided by the same versions.
Whatever else may change between two tries (widths, block sizes, limits on failures) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from reelsight.errors import ManifestError, RunConflict, StoreError
from reelsight.store.sealed import digest_of, seal, unseal
from reelsight.store.split import ShardInput, SplitFile
from reelsight.store.tally import Expected

__all__ = ["ManifestIdentity", "RunPlan"]

_SHOWN = 24


@dataclass(frozen=True, slots=True)
class ManifestIdentity:
    """Which manifest a run is of.

    Attributes:
        path: Where it was; a moved manifest is the same one.
        sha256: Of its bytes, hex.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> ManifestIdentity:
        """Hash a manifest.

        Raises:
            ManifestError: `manifest.missing`, or it cannot be read.
        """
        if not path.is_file():
            raise ManifestError(f"no manifest file at {path}", code="manifest.missing")
        try:
            with path.open("rb") as file:
                return cls(str(path.absolute()), file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise ManifestError(f"cannot read {path}: {error}") from error


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run before anything of it is done.

    Attributes:
        run_id: Number and digest.
        decided: What decides a Report, by name: versions, limits, backend.
        manifest: Which clips.
        rows: How many.
        shards: Into how many shards they are split; those without clips need no commit.
        files: The split.
        inputs: The shards that have clips, in order.
        began: When its driver set out, as `utc_text` writes it: before any clip was read. Nothing
            of the run hangs on it; whose copies its clips are does.
    """

    run_id: str
    decided: Mapping[str, Any]
    manifest: ManifestIdentity
    rows: int
    shards: int
    files: tuple[SplitFile, ...]
    inputs: tuple[ShardInput, ...]
    began: str | None = None

    @staticmethod
    def digest(decided: Mapping[str, Any], manifest: ManifestIdentity) -> str:
        """First 12 hex digits of the sha256 over what a run is bound to."""
        return digest_of({"decided": dict(decided), "manifest": manifest.sha256})[:12]

    def differences(self, decided: Mapping[str, Any], manifest: ManifestIdentity) -> list[str]:
        """What keeps this run from being continued, each in words; empty when nothing does."""
        found = []
        if manifest.sha256 != self.manifest.sha256:
            then, now = self.manifest.sha256, manifest.sha256
            found.append(f"manifest: sha256 was {then[:_SHOWN]}..., is {now[:_SHOWN]}...")
        for name in sorted({*self.decided, *decided}):
            before, after = self.decided.get(name), decided.get(name)
            if before != after:
                found.append(f"{name}: was {before!r}, is {after!r}")
        return found

    def require_same(self, decided: Mapping[str, Any], manifest: ManifestIdentity) -> None:
        """Refuse to go on with something else.

        Raises:
            RunConflict: `run.manifest_changed` or `run.config_changed`.
        """
        if not (found := self.differences(decided, manifest)):
            return
        changed = "manifest" if manifest.sha256 != self.manifest.sha256 else "config"
        raise RunConflict(
            f"run {self.run_id} cannot go on with something else: {'; '.join(found)}",
            code=f"run.{changed}_changed",
        )

    @property
    def retag(self) -> dict[str, Any]:
        """What it is bound to because it re-scores another run; empty where it does not."""
        return {name: value for name, value in self.decided.items() if name.startswith("retag.")}

    @property
    def name(self) -> str:
        """The object's name."""
        return f"runs/{self.run_id}/plan.json"

    def to_bytes(self) -> bytes:
        """As a sealed document; the shards by column, for there may be many."""
        document = {name: getattr(self, name) for name in ("run_id", "rows", "shards", "began")}
        document["decided"] = dict(self.decided)
        document["manifest"] = asdict(self.manifest)
        document["files"] = [asdict(file) for file in self.files]
        numbers = {file.path: i for i, file in enumerate(self.files)}
        document["inputs"] = {
            "shard": [i.shard for i in self.inputs],
            "file": [numbers[i.path] for i in self.inputs],
            "batch": [i.batch for i in self.inputs],
            "rows": [i.expected.rows for i in self.inputs],
            "ids": [i.expected.ids for i in self.inputs],
        }
        return seal(document)

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> RunPlan:
        """Read a plan.

        Raises:
            StoreError: `store.plan_damaged`.
        """
        try:
            document = unseal(content)
            files = tuple(SplitFile(**item) for item in document.pop("files"))
            columns = document.pop("inputs")
            order = ("shard", "file", "batch", "rows", "ids")
            inputs = tuple(
                ShardInput(shard, files[file].path, batch, Expected(rows, ids))
                for shard, file, batch, rows, ids in zip(*(columns[c] for c in order), strict=True)
            )
            manifest = ManifestIdentity(**document.pop("manifest"))
            return cls(**document, manifest=manifest, files=files, inputs=inputs)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StoreError(
                f"{name} is no plan of a run: {error}",
                code="store.plan_damaged",
                hint="Nothing of that run can be trusted; start another with --new.",
            ) from error
