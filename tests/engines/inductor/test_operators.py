"""Single operators against ONNX's own evaluator, and uses of them that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch", reason="the torch program needs torch")

from engines.inductor.graph import bind  # noqa: E402
from engines.inductor.operators import apply  # noqa: E402
from reelsight.errors import ModelError  # noqa: E402

X = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 6)).astype(np.float32)


def expected(op: str, constants: list[Any], attributes: dict[str, Any]) -> Any:
    (answer,) = ReferenceEvaluator(model_of(op, constants, attributes)).run(None, {"x": X})
    return answer


def model_of(op: str, constants: list[Any], attributes: dict[str, Any]) -> onnx.ModelProto:
    make = onnx.helper
    names = [f"c{i}" for i in range(len(constants))]
    weights = [onnx.numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True)]
    node = make.make_node(op, ["x", *names], ["y"], **attributes)
    kind = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [node],
        "one",
        [make.make_tensor_value_info("x", kind, ["n", *X.shape[1:]])],
        [make.make_tensor_value_info("y", kind, None)],
        weights,
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("Flatten", [], {}),
        ("Flatten", [], {"axis": 0}),
        ("Flatten", [], {"axis": 2}),
        ("Flatten", [], {"axis": 4}),
        ("Flatten", [], {"axis": -1}),
        ("Gather", [np.array([0, -1, -3])], {"axis": 1}),
        ("Gather", [np.array([[1, -2], [-1, 0]])], {"axis": -1}),
        ("Gather", [np.array(-2)], {"axis": 2}),
        ("ReduceSum", [], {}),
        ("ReduceSum", [np.array([], np.int64)], {"keepdims": 0}),
        ("ReduceL2", [np.array([], np.int64)], {}),
        ("ReduceMean", [np.array([-1, 1])], {"keepdims": 0}),
        ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1]}),
    ],
)
def test_it_computes_what_onnx_says(
    op: str, constants: list[Any], attributes: dict[str, Any]
) -> None:
    inputs = [torch.from_numpy(value) for value in (X, *constants)]
    (found,) = apply(op, inputs, attributes)
    wanted = expected(op, constants, attributes)
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "words"),
    [
        ("Gather", [np.array([3])], {"axis": 1}, r"Gather of \[3\] out of 3"),
        ("Gather", [np.array(-4)], {"axis": 1}, r"Gather of \[-4\] out of 3"),
        ("AveragePool", [], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
        ("ReduceSum", [], {"noop_with_empty_axes": 1}, "reduction of nothing"),
        (
            "ReduceSum",
            [np.array([], np.int64)],
            {"noop_with_empty_axes": 1},
            "reduction of nothing",
        ),
    ],
)
def test_a_use_that_is_not_in_the_table_is_refused_when_the_graph_is_read(
    tmp_path: Path, op: str, constants: list[Any], attributes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        bind(model_of(op, constants, attributes), 2)
    assert caught.value.code == "model.operator_unsupported"
