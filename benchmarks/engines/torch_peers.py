"""Contenders: the tower in torch, eager or compiled, and transformers' form of it.

Their throughput is favoured: it is taken on input that is on the device, normalised, and of the
tower's own type already. Towers of convolutions in FP16 are channels-last with tuned convolutions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.engines.contender import Embeddings, Pixels
from benchmarks.engines.frames import noise_frames
from benchmarks.engines.timing import timed
from benchmarks.engines.towers import ModelCase, Tower, load_tower, vision_config
from engines.export.openclip_import import import_extra, import_open_clip

__all__ = ["TorchPeer"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class TorchPeer:
    """A tower under `torch.inference_mode`.

    Args:
        kind: `eager`; `compile`, with CUDA graphs and static shapes; or `transformers`, eager too.
        case: The model.
        precision: `fp32`, without TF32, or `fp16`.
        device: `cuda` or `cpu`.
        threads: CPU threads of torch.
    """

    def __init__(
        self, kind: str, case: ModelCase, precision: str, device: str, threads: int
    ) -> None:
        self._kind, self._case, self._device, self._threads = kind, case, device, threads
        self._dtype = _DTYPES[precision]
        self._inputs: dict[int, Any] = {}
        self._placed = False

    def load(self) -> None:
        torch.set_num_threads(self._threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self._tower = (_transformers if self._kind == "transformers" else load_tower)(self._case)
        convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in self._tower.module.modules())
        lasting = convolutions > 1 and self._dtype is torch.float16
        self._format = torch.channels_last if lasting else torch.contiguous_format

    def place(self, batches: tuple[int, ...]) -> None:
        if not self._placed:
            self._place()
        self._inputs.clear()
        # As in `run`: torch.compile takes inference tensors and others for different inputs.
        with torch.inference_mode():
            for batch in batches:
                frames = self._on_device(noise_frames(batch, self._size))
                self._inputs[batch] = self._pixels(frames)

    def warm(self, batch: int) -> None:
        self._repeat(batch, 3)
        if batch == 1:
            for _ in range(3):
                self.run(noise_frames(1, self._size))

    def throughput(self, batch: int, seconds: float) -> tuple[int, float]:
        return timed(lambda times: self._repeat(batch, times), seconds)

    def run(self, frames: Pixels) -> Embeddings:
        self._begin()
        with torch.inference_mode():
            given = self._on_device(frames)
            if len(frames) == 1:
                rows = self._whole(given)
            else:
                # Not compiled as a whole: only the batch that latency is taken at is worth it.
                rows = _unit(self._run_tower(self._pixels(given)))
            found: Embeddings = rows.cpu().numpy()
        return found

    def pipelined(self, batch: int, seconds: float) -> tuple[int, float] | None:
        return None

    def reserved_mib(self) -> float | None:
        return torch.cuda.max_memory_reserved() / 2**20 if self._device == "cuda" else None

    def profile(self, batch: int) -> list[dict[str, Any]] | None:
        return None

    @property
    def _size(self) -> int:
        return self._tower.size

    def _place(self) -> None:
        tower = self._tower
        module = tower.module.to(self._device, self._dtype, memory_format=self._format)
        deviation = torch.tensor(tower.std, device=self._device).reshape(1, 3, 1, 1)
        mean = torch.tensor(tower.mean, device=self._device).reshape(1, 3, 1, 1)
        self._scale, self._shift = 1 / (255 * deviation), -mean / deviation

        def whole(frames: Any) -> Any:
            return _unit(module(self._pixels(frames)))

        self._run_tower: Any = module
        self._whole: Any = whole
        if self._kind == "compile":
            self._run_tower = torch.compile(module, mode="reduce-overhead", dynamic=False)
            self._whole = torch.compile(whole, mode="reduce-overhead", dynamic=False)
        self._placed = True

    def _on_device(self, frames: Pixels) -> Any:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)

    def _pixels(self, frames: Any) -> Any:
        pixels = frames.permute(0, 3, 1, 2) * self._scale + self._shift
        return pixels.to(self._dtype, memory_format=self._format)

    def _repeat(self, batch: int, times: int) -> None:
        given = self._inputs[batch]
        with torch.inference_mode():
            for _ in range(times):
                self._begin()
                self._run_tower(given)
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _begin(self) -> None:
        if self._kind == "compile":
            # The last answer was read: its graph's memory may be written again.
            torch.compiler.cudagraph_mark_step_begin()


def _unit(features: Any) -> Any:
    return torch.nn.functional.normalize(features.float(), dim=-1)


def _transformers(case: ModelCase) -> Tower:
    """The CLIP tower of transformers, of the same shape; its random weights are its own."""
    vision = vision_config(case)
    if vision is None:
        raise SystemExit("transformers' CLIP has plain ViTs alone")
    # transformers imports torchvision, which open_clip's importer repairs where it must.
    import_open_clip()
    library = import_extra("transformers")
    width = vision["width"]
    config = library.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", 4.0)),
        projection_dim=vision["embed_dim"],
        num_hidden_layers=vision["layers"],
        num_attention_heads=width // vision.get("head_width", 64),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act="quick_gelu" if vision["quick_gelu"] else "gelu",
        attn_implementation="sdpa",
    )
    model = library.CLIPVisionModelWithProjection(config).eval()

    class Embeds(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> Any:
            return self.model(pixel_values=pixels).image_embeds

    clip_mean, clip_std = (0.4814, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
    return Tower(Embeds().eval(), clip_mean, clip_std, vision["image_size"])
