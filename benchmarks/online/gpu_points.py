"""What is asked of a door on a GPU machine: kinds of request, each by so many clients at a time.

A point is one kind by one number of clients for a while. Its row has what the clients saw, what
server and clients used of the CPU, and what the engine counted meanwhile.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.engines.frames import noise_frames
from benchmarks.online.client import Order
from benchmarks.online.crowd import crowd
from benchmarks.online.figures import percentile, summary
from benchmarks.online.inputs import make_clips, make_images
from benchmarks.online.servers import Tree
from benchmarks.online.stage import engine_stage, reading
from reelsight.cli.readings import Window

__all__ = ["Kind", "Uploads", "asked", "clip_kinds", "load_kinds", "make_uploads", "write_frames"]

_JSON_HEADER = "Inference-Header-Content-Length"
_BODIES = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Attributes:
        name: For the table.
        path: Of the route.
        files: Sent in turn.
        headers: Of every request; none for forms.
        clip: Whether it is one clip that is waited for.
    """

    name: str
    path: str
    files: list[str]
    headers: dict[str, str]
    clip: bool = False


@dataclass(frozen=True, slots=True)
class Uploads:
    """Files that are sent.

    Attributes:
        images: Small JPEGs.
        keyed: A clip with a keyframe a frame asked for.
        unkeyed: The same footage with one keyframe.
        frames: Sampled of a clip.
        words: What they are, for people, by name.
    """

    images: list[str]
    keyed: str
    unkeyed: str
    frames: int
    words: dict[str, str]


def make_uploads(
    work: Path, seconds: int, image: tuple[int, int], clip: tuple[int, int]
) -> Uploads:
    """Draw and encode them; what is there is kept.

    Args:
        work: Where they go.
        seconds: Of a clip, one frame of which is asked for each second.
        image: Height and width of a JPEG, pixels.
        clip: Of a clip's pictures.
    """
    images = make_images(work / "small-images", 8, image)
    keyed, unkeyed = (
        make_clips(work / "long-clips", 1, clip, seconds, key_s=key_s)[0] for key_s in (1, 0)
    )
    size = f"{clip[1]}x{clip[0]}, {seconds} s at 25 pictures a second, H.264"
    kb = sum(path.stat().st_size for path in images) / len(images) / 1000
    words = {
        "image": f"JPEG {image[1]}x{image[0]}, quality 90, {kb:.0f} KB",
        "keyed": f"{size}, a keyframe a second, {keyed.stat().st_size / 1000:.0f} KB",
        "unkeyed": f"{size}, one keyframe, {unkeyed.stat().st_size / 1000:.0f} KB",
    }
    return Uploads([str(p) for p in images], str(keyed), str(unkeyed), seconds, words)


def write_frames(work: Path, count: int, size: int) -> tuple[list[str], dict[str, str]]:
    """Requests of raw frames in the Open Inference Protocol's binary form.

    Args:
        work: Where they go.
        count: Frames of a request: uniform noise.
        size: Of the engine.

    Returns:
        The bodies' files, and their headers.
    """
    directory = work / "raw-frames"
    directory.mkdir(parents=True, exist_ok=True)
    frame_bytes = count * size * size * 3
    tensor = {
        "name": "pixels",
        "shape": [count, size, size, 3],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": frame_bytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    noise = noise_frames(count, size)
    paths = []
    for number in range(_BODIES):
        path = directory / f"{count}x{size}-{number}.bin"
        path.write_bytes(head + (noise + np.uint8(number)).tobytes())
        paths.append(str(path))
    return paths, {"Content-Type": "application/octet-stream", _JSON_HEADER: str(len(head))}


def load_kinds(uploads: Uploads, work: Path, model: str, size: int, batch: int) -> list[Kind]:
    """What is asked by many at a time: a small picture, and a batch of raw frames."""
    files, headers = write_frames(work, batch, size)
    return [
        Kind("a JPEG to /v1/tags", "/v1/tags", uploads.images, {}),
        Kind(f"{batch} raw frames to infer", _infer(model), files, headers),
    ]


def clip_kinds(uploads: Uploads, work: Path, model: str, size: int) -> list[Kind]:
    """A clip of as many frames as it has seconds: decoded before, by keyframes, and in full."""
    count = uploads.frames
    files, headers = write_frames(work, count, size)
    one, keyed, unkeyed = "one keyframe", [uploads.keyed], [uploads.unkeyed]
    return [
        Kind(f"{count} decoded frames to infer", _infer(model), files, headers, clip=True),
        Kind(f"{count} keyframes", _tags("keyframe"), keyed, {}, clip=True),
        Kind(f"{count} frames, {one}", _tags("rate:1"), unkeyed, {}, clip=True),
        Kind(f"{count} frames, {one}, fast", _tags("rate:1@fast"), unkeyed, {}, clip=True),
    ]


def asked(tree: Tree, kind: Kind, clients: int, seconds: float, processes: int) -> dict[str, Any]:
    """One point.

    Args:
        tree: The door.
        kind: What is asked.
        clients: Connections at a time, each asking again when it is answered.
        seconds: For which requests are begun.
        processes: That the clients are spread over, at most.

    Raises:
        OSError: The door tells no numbers.
    """
    order = Order(tree.port, kind.path, kind.files, seconds, clients, headers=kind.headers)
    before, used, began = reading(tree.port), tree.cpu_s, time.perf_counter()
    told = crowd(order, processes)
    used, wall = tree.cpu_s - used, time.perf_counter() - began
    done = Window(reading(tree.port), before)
    row = summary(told, used)
    good = [one.took for one in told["outcomes"] if one.status == 200]
    span = max(told["span_s"], 1e-9)
    stage = engine_stage(done, span)
    return {
        "asked": kind.name,
        "clip": kind.clip,
        "clients": clients,
        "images_per_s": round(stage["frames"] / span, 1),
        "images_a_request": round(stage["frames"] / len(good), 2) if good else None,
        **row,
        "p95_ms": percentile(good, 0.95),
        "span_s": round(span, 2),
        "server_cores": round(used / max(wall, 1e-9), 2),
        "client_processes": told["processes"],
        "busiest_client": round(told["busiest"], 2),
        "engine": stage,
    }


def _infer(model: str) -> str:
    return f"/v2/models/{quote(model)}/infer"


def _tags(sampling: str) -> str:
    return f"/v1/tags?sampling={quote(sampling)}"
