"""`reelsight samples` and `reelsight manifest`: something to run a backfill on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table
from reelsight.cli.paths import videos_below
from reelsight.errors import ManifestError

__all__ = ["manifest", "samples"]


def samples(
    directory: Annotated[Path, typer.Argument(help="Where to write clips and manifest.parquet.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of clips.")] = 12,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other clips.")] = 0,
    broken: Annotated[
        bool, typer.Option("--broken", help="Add a text file that claims to be a clip.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Write sample clips whose tags are known by construction, with their manifest."""
    from reelsight.samples.clips import write_samples
    from reelsight.store.manifest import Manifest, write_manifest

    clips = write_samples(directory, count=count, seed=seed)
    path = directory / "manifest.parquet"
    if broken:
        bad = directory / "not_a_video.mp4"
        bad.write_text("This is a text file whose name ends in .mp4.\n", encoding="utf-8")
        rows = [*Manifest.open(path), {"clip_id": "not_a_video", "uri": str(bad), "expected": []}]
        write_manifest(path, rows)
    if json_:
        print_json({"clips": len(clips), "manifest": str(path)})
    else:
        show_table(
            ["clip", "seconds", "labels by construction"],
            [
                (c.clip_id, f"{c.duration_s:.1f}", ", ".join(t.label for t in c.truth))
                for c in clips
            ],
            title=str(path),
        )


def manifest(
    directory: Annotated[Path, typer.Argument(help="Directory that is searched for videos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")],
    all_files: Annotated[
        bool, typer.Option("--all", help="Take every file, whatever its name.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Write a manifest of the videos below a directory; a clip's id is its relative path."""
    from reelsight.store.manifest import write_manifest

    if not directory.is_dir():
        raise ManifestError(f"no directory {directory}", code="manifest.missing")
    rows = [
        {"clip_id": str(p.relative_to(directory)), "uri": str(p.absolute())}
        for p in videos_below(directory, all_files=all_files)
    ]
    write_manifest(output, rows)
    if json_:
        print_json({"clips": len(rows), "manifest": str(output)})
    else:
        print(f"{len(rows)} clips in {output}")
