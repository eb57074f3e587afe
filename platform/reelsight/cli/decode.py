"""`reelsight decode`: the frames that a sampling gives, as times and as a picture to look at."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines, show_table

if TYPE_CHECKING:
    from reelsight.media.sampler import Sampling
    from reelsight.nouns.clip import Clip
    from reelsight.nouns.frames import Frames

__all__ = ["command"]


def command(
    path: Annotated[str, typer.Argument(help="A video file or uri.")],
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="rate:R, count:N, keyframe, keyframe:S, keyframe+fill:R, scene or scene:MIN-MAX; "
            "media.sampling by default.",
        ),
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option("--accuracy", help="exact, reference or fast.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--contact-sheet", help="Write the frames as one picture here.")
    ] = None,
    size: Annotated[int, typer.Option("--size", min=16, max=2048, help="Side, pixels.")] = 224,
    columns: Annotated[int, typer.Option("--columns", min=1, help="Frames in a row.")] = 6,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Decode a clip's sampled frames; says their times and how far off they are."""
    from reelsight.media.decoder import open_decoder
    from reelsight.media.fetch import fetch
    from reelsight.nouns.engine_spec import Geometry

    media = options.load(config, set_).media
    sampling = _sampling(media.sampling, policy, accuracy)
    data = fetch(path, media.limits)
    with closing(open_decoder(media.decoding, sampling)) as decoder:
        clip, frames = decoder.decode(path, path, data, sampling, Geometry(size), media.limits)
    if sheet is not None:
        _draw(sheet, clip, frames, columns)
    if json_:
        print_json(_plain(clip, frames, sheet))
    else:
        _show(clip, frames, sheet)


def _sampling(set_up: Sampling, policy: str | None, accuracy: str | None) -> Sampling:
    from reelsight.media.sampler import Sampling

    sampling = set_up if policy is None else Sampling.parse(policy)
    return sampling if accuracy is None else replace(sampling, accuracy=accuracy)  # type: ignore[arg-type]


def _draw(path: Path, clip: Clip, frames: Frames, columns: int) -> None:
    from reelsight.media.contact_sheet import contact_sheet

    aspect = clip.width / clip.height if clip.width and clip.height else 1.0
    title = f"{Path(clip.uri).name}  {clip.codec} {clip.width}x{clip.height}"
    picture = contact_sheet(frames, title, columns, aspect)
    # The name may end in anything; what is written is always PNG.
    picture.save(path, format="PNG")


def _plain(clip: Clip, frames: Frames, sheet: Path | None) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "sha256": clip.sha256,
        "policy": frames.policy,
        "asked": frames.asked,
        "returned": frames.returned,
        "max_error_s": frames.max_error_s,
        "end_s": frames.end_s,
        "stopped": frames.stopped,
        "frames": [{"pts": frame.pts, "weight_s": frame.weight} for frame in frames],
        "contact_sheet": str(sheet) if sheet else None,
    }


def _show(clip: Clip, frames: Frames, sheet: Path | None) -> None:
    lines = [
        f"{frames.policy}: {frames.returned} frames for {frames.asked} times, "
        f"off by at most {frames.max_error_s:.3f} s"
    ]
    if frames.stopped:
        lines.append(f"stopped at {frames.end_s:.3f} s: {frames.stopped}")
    if sheet:
        lines.append(f"contact sheet: {sheet}")
    show_lines(clip.uri, lines)
    rows = [(f"{frame.pts:.3f}", f"{frame.weight:.3f}") for frame in frames]
    show_table(["pts (s)", "stands for (s)"], rows)
