"""Reads a float TensorFlow Lite network and writes the same network as ONNX nodes.

It knows the operators that the SSD-MobileNetV2 file uses (CONV_2D, DEPTHWISE_CONV_2D, RESHAPE, ADD, CONCATENATION and
DEQUANTIZE of half-precision constants) and refuses any other, so that a different file cannot be ported wrongly.

Layouts: TensorFlow Lite keeps pictures as [N, height, width, channels], ONNX convolves [N, channels, height, width].
Everything up to a RESHAPE stays in the second layout; a RESHAPE first turns its input back to the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from triton_models.onnx_graph import GraphBuilder

_OPERATORS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
_DTYPES = {tflite.TensorType.FLOAT32: "<f4", tflite.TensorType.FLOAT16: "<f2", tflite.TensorType.INT32: "<i4"}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis, before and after: the odd pixel goes after.

    At stride 2 and kernel 3 that is (0, 1) for an even and (1, 1) for an odd size.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class TfliteNetwork:
    """One TensorFlow Lite file, its operators in order of execution.

    Args:
        data: the bytes of the file; one subgraph with one input.
    """

    def __init__(self, data: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self._constants: dict[int, NDArray[np.generic]] = {}
        self._names: dict[int, str] = {}
        self._planar: set[int] = set()

    def convert(self, builder: GraphBuilder, picture: str) -> list[str]:
        """Adds the network to the graph.

        Args:
            builder: the graph that grows.
            picture: name of the normalised picture, float32 [N, 3, height, width].

        Returns:
            The names of the network's outputs, in the file's order, as the file shapes them with a free first axis.

        Raises:
            Misconfigured: the file uses an operator or an option that this port does not know.
        """
        source = int(self._graph.Inputs(0))
        self._names[source] = picture
        self._planar.add(source)
        steps: dict[str, Callable[[GraphBuilder, Any], None]] = {
            "CONV_2D": partial(self._convolution, depthwise=False),
            "DEPTHWISE_CONV_2D": partial(self._convolution, depthwise=True),
            "ADD": self._add,
            "RESHAPE": self._reshape,
            "CONCATENATION": self._concatenation,
        }
        for position in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(position)
            name = self._operator_name(operator)
            if name == "DEQUANTIZE":
                self._dequantise(operator)
            elif name in steps:
                steps[name](builder, operator)
            else:
                raise Misconfigured(f"the TensorFlow Lite file uses {name}, which this port does not know")
        return [self._names[int(index)] for index in self._graph.OutputsAsNumpy()]

    def kernels(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weights [out, in, height, width] (depthwise [out, 1, …]) and bias [out], in order of execution."""
        for position in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(position)
            name = self._operator_name(operator)
            if name == "DEQUANTIZE":
                self._dequantise(operator)
            elif name in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
                _, weights, bias = (int(index) for index in operator.InputsAsNumpy())
                kernel = self._kernel(weights, depthwise=name != "CONV_2D")
                yield np.ascontiguousarray(kernel, np.float32), np.asarray(self._value(bias), np.float32)

    def _operator_name(self, operator: Any) -> str:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        return str(_OPERATORS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "an unknown operator"))

    def _kernel(self, index: int, *, depthwise: bool) -> NDArray[np.generic]:
        """[out, h, w, in] -> [out, in, h, w]; depthwise [1, h, w, out] -> [out, 1, h, w]."""
        kernel = self._value(index)
        return kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)

    def _shape(self, index: int) -> list[int]:
        return [int(size) for size in self._graph.Tensors(index).ShapeAsNumpy()]

    def _value(self, index: int) -> NDArray[np.generic]:
        """A constant tensor's value."""
        if index not in self._constants:
            tensor = self._graph.Tensors(index)
            data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
            self._constants[index] = np.asarray(data).view(_DTYPES[tensor.Type()]).reshape(self._shape(index))
        return self._constants[index]

    def _dequantise(self, operator: Any) -> None:
        """A half-precision constant becomes the same number in single precision."""
        self._constants[int(operator.Outputs(0))] = self._value(int(operator.Inputs(0))).astype(np.float32)

    def _convolution(self, builder: GraphBuilder, operator: Any, *, depthwise: bool) -> None:
        options = _options(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
        if options.Padding() != tflite.Padding.SAME or {options.DilationHFactor(), options.DilationWFactor()} != {1}:
            raise Misconfigured("the TensorFlow Lite file convolves without SAME padding or with dilation")
        picture, weights, bias = (int(index) for index in operator.InputsAsNumpy())
        _, height, width, channels = self._shape(picture)
        kernel = self._kernel(weights, depthwise=depthwise)
        strides = [options.StrideH(), options.StrideW()]
        top, bottom = same_padding(height, kernel.shape[2], strides[0])
        left, right = same_padding(width, kernel.shape[3], strides[1])
        result = builder.node(
            "Conv",
            self._names[picture],
            builder.constant(kernel),
            builder.constant(self._value(bias)),
            kernel_shape=list(kernel.shape[2:]),
            strides=strides,
            pads=[top, left, bottom, right],
            group=channels if depthwise else 1,
        )
        self._store(operator, _activated(builder, result, options.FusedActivationFunction()), planar=True)

    def _add(self, builder: GraphBuilder, operator: Any) -> None:
        left, right = (self._names[int(index)] for index in operator.InputsAsNumpy())
        activation = _options(operator, tflite.AddOptions).FusedActivationFunction()
        self._store(operator, _activated(builder, builder.node("Add", left, right), activation), planar=True)

    def _reshape(self, builder: GraphBuilder, operator: Any) -> None:
        source = int(operator.Inputs(0))
        value = self._names[source]
        if source in self._planar:
            value = builder.node("Transpose", value, perm=[0, 2, 3, 1])
        # The file's targets fix a batch of 1: 0 copies the first axis, and the second follows from the rest.
        target = [0, -1, *self._shape(int(operator.Outputs(0)))[2:]]
        self._store(operator, builder.node("Reshape", value, builder.constant(target, "int64")), planar=False)

    def _concatenation(self, builder: GraphBuilder, operator: Any) -> None:
        inputs = [int(index) for index in operator.InputsAsNumpy()]
        if self._planar.intersection(inputs):
            raise Misconfigured("the TensorFlow Lite file concatenates pictures, which this port does not know")
        axis = _options(operator, tflite.ConcatenationOptions).Axis()
        self._store(operator, builder.node("Concat", *(self._names[i] for i in inputs), axis=axis), planar=False)

    def _store(self, operator: Any, value: str, *, planar: bool) -> None:
        index = int(operator.Outputs(0))
        self._names[index] = value
        if planar:
            self._planar.add(index)


def _options(operator: Any, kind: Any) -> Any:
    """The operator's options, which the file keeps as an untyped table."""
    table, options = operator.BuiltinOptions(), kind()
    options.Init(table.Bytes, table.Pos)
    return options


def _activated(builder: GraphBuilder, value: str, activation: int) -> str:
    if activation == tflite.ActivationFunctionType.NONE:
        return value
    if activation != tflite.ActivationFunctionType.RELU6:
        raise Misconfigured(f"the TensorFlow Lite file uses activation {activation}, which this port does not know")
    return builder.node("Clip", value, builder.constant(0.0), builder.constant(6.0))
