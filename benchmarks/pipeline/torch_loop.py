"""Peer: the plain loop, one clip after another, as people write it around open_clip.

decord at one frame a second, open_clip's own preprocessing on PIL images, one batch a clip, torch
with all its threads, similarity to the label texts, one Parquet file at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import decord
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from engines.export.openclip_import import import_open_clip

open_clip = import_open_clip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", type=Path, required=True)
    options = parser.parse_args()

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{options.model}")
    model.eval()
    text = torch.from_numpy(np.load(options.text))

    rows = []
    for clip in pq.read_table(options.manifest).to_pylist():
        reader = decord.VideoReader(clip["uri"])
        step = reader.get_avg_fps()
        indices = [round(i * step) for i in range(round(len(reader) / step))]
        images = [Image.fromarray(frame) for frame in reader.get_batch(indices).asnumpy()]
        with torch.inference_mode():
            batch = torch.stack([preprocess(image) for image in images])
            embeddings = model.encode_image(batch, normalize=True)
            scores = embeddings @ text.T
        for index, embedding, score in zip(indices, embeddings, scores, strict=True):
            rows.append(
                {
                    "clip_id": clip["clip_id"],
                    "t": float(reader.get_frame_timestamp(index)[0]),
                    "embedding": embedding.numpy(),
                    "scores": score.numpy(),
                }
            )
    options.output.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), options.output / "frames.parquet")


if __name__ == "__main__":
    main()
