"""Compare an exported tower with the torch model that it came from, on ONNX Runtime.

Raw cosine hides damage: CLIP embeddings share one large mean, so a tower can keep a cosine of .9997
and still lose half of what tells two pictures apart. The mean embedding is subtracted first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.export.openclip import evaluating
from engines.export.openclip_import import import_extra, import_torch
from engines.gate.measures import centred_cosine
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

__all__ = [
    "FP32_MASTER",
    "Parity",
    "Tolerance",
    "image_parity",
    "probe_frames",
    "text_parity",
]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an exported tower may differ by.

    Attributes:
        max_abs: Largest absolute error of a component of a unit embedding.
        min_centred_cosine: Smallest cosine of a row after the mean embedding is subtracted.
    """

    max_abs: float
    min_centred_cosine: float


# Both runtimes compute in float32 and only sum in another order. ViT-B/32 differs by 2e-7 and the
# deepest towers by some 1e-5; a wrong mean, crop or activation moves a component by 1e-2 and more.
# The cosine is looser than 1 - max_abs because random weights put all embeddings close to their
# mean, which enlarges rounding by the ratio of the two norms.
FP32_MASTER = Tolerance(max_abs=1e-4, min_centred_cosine=0.9999)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported tower is from its torch model.

    Attributes:
        max_abs: Largest absolute error over all rows and components.
        centred_cosine: Smallest centred cosine over the rows.
        rows: Number of inputs compared.
    """

    max_abs: float
    centred_cosine: float
    rows: int

    def check(self, tolerance: Tolerance = FP32_MASTER) -> None:
        """Refuse an export that changes the answers.

        Raises:
            ModelError: `model.export_parity` when either measure is out of tolerance.
        """
        worse = self.max_abs > tolerance.max_abs
        # Written so that NaN fails.
        if worse or not self.centred_cosine >= tolerance.min_centred_cosine:
            raise ModelError(
                f"the exported tower differs from torch over {self.rows} inputs: max abs error "
                f"{self.max_abs:.2e} (allowed {tolerance.max_abs:.0e}), centred cosine "
                f"{self.centred_cosine:.6f} (needed {tolerance.min_centred_cosine}).",
                code="model.export_parity",
                hint="Do not use this export; report the architecture and the torch version.",
            )


def image_parity(
    model: Any,
    path: Path,
    *,
    geometry: Geometry,
    mean: Sequence[float],
    std: Sequence[float],
    frames: npt.NDArray[np.uint8] | None = None,
) -> Parity:
    """Run an image tower both ways.

    Args:
        model: The open_clip model.
        path: Its exported image tower.
        geometry: What the tower takes.
        mean: Per-channel mean, units of 0..1; applied as torchvision does, not as the graph does.
        std: Per-channel standard deviation, units of 0..1.
        frames: uint8 [n, size, size, 3]; `probe_frames` when None.
    """
    torch = import_torch()
    pixels = probe_frames(geometry.size) if frames is None else frames
    device = next(model.parameters()).device
    nchw = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(device)
    unit = nchw.to(torch.float32) / 255.0
    shape = (1, 3, 1, 1)
    normalised = (unit - torch.tensor(mean, device=device).reshape(shape)) / torch.tensor(
        std, device=device
    ).reshape(shape)
    return _parity(model, "encode_image", normalised, path, {"frames": pixels})


def text_parity(model: Any, path: Path, *, tokens: npt.NDArray[np.int64]) -> Parity:
    """Run a text tower both ways.

    Args:
        model: The open_clip model.
        path: Its exported text tower.
        tokens: int64 [n, context_length], several different texts.
    """
    device = next(model.parameters()).device
    ids = import_torch().from_numpy(tokens).to(device)
    return _parity(model, "encode_text", ids, path, {"tokens": tokens})


def probe_frames(size: int, n: int = 8, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pictures that differ as real ones do: each a random coarse layout, half of them with noise.

    Returns:
        uint8 [n, size, size, 3].
    """
    rng = np.random.default_rng(seed)
    out = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        cells = 2 + i % 6
        coarse = rng.integers(0, 256, (cells, cells, 3))
        index = np.arange(size) * cells // size
        picture = coarse[np.ix_(index, index)]
        noise = rng.normal(0, 40 * (i % 2), (size, size, 3))
        out[i] = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return out


def _parity(
    model: Any, method: str, inputs: Any, path: Path, feed: dict[str, npt.NDArray[Any]]
) -> Parity:
    torch = import_torch()
    with evaluating(model), torch.no_grad():
        features = torch.nn.functional.normalize(getattr(model, method)(inputs), dim=-1)
    reference: Floats = features.cpu().numpy().astype(np.float32)
    session = import_extra("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    (exported,) = session.run(["embedding"], feed)
    return Parity(
        max_abs=float(np.abs(exported - reference).max()),
        centred_cosine=float(centred_cosine(reference, exported).min()),
        rows=len(reference),
    )
