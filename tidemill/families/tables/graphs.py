"""A table's model as one ONNX graph: trees by onnxmltools, linear scores added, probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidemill.families.tables.linear import Linear

OPSET = 15
TREES = "trees"


def added(booster: Any, linear: Linear) -> Any:
    """The graph from `x` (B, 2 F), places and values, to `probabilities` (B, labels)."""
    from onnx import TensorProto, helper, numpy_helper

    features, outputs = linear.weights.shape
    labels = 2 if outputs == 1 else outputs
    trees = _trees(booster, features, outputs)
    weights = np.concatenate([np.zeros_like(linear.weights), linear.weights])
    constants: dict[str, np.ndarray] = {
        "weights": weights.astype(np.float32),
        "offsets": linear.offsets.astype(np.float32),
        "places": np.arange(features, dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["x", "places"], ["x_places"], axis=1),
        *trees,
        helper.make_node("Gemm", ["x", "weights", "offsets"], ["linear"]),
        helper.make_node("Add", [TREES, "linear"], ["scores"]),
        *_probabilities(outputs),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2 * features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, labels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def _trees(booster: Any, features: int, outputs: int) -> list[Any]:
    """The node that sums the trees' leaves, (B, outputs) as `trees`."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    text = booster.model_to_string()
    if outputs == 1:  # as a regression the converter gives the sum and no probability of it
        text = text.replace("objective=binary sigmoid:1", "objective=regression")
    model = convert_lightgbm(
        lightgbm.Booster(model_str=text),
        initial_types=[("x_places", FloatTensorType([None, features]))],
        zipmap=False,
        target_opset=OPSET,
    )
    [node] = [one for one in model.graph.node if one.op_type.startswith("TreeEnsemble")]
    node.input[:] = ["x_places"]
    node.output[:] = [TREES] if outputs == 1 else ["tree_label", TREES]
    for attribute in node.attribute:
        if attribute.name == "post_transform":
            attribute.s = b"NONE"
    return [node]


def _probabilities(outputs: int) -> list[Any]:
    from onnx import helper

    if outputs > 1:
        return [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)]
    return [
        helper.make_node("Neg", ["scores"], ["against"]),
        helper.make_node("Concat", ["against", "scores"], ["both"], axis=1),
        helper.make_node("Sigmoid", ["both"], ["probabilities"]),
    ]
