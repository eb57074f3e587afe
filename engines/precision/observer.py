"""Observe the activations of an FP32 tower over frames: ranges of all, histograms of some.

ONNX Runtime's own calibrators keep every batch's activations until the end and cannot see more than
the tensors that they quantise. Here the graph reduces ranges itself, histograms are summed batch by
batch, and memory does not grow with the number of frames. What ranges are for is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from engines.precision.onnx_graph import OnnxGraph
from reelsight.errors import EngineError

__all__ = ["BINS", "Histogram", "observe_histograms", "observe_ranges"]

BINS = 2048
_BATCH = 8
# These move values and make none: their ranges are their inputs'.
_MOVES = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather"}
    | {"Expand", "Concat", "Identity", "Cast"}
)

Frames = npt.NDArray[np.uint8]
# What is called with the part of the frames that is done, 0..1.
Progress = Callable[[float], None]


class Histogram:
    """Counts of the magnitudes of one tensor's values.

    Args:
        top: The largest magnitude.

    Attributes:
        counts: int64 [BINS], of values other than 0, over [0, top].
        zeros: How many values were exactly 0.
    """

    def __init__(self, top: float) -> None:
        self.top = top
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count values of any shape."""
        flat = values.ravel()
        count = int(np.count_nonzero(flat))
        self.zeros += flat.size - count
        if self.top > 0 and count:
            magnitudes = np.abs(flat) if count == flat.size else np.abs(flat[flat != 0])
            places = (magnitudes * np.float32(BINS / self.top)).astype(np.int32)
            self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)


def observe_ranges(
    master: Path, frames: Frames, wanted: Collection[str], threads: int, progress: Progress
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every FP32 activation that is computed, by tensor.

    Args:
        master: The FP32 tower.
        frames: uint8 [n, size, size, 3].
        wanted: Further tensors, such as those that are moved and not computed.
        threads: Intra-op threads.
        progress: Called batch by batch.

    Raises:
        EngineError: `engine.bad_activations`: one is NaN or infinite; or the tower does not run.
    """
    graph = OnnxGraph(master, weights=False)
    names = [
        name
        for node in graph.graph.node
        for name in node.output
        if graph.is_float(name) and (name in wanted or node.op_type not in _MOVES)
    ]
    make, value = graph.onnx.helper.make_node, graph.onnx.helper.make_tensor_value_info
    nodes, outputs = list(graph.graph.node), []
    for place, name in enumerate(names):
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"observed.{kind}.{place}"
            nodes.append(make(kind, [name], [output], keepdims=0))
            outputs.append(value(output, graph.onnx.TensorProto.FLOAT, []))
    graph.replace_nodes(nodes)
    graph.graph.output.extend(outputs)
    labels = [output.name for output in outputs]
    session = _session(graph, master, threads)
    del graph, nodes, outputs  # The weights are in the session now.
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for rows in _run(session, labels, frames, progress):
        seen = np.asarray(rows, np.float64).reshape(-1, 2)
        low, high = np.minimum(low, seen[:, 0]), np.maximum(high, seen[:, 1])
    found = {}
    for name, least, most in zip(names, low.tolist(), high.tolist(), strict=True):
        if not np.isfinite([least, most]).all():
            raise EngineError(
                f"activation {name!r} spans {least}..{most} on the calibration frames",
                code="engine.bad_activations",
                hint="Export the model again; its FP32 form computes NaN or infinity.",
            )
        found[name] = (least, most)
    return found


def observe_histograms(
    master: Path, frames: Frames, tops: dict[str, float], threads: int, progress: Progress
) -> dict[str, Histogram]:
    """Histograms of tensors whose largest magnitudes are known.

    Raises:
        EngineError: The tower does not run.
    """
    graph = OnnxGraph(master, weights=False)
    value = graph.onnx.helper.make_tensor_value_info
    names = [name for name in tops if name != graph.output]
    graph.graph.output.extend(value(n, graph.onnx.TensorProto.FLOAT, None) for n in names)
    session = _session(graph, master, threads)
    del graph  # The weights are in the session now.
    found = {name: Histogram(top) for name, top in tops.items()}
    for rows in _run(session, list(found), frames, progress):
        for name, row in zip(found, rows, strict=True):
            found[name].add(row)
    return found


def _session(graph: OnnxGraph, master: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside the file are read from the master's directory, not copied.
    folder = str(master.absolute().parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    content = graph.proto.SerializeToString()
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Boundary: onnxruntime raises classes of its C extension.
        raise _failed(master, error) from error


def _run(
    session: ort.InferenceSession, outputs: list[str], frames: Frames, progress: Progress
) -> Iterable[list[npt.NDArray[np.float32]]]:
    for start in range(0, len(frames), _BATCH):
        progress(start / len(frames))
        try:
            rows: list[npt.NDArray[np.float32]] = session.run(
                outputs, {"frames": frames[start : start + _BATCH]}
            )
        except Exception as error:  # Boundary: onnxruntime raises classes of its C extension.
            raise _failed(None, error) from error
        yield rows


def _failed(master: Path | None, error: Exception) -> EngineError:
    return EngineError(
        f"{master or 'the master'} cannot be run to observe it: {error}",
        code="engine.calibration_failed",
        hint="Check that the frames have the tower's size and that the master runs by itself.",
    )
