"""A small builder of ONNX graphs: constants, nodes and the finished, checked, reproducible model file.

The detector's port writes its graph with it; the embedder's, which comes out of torch's exporter, is finished by it.
Graphs keep to operator set 18 and IR version 9, which the onnxruntime of the Triton containers since 23.08 reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9
BATCH = "N"

Shape = tuple[int | str, ...]


class GraphBuilder:
    """Collects nodes and constants; every value has a name that only this builder gives out."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, value: ArrayLike, dtype: str | None = None) -> str:
        """Stores a constant tensor and returns its name. A Python float is stored as float32."""
        if isinstance(value, float):
            dtype = dtype or "float32"
        array = np.asarray(value, dtype=dtype, order="C")
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def pair(self, op: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Adds a node with two outputs and returns their names."""
        names = f"v{len(self.nodes)}a", f"v{len(self.nodes)}b"
        self.nodes.append(helper.make_node(op, list(inputs), list(names), **attributes))
        return names

    def include(self, model: onnx.ModelProto, prefix: str, **inputs: str) -> list[str]:
        """Adds another model's graph, such as one that torch's exporter wrote.

        Args:
            model: of the same operator set, without functions.
            prefix: put before its names, so that they meet none of this graph.
            inputs: its input -> the value of this graph that it takes.

        Returns:
            The names of its outputs here, in its order.
        """
        names = dict(inputs)

        def renamed(name: str) -> str:
            return names.setdefault(name, f"{prefix}{name}") if name else name

        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = renamed(tensor.name)
            self.constants[copy.name] = copy
        for node in model.graph.node:
            step = onnx.NodeProto()
            step.CopyFrom(node)
            step.name = ""
            for side in (step.input, step.output):
                side[:] = [renamed(name) for name in side]
            self.nodes.append(step)
        return [renamed(output.name) for output in model.graph.output]

    def model(
        self, name: str, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, tuple[int, Shape]]
    ) -> bytes:
        """The finished model file.

        Args:
            name: the graph's name.
            inputs: name -> (ONNX element type, shape); the first axis is the batch.
            outputs: the same.

        Raises:
            onnx.checker.ValidationError, onnx.shape_inference.InferenceError: the graph is not valid.
        """
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
            [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
            list(self.constants.values()),
        )
        return finish(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


def finish(model: onnx.ModelProto) -> bytes:
    """Strips what varies between two exports of the same network (paths, tool versions), checks and serialises it."""
    model.ir_version = IR_VERSION
    model.producer_name = "dotstream"
    for field in ("producer_version", "domain", "doc_string"):
        model.ClearField(field)
    del model.metadata_props[:]
    del model.functions[:]
    graph = model.graph
    del graph.metadata_props[:]
    del graph.value_info[:]
    parts: list[Any] = [*graph.node, *graph.initializer, *graph.input, *graph.output]
    for part in parts:
        part.ClearField("doc_string")
        del part.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


UINT8, INT32, FLOAT = int(TensorProto.UINT8), int(TensorProto.INT32), int(TensorProto.FLOAT)
