"""Both networks as FP32 ONNX masters, checked against torch: what a runtime needs to mark and read.

`embedder.onnx`: luma uint8 [n, 1, size, size], bits float32 [n, bits] of 0 and 1, strength float32
[n] in dB, to residual float32 [n, 1, size, size] in grey levels of full range. A caller enlarges
the residual to its picture, scales it by 219/255 where luma is of limited range, and adds it.

`extractor.onnx`: luma uint8 [n, 1, size, size] of full range, the active picture squashed, to
logits float32 [n, bits] and presence float32 [n]. The batch is dynamic in both.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.export.openclip import DEFAULT_OPSET
from reelsight.errors import ModelError
from training.marks.embedder import Embedder
from training.marks.extractor import Extractor
from training.marks.synthetic import draw_pictures

__all__ = ["LIMITS", "Exported", "export_pair"]

LIMITS = {"embedder": 5e6, "extractor": 11e6}
"""Bytes that each file may have."""

# Float32 both times, summed in another order. Residuals are of a few levels and logits of some
# tens; a wrong layer moves both by whole units.
_MOST_RESIDUAL, _MOST_LOGIT = 2e-2, 1e-2
_EXAMPLES = 2


@dataclass(frozen=True)
class Exported:
    """One exported network.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        bytes: Its size.
        max_abs: Largest error against torch over the probe.
    """

    path: Path
    sha256: str
    bytes: int
    max_abs: float


class _Marks(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """The embedder on uint8 luma, its carriers already inside their band."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder
        self.register_buffer("tables", embedder.tables().detach().clone())

    def forward(self, luma: Tensor, bits: Tensor, strength: Tensor) -> Tensor:
        drawn: Tensor = self.embedder(luma.to(torch.float32), bits, strength, self.tables)
        return drawn


class _Reads(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """The extractor on uint8 luma."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        answers: tuple[Tensor, Tensor] = self.extractor(luma.to(torch.float32))
        return answers


def export_pair(embedder: Embedder, extractor: Extractor, out: Path) -> dict[str, Exported]:
    """Write `embedder.onnx` and `extractor.onnx` and compare both with torch.

    Args:
        embedder: With the weights and the masking to be frozen; any device.
        extractor: Any device.
        out: Directory; made when missing.

    Raises:
        ModelError: A file is larger than LIMITS allow, or answers otherwise than torch does.
    """
    out.mkdir(parents=True, exist_ok=True)
    marks = _Marks(copy.deepcopy(embedder).cpu().float().eval()).eval()
    marks.embedder.fast = False
    plain = copy.deepcopy(extractor).cpu().float().eval().to(memory_format=torch.contiguous_format)
    reads = _Reads(plain).eval()
    shape = embedder.shape
    luma = torch.from_numpy(draw_pictures(_EXAMPLES + 1, shape.size, seed=31))[:, None]
    bits = torch.from_numpy(
        np.random.default_rng(32).integers(0, 2, (len(luma), shape.bits)).astype(np.float32)
    )
    strength = torch.linspace(36, 42, len(luma))
    with torch.no_grad():
        residual = marks(luma, bits, strength)
        marked = (luma + residual).round().clamp(0, 255).byte()
        logits, presence = reads(marked)
        paths = {name: out / f"{name}.onnx" for name in LIMITS}
        inputs = (luma[:_EXAMPLES], bits[:_EXAMPLES], strength[:_EXAMPLES])
        _write(marks, inputs, ("luma", "bits", "strength"), ("residual",), paths["embedder"])
        _write(reads, (marked[:_EXAMPLES],), ("luma",), ("logits", "presence"), paths["extractor"])
    feed = {"luma": luma.numpy(), "bits": bits.numpy(), "strength": strength.numpy()}
    return {
        "embedder": _checked(paths["embedder"], feed, (residual,), _MOST_RESIDUAL),
        "extractor": _checked(
            paths["extractor"], {"luma": marked.numpy()}, (logits, presence), _MOST_LOGIT
        ),
    }


def _write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    outputs: Sequence[str],
    path: Path,
) -> None:
    batch = torch.export.Dim("n", min=1, max=65535)
    with warnings.catch_warnings():
        # The exporter warns about its own internals; what matters is checked against torch.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=DEFAULT_OPSET,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            verbose=False,
        )
    _drop_provenance(program.model)
    program.save(str(path), external_data=False)


def _drop_provenance(model: Any) -> None:
    """Remove the exporter's stack traces: they name files of this machine and change the hash."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _checked(path: Path, feed: dict[str, Any], expected: Sequence[Tensor], most: float) -> Exported:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = session.run(None, feed)
    worst = max(
        float(np.abs(answer - truth.numpy()).max())
        for answer, truth in zip(answers, expected, strict=True)
    )
    content = path.read_bytes()
    if not worst <= most:
        raise ModelError(
            f"{path.name} differs from torch by {worst:.1e}; {most:.0e} is allowed.",
            code="model.export_parity",
            hint="Do not use this export; report the versions of torch and onnxruntime.",
        )
    if len(content) > LIMITS[path.stem]:
        raise ModelError(
            f"{path.name} has {len(content)} bytes; {LIMITS[path.stem]:.0f} are allowed.",
            code="model.too_large",
            hint="Train a smaller Shape.",
        )
    return Exported(path, hashlib.sha256(content).hexdigest(), len(content), worst)
