"""Peer: the Ray Data script that one writes from its documentation.

Rows of clips, `flat_map` with decord to one row a frame, `map` with open_clip's preprocessing on a
PIL image, `map_batches` with an actor that holds the torch model, `write_parquet`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray

BATCH = 32


def decode(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import decord

    reader = decord.VideoReader(row["uri"], num_threads=1)
    step = reader.get_avg_fps()
    indices = [round(i * step) for i in range(round(len(reader) / step))]
    for index, frame in zip(indices, reader.get_batch(indices).asnumpy(), strict=True):
        stamp = float(reader.get_frame_timestamp(index)[0])
        yield {"clip_id": row["clip_id"], "t": stamp, "frame": frame}


class Preprocess:
    """Per-row open_clip preprocessing; the transform is made once in a worker process."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.transform: Any = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        if self.transform is None:
            self.transform = transform_of(self.model)
        image = self.transform(Image.fromarray(row["frame"])).numpy()
        return {"clip_id": row["clip_id"], "t": row["t"], "image": image}


class Embed:
    """The model in an actor: batches of preprocessed images to embeddings and scores."""

    def __init__(self, model: str, text: str) -> None:
        import torch

        from engines.export.openclip_import import import_open_clip

        open_clip = import_open_clip()
        self.torch = torch
        self.model = open_clip.create_model(f"local-dir:{model}").eval()
        self.text = torch.from_numpy(np.load(text))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        with self.torch.inference_mode():
            embeddings = self.model.encode_image(
                self.torch.from_numpy(batch["image"]), normalize=True
            )
            scores = embeddings @ self.text.T
        return {
            "clip_id": batch["clip_id"],
            "t": batch["t"],
            "embedding": embeddings.numpy(),
            "scores": scores.numpy(),
        }


def transform_of(model: str) -> Any:
    """open_clip's evaluation transform of a model directory, without building the model."""
    import json

    from engines.export.openclip_import import import_open_clip

    open_clip = import_open_clip()
    config = json.loads((Path(model) / "open_clip_config.json").read_text())["preprocess_cfg"]
    return open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**config), is_train=False
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", type=Path, required=True)
    options = parser.parse_args()

    ray.init(include_dashboard=False)
    (
        ray.data.from_items(pq.read_table(options.manifest).to_pylist())
        .flat_map(decode)
        .map(Preprocess(options.model))
        .map_batches(
            Embed,
            fn_constructor_args=(options.model, str(options.text)),
            batch_size=BATCH,
            concurrency=1,
        )
        .write_parquet(str(options.output))
    )


if __name__ == "__main__":
    main()
