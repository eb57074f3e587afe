"""Export the towers of an open_clip model, or any image encoder, as FP32 ONNX masters.

The graph carries what callers get wrong: it takes uint8 RGB pixels as a decoder gives them and
normalises inside, and it L2-normalises its output. Precision belongs to later steps that start from
this master. The module knows nothing of names, weights or files beside the graph: see `resolve`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.export.openclip_import import EXPORT_HINT, import_torch
from reelsight.errors import ModelError, first_line
from reelsight.nouns.engine_spec import Geometry

__all__ = [
    "DEFAULT_OPSET",
    "evaluating",
    "export_image_encoder",
    "export_image_tower",
    "export_text_tower",
]

# Opset 20 is the newest that every runtime we target builds in FP32: the Attention operator that
# newer opsets decompose into does not build there.
DEFAULT_OPSET = 20
# One protobuf message holds at most 2 GiB; the margin is for the graph beside the weights.
_SINGLE_FILE_BYTES = 2**31 - 2**26
_IMAGE_EXAMPLES = 2
_TEXT_EXAMPLES = 2


def export_image_tower(
    model: Any,
    path: Path,
    *,
    geometry: Geometry,
    mean: Sequence[float],
    std: Sequence[float],
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write the image tower as ONNX.

    Input `frames`: uint8 [n, size, size, 3], NHWC, RGB, 0..255, n dynamic. Output `embedding`:
    float32 [n, dim], rows of unit L2 norm.

    Args:
        model: An open_clip `CLIP` or `CustomTextCLIP` in float32, on any device.
        path: The ONNX file to write; weights of 2 GB and more go to `<path>.data` beside it.
        geometry: The square size that the tower takes.
        mean: Per-channel RGB mean, in units of 0..1.
        std: Per-channel RGB standard deviation, in units of 0..1.
        opset: ONNX opset of the graph.

    Raises:
        ModelError: The model is not float32, not a two-tower CLIP, or cannot be traced.
    """
    _require_two_towers(model)
    export_image_encoder(model, path, geometry=geometry, mean=mean, std=std, opset=opset)


def export_image_encoder(
    model: Any,
    path: Path,
    *,
    geometry: Geometry,
    mean: Sequence[float],
    std: Sequence[float],
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write any module's image encoder as ONNX, with what `export_image_tower` promises.

    Args:
        model: A float32 module whose `encode_image` maps normalised float32 [n, 3, size, size] to
            features float32 [n, dim].
        path: As for export_image_tower, like all that follow.
        geometry: The square size that the encoder takes.
        mean: Per-channel RGB mean, in units of 0..1.
        std: Per-channel RGB standard deviation, in units of 0..1.
        opset: ONNX opset of the graph.

    Raises:
        ModelError: The model is not float32 or cannot be traced.
    """
    torch = import_torch()

    class ImageTower(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            deviation = torch.tensor(std, dtype=torch.float32)
            shift = -torch.tensor(mean, dtype=torch.float32) / deviation
            self.register_buffer("scale", (1.0 / (255.0 * deviation)).reshape(1, 3, 1, 1))
            self.register_buffer("shift", shift.reshape(1, 3, 1, 1))

        def forward(self, frames: Any) -> Any:
            pixels = frames.permute(0, 3, 1, 2).to(torch.float32)
            features = self.model.encode_image(pixels * self.scale + self.shift)
            return torch.nn.functional.normalize(features, dim=-1)

    _require_float32(model)
    device = next(model.parameters()).device
    shape = (_IMAGE_EXAMPLES, geometry.size, geometry.size, 3)
    example = torch.zeros(shape, dtype=torch.uint8, device=device)
    _export(ImageTower().to(device), example, "frames", path, opset)


def export_text_tower(
    model: Any, path: Path, *, context_length: int, opset: int = DEFAULT_OPSET
) -> None:
    """Write the text tower as ONNX.

    Input `tokens`: int64 [n, context_length], n dynamic, padded as the model's tokenizer pads.
    Output `embedding`: float32 [n, dim], rows of unit L2 norm.

    Args:
        model: An open_clip `CLIP` or `CustomTextCLIP` in float32, on any device.
        path: The ONNX file to write; weights of 2 GB and more go to `<path>.data` beside it.
        context_length: Tokens a text takes.
        opset: ONNX opset of the graph.

    Raises:
        ModelError: The model is not float32, not a two-tower CLIP, or cannot be traced.
    """
    torch = import_torch()

    class TextTower(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any) -> Any:
            return torch.nn.functional.normalize(self.model.encode_text(tokens), dim=-1)

    _require_two_towers(model)
    _require_float32(model)
    device = next(model.parameters()).device
    example = torch.zeros((_TEXT_EXAMPLES, context_length), dtype=torch.int64, device=device)
    _export(TextTower(), example, "tokens", path, opset)


def _require_two_towers(model: Any) -> None:
    kind = type(model).__name__
    if kind not in ("CLIP", "CustomTextCLIP"):
        raise ModelError(
            f"a {kind} has no plain image and text tower; CLIP and CustomTextCLIP have.",
            code="model.architecture_unsupported",
            hint="Choose a two-tower architecture such as ViT-B-32.",
        )


def _require_float32(model: Any) -> None:
    torch = import_torch()
    others = {str(p.dtype) for p in model.parameters() if p.dtype != torch.float32}
    if others:
        raise ModelError(
            f"the ONNX master is float32 and this model has parameters in {sorted(others)}.",
            code="model.precision_unsupported",
            hint="Load it with precision='fp32'; lower precisions start from the exported master.",
        )


def _export(tower: Any, example: Any, name: str, path: Path, opset: int) -> None:
    torch = import_torch()
    batch = torch.export.Dim("n", min=1, max=65535)
    with evaluating(tower), torch.no_grad(), warnings.catch_warnings():
        # The exporter warns about its own internals; what matters is checked by parity.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                tower,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[name],
                output_names=["embedding"],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
        except ImportError as error:
            raise ModelError(
                f"torch's ONNX exporter is incomplete here: {error}.",
                code="model.export_extra_missing",
                hint=EXPORT_HINT,
            ) from error
        except torch.onnx.OnnxExporterError as error:
            raise ModelError(
                f"torch cannot export this tower to ONNX opset {opset}: {first_line(error)}",
                code="model.export_failed",
                hint="Report the architecture with the exporter's report, this error's cause.",
            ) from error
    _keep_names_unique(program.model)
    _drop_provenance(program.model)
    program.save(str(path), external_data=_weights_bytes(program.model) >= _SINGLE_FILE_BYTES)


def _weights_bytes(graph_model: Any) -> int:
    return sum(int(value.const_value.nbytes) for value in graph_model.graph.initializers.values())


def _keep_names_unique(graph_model: Any) -> None:
    """Rename inner values that took an input's or output's name (token embedding: `embedding`)."""
    graph = graph_model.graph
    outer = (*graph.inputs, *graph.outputs)
    reserved = {value.name for value in outer}
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in reserved and not any(value is known for known in outer):
                value.name = f"{value.name}_inner"


def _drop_provenance(graph_model: Any) -> None:
    """Remove the exporter's stack traces: they name files of this machine and change the hash."""
    for graph in (graph_model.graph, *graph_model.functions.values()):
        graph.metadata_props.clear()
        graph.doc_string = None
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    for value in graph_model.graph.initializers.values():
        value.metadata_props.clear()
    graph_model.metadata_props.clear()


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode inside, and every submodule's own mode again afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
