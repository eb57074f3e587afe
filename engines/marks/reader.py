"""The extractor of a pair as a model: one graph that takes frames and gives rows, like a tower.

Precision plans, backends, packages and hosts know image towers: uint8 frames [n, S, S, 3] in, one
float32 row a frame out. An extractor takes one channel and gives two tensors. Around its own nodes
go four that change no number: the first channel is taken, and both answers become one row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.precision.onnx_graph import import_onnx
from engines.precision.writing import writing
from reelsight.atomic import write_whole
from reelsight.digest import file_sha256
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.mark_pair import PAIR_HINT, MarkPair
from reelsight.nouns.model import Model

__all__ = ["reader_master", "reader_model"]

_LICENCE = "the pair's own"
_INPUT, _OUTPUT = "frames", "embedding"


def reader_model(pair: MarkPair, spec: EngineSpec) -> Model:
    """What packages of an extractor are compared with; nothing can be built of it.

    Args:
        pair: Whose extractor.
        spec: Of the extractor as `OrtMarkReader` opens it.
    """
    return Model(
        name=spec.model,
        directory=pair.directory,
        geometry=spec.geometry,
        dim=spec.dim,
        context_length=0,
        logit_scale=1.0,
        default_threshold=0.0,
        licence=_LICENCE,
        hash=pair.hash,
        image=pair.extractor,
        sha256=(),
        words=None,
    )


def reader_master(pair: MarkPair, spec: EngineSpec, directory: Path) -> Model:
    """The FP32 master that derived files are made of, written into a directory.

    Args:
        pair: Whose extractor; its files were compared with its card.
        spec: Of the extractor as `OrtMarkReader` opens it.
        directory: Made when missing. The same extractor is written as the same bytes.

    Raises:
        ModelError: `model.bad_pair`: the extractor's graph uses names that frames and rows have.
        EngineError: `engine.onnx_missing`, `engine.unwritable`.
    """
    onnx = import_onnx()
    proto = onnx.load(str(pair.extractor))
    _take_frames(onnx, proto.graph, spec, pair)
    _give_rows(onnx, proto.graph, spec)
    _transpose_constants(onnx, proto.graph)
    del proto.metadata_props[:]
    path = directory / f"extractor-{pair.extractor_sha256[:16]}.onnx"
    with writing(path):
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, proto.SerializeToString(deterministic=True))
    model = reader_model(pair, spec)
    return Model(
        **{name: getattr(model, name) for name in _KEPT},
        directory=directory,
        image=path,
        sha256=(("image", file_sha256(path)),),
    )


_KEPT = (
    *("name", "geometry", "dim", "context_length", "logit_scale", "default_threshold", "licence"),
    *("hash", "words"),
)


def _take_frames(onnx: Any, graph: Any, spec: EngineSpec, pair: MarkPair) -> None:
    """In front: uint8 [n, S, S, 3], whose channels are alike, to luma [n, 1, S, S]."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    if taken & {_INPUT, _OUTPUT}:
        raise ModelError(
            f"{pair.extractor} has tensors named {_INPUT} or {_OUTPUT}",
            code="model.bad_pair",
            hint=PAIR_HINT,
        )
    size = spec.geometry.size
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    for name, value in (("start", 0), ("end", 1), ("axis", 3)):
        graph.initializer.append(constant(np.array([value], np.int64), f"reader.{name}"))
    front = [
        make(
            "Slice",
            [_INPUT, "reader.start", "reader.end", "reader.axis"],
            ["reader.channel"],
            name="reader.slice",
        ),
        make("Transpose", ["reader.channel"], ["luma"], name="reader.place", perm=[0, 3, 1, 2]),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    shape = ["n", size, size, 3]
    graph.input.append(onnx.helper.make_tensor_value_info(_INPUT, onnx.TensorProto.UINT8, shape))


def _give_rows(onnx: Any, graph: Any, spec: EngineSpec) -> None:
    """Behind: logits [n, bits] and presence [n] to rows [n, bits + 1]."""
    make = onnx.helper.make_node
    axes = onnx.numpy_helper.from_array(np.array([1], np.int64), "reader.column")
    graph.initializer.append(axes)
    graph.node.extend(
        [
            make("Unsqueeze", ["presence", "reader.column"], ["reader.last"], name="reader.column"),
            make("Concat", ["logits", "reader.last"], [_OUTPUT], name="reader.row", axis=1),
        ]
    )
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info(_OUTPUT, onnx.TensorProto.FLOAT, ["n", spec.dim])
    )


def _transpose_constants(onnx: Any, graph: Any) -> None:
    """Constants that are only turned are stored turned: what reads them then reads a constant."""
    constants = {item.name: item for item in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "Transpose" or node.input[0] not in constants:
            kept.append(node)
            continue
        content = onnx.numpy_helper.to_array(constants[node.input[0]])
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        turned = np.ascontiguousarray(np.transpose(content, order))
        graph.initializer.append(onnx.numpy_helper.from_array(turned, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
