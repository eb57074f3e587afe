"""OnnxGraph: an ONNX file in memory, indexed by name and with the type of every tensor.

What passes over a graph need and `onnx` does not give: who makes a tensor and who reads it, fresh
names, weights as arrays, and a byte-for-byte reproducible file. It knows no precision.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.precision.writing import writing
from reelsight.atomic import write_whole
from reelsight.digest import file_sha256
from reelsight.errors import EngineError
from reelsight.nouns.model import Model

__all__ = [
    "OnnxGraph",
    "import_onnx",
    "model_master_sha256",
    "sha256_of",
    "weights_beside",
]

# One protobuf message holds at most 2 GiB; the margin is for what an engine's builder adds.
_SINGLE_FILE_BYTES = 2**31 - 2**26
# What is smaller stays in the graph, where shape inference reads it.
_LEAST_OUTSIDE = 1024
_DATA_NOTE = "reelsight.data_sha256"


def import_onnx() -> Any:
    """The onnx module.

    Raises:
        EngineError: `engine.onnx_missing` when it is not installed.
    """
    try:
        # `onnx` alone does not import its submodules.
        for name in ("onnx.checker", "onnx.helper", "onnx.numpy_helper", "onnx.shape_inference"):
            importlib.import_module(name)
        return importlib.import_module("onnx")
    except ImportError as error:
        raise EngineError(
            f"onnx cannot be imported here ({error}), and deriving a precision needs it",
            code="engine.onnx_missing",
            hint="pip install 'reelsight[export]'",
        ) from error


def sha256_of(path: Path) -> str:
    """sha256 (hex) of an ONNX file and the weights beside it: what a master is known by.

    Without weights beside it that is the file's own.

    Raises:
        EngineError: `engine.graph_unreadable`: it is not there or cannot be read.
    """
    data = weights_beside(path)
    try:
        return _joined(file_sha256(path), file_sha256(data) if data.is_file() else None)
    except OSError as error:
        raise EngineError(
            f"{path} cannot be read: {error}",
            code="engine.graph_unreadable",
            hint="Export the model again.",
        ) from error


def model_master_sha256(model: Model) -> str | None:
    """What `sha256_of` gives for a model's image tower, from what model.json says of its files.

    None of a model whose master is made only where engines are built: its hash names the files that
    the master is made of.
    """
    data = next((digest for kind, _, digest in model.data if kind == "image"), None)
    own = dict(model.sha256).get("image")
    return None if own is None else _joined(own, data)


def weights_beside(path: Path) -> Path:
    """Where the weights of an ONNX file of 2 GB and more are."""
    return path.with_name(f"{path.name}.data")


def _joined(graph: str, data: str | None) -> str:
    return graph if data is None else hashlib.sha256(f"{graph} {data}".encode()).hexdigest()


class OnnxGraph:
    """One graph, open for change.

    Args:
        path: The ONNX file.
        weights: Whether weights that lie beside the file are read too.

    Attributes:
        onnx: The onnx module.
        proto: The model; `graph` is its graph.
        opset: Version of the default operator set.
        constants: Initialisers by name; Constant nodes are turned into initialisers.
        producer: The node that makes a tensor, by the tensor's name.
        readers: (node, input index) pairs by tensor name.

    Raises:
        EngineError: `engine.graph_unreadable`: no ONNX file, or one that this code cannot rewrite.
    """

    def __init__(self, path: Path, *, weights: bool = True) -> None:
        self.onnx = import_onnx()
        try:
            self.proto = self.onnx.load(str(path), load_external_data=weights)
        except Exception as error:  # Boundary: protobuf and onnx raise types of their own.
            raise EngineError(
                f"{path} cannot be read as ONNX: {error}",
                code="engine.graph_unreadable",
                hint="Export the model again, or check that the file is complete.",
            ) from error
        self.graph = self.proto.graph
        self.opset = max(
            (o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")), default=0
        )
        if not self.graph.node or not self.opset:
            raise EngineError(
                f"{path} holds no ONNX graph",
                code="engine.graph_unreadable",
                hint="Export the model again.",
            )
        self._refuse_nested(path)
        self._name_nodes()
        self._hoist_constants()
        self._types = self._infer_types()
        self.index()

    def index(self) -> None:
        """Bring `constants`, `producer` and `readers` up to date after a change."""
        self.constants = {item.name: item for item in self.graph.initializer}
        self.producer: dict[str, Any] = {}
        self.readers: dict[str, list[tuple[Any, int]]] = {}
        for node in self.graph.node:
            for name in node.output:
                self.producer[name] = node
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))
        self._taken = {*self.constants, *self.producer, *(i.name for i in self.graph.input)}

    @property
    def output(self) -> str:
        """Name of the first graph output."""
        return str(self.graph.output[0].name)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is FP32, before anything was lowered."""
        return bool(self._types.get(name) == self.onnx.TensorProto.FLOAT)

    def array(self, name: str) -> npt.NDArray[Any]:
        """Content of an initialiser."""
        content: npt.NDArray[Any] = self.onnx.numpy_helper.to_array(self.constants[name])
        return content

    def fresh(self, wish: str) -> str:
        """A tensor name that nothing has yet, reserved."""
        name, turn = wish, 0
        while name in self._taken:
            turn += 1
            name = f"{wish}.{turn}"
        self._taken.add(name)
        return name

    def add_constant(self, wish: str, content: npt.NDArray[Any]) -> str:
        """Add an initialiser; returns its name."""
        name = self.fresh(wish)
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(content, name))
        self.constants[name] = self.graph.initializer[-1]
        self._types[name] = self.constants[name].data_type
        return name

    def declare(self, name: str, elem_type: int) -> None:
        """Say the ONNX element type of a tensor that a new node makes."""
        self._types[name] = elem_type

    def raise_opset(self, version: int) -> None:
        """Say that the graph is of a newer operator set.

        Legal for towers up to 22: between the exporter's set and that one the operators of a tower
        gained types and changed no meaning; `save` checks that the graph fits the newer schemas.
        """
        for item in self.proto.opset_import:
            if item.domain in ("", "ai.onnx"):
                item.version = max(item.version, version)
        self.opset = max(self.opset, version)

    def replace_nodes(self, nodes: Iterable[Any]) -> None:
        """Take a new list of nodes, drop weights that nobody reads, and index again."""
        kept = list(nodes)
        del self.graph.node[:]
        self.graph.node.extend(kept)
        read = {name for node in kept for name in node.input}
        read |= {value.name for value in self.graph.output}
        used = [item for item in self.graph.initializer if item.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(used)
        # Types of the file as it was are wrong now; readers infer them.
        del self.graph.value_info[:]
        self.index()

    def require_finite_weights(self) -> None:
        """Refuse NaN and infinity.

        Raises:
            EngineError: `engine.bad_weights`, naming the tensor.
        """
        for name in self.constants:
            content = self.array(name)
            if content.dtype == np.float32 and not np.isfinite(content).all():
                count = int((~np.isfinite(content)).sum())
                raise EngineError(
                    f"weight {name!r} has {count} values that are NaN or infinite",
                    code="engine.bad_weights",
                    hint="Export the model again from a checkpoint that trained without overflow.",
                )

    def save(self, path: Path, notes: dict[str, str]) -> str:
        """Write the file whole, the same graph as the same bytes; returns its sha256 (hex).

        Weights of 2 GB and more go beside it, and the file's metadata then names their hash: the
        file's own covers them.

        Args:
            path: The file to write.
            notes: What becomes the file's metadata.

        Raises:
            EngineError: The graph is not legal ONNX, or cannot be written.
        """
        if self.proto.ByteSize() > _SINGLE_FILE_BYTES:
            return self._save_in_two(path, notes)
        content = self._sealed(notes)
        self._check(self.proto)
        with writing(path):
            write_whole(path, content)
        return hashlib.sha256(content).hexdigest()

    def _save_in_two(self, path: Path, notes: dict[str, str]) -> str:
        beside = weights_beside(path)
        outside = importlib.import_module("onnx.external_data_helper")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent, prefix=".") as name:
                scratch = Path(name)
                for tensor in self.graph.initializer:
                    if len(tensor.raw_data) >= _LEAST_OUTSIDE:
                        outside.set_external_data(tensor, beside.name)
                outside.write_external_data_tensors(self.proto, name)
                digest = file_sha256(scratch / beside.name)
                content = self._sealed({**notes, _DATA_NOTE: digest})
                write_whole(scratch / path.name, content)
                self._check(str(scratch / path.name))
                # The weights first: without them the graph would be there and not load.
                for file in (beside, path):
                    (scratch / file.name).replace(file)
        return hashlib.sha256(content).hexdigest()

    def _sealed(self, notes: dict[str, str]) -> bytes:
        del self.proto.metadata_props[:]
        self.onnx.helper.set_model_props(self.proto, notes)
        content: bytes = self.proto.SerializeToString(deterministic=True)
        return content

    def _check(self, model: Any) -> None:
        """The checker takes files of 2 GB and more by their path alone."""
        try:
            self.onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # Boundary: the checker raises types of its C extension.
            raise EngineError(
                f"the derived graph is not legal ONNX: {error}",
                code="engine.graph_illegal",
                hint="Report this with the model's architecture and the precision.",
            ) from error

    def _refuse_nested(self, path: Path) -> None:
        kinds = (self.onnx.AttributeProto.GRAPH, self.onnx.AttributeProto.GRAPHS)
        nested = [n.op_type for n in self.graph.node if any(a.type in kinds for a in n.attribute)]
        if nested or self.proto.functions or len(self.graph.output) != 1:
            found = sorted(set(nested)) or "functions or several outputs"
            raise EngineError(
                f"{path} has {found}; a tower is one flat graph with one output",
                code="engine.graph_unreadable",
                hint="Export the model with the exporter of this package.",
            )

    def _name_nodes(self) -> None:
        seen: set[str] = set()
        for place, node in enumerate(self.graph.node):
            if not node.name or node.name in seen:
                node.name = f"{node.op_type}_{place}"
            seen.add(node.name)

    def _hoist_constants(self) -> None:
        kept = []
        for node in self.graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                value.name = node.output[0]
                self.graph.initializer.append(value)
            else:
                kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def _infer_types(self) -> dict[str, int]:
        types = {item.name: item.data_type for item in self.graph.initializer}
        described = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        types |= {value.name: value.type.tensor_type.elem_type for value in described}
        made = {name for node in self.graph.node for name in node.output if name}
        if any(not types.get(name) for name in made):
            inferred = self.onnx.shape_inference.infer_shapes(self.proto).graph
            types |= {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
        unknown = sorted(name for name in made if not types.get(name))
        if unknown:
            raise EngineError(
                f"the types of {len(unknown)} tensors are not known, first {unknown[0]!r}",
                code="engine.graph_unreadable",
                hint="Export the model with the exporter of this package.",
            )
        return types
