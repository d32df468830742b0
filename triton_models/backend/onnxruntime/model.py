"""The backend named `onnxruntime` of the local server: runs a model's `model.onnx` by ONNX Runtime on the CPU.

The wheel's `tritonserver` has no onnxruntime backend of its own, but a directory of that name with this file in it is
one: Triton hands it every model whose configuration says `backend: "onnxruntime"`. The official container has the
native backend at the same name and serves the same repository. This file is imported inside the server's own
environment (numpy 1.26 and onnxruntime only) and uses nothing of dotstream.

It honours the parameters of the native backend that matter on a CPU: `intra_op_thread_count`,
`inter_op_thread_count`, `execution_mode`. Waiting threads never spin: with two models on two cores that costs more
than a third of the throughput.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

LOGGER = logging.getLogger(__name__)

Arrays = dict[str, Any]


def session_options(parameters: dict[str, Any]) -> onnxruntime.SessionOptions:
    """ONNX Runtime's options from the `parameters` of a model's configuration; 0 threads lets the runtime choose."""

    def number(name: str) -> int:
        return int(parameters.get(name, {}).get("string_value", "0"))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = number("intra_op_thread_count")
    options.inter_op_num_threads = number("inter_op_thread_count")
    if number("execution_mode") == 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    return options


class TritonPythonModel:
    """One instance of one model; Triton runs each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads `<model directory>/<version>/model.onnx`."""
        if int(np.__version__.split(".")[0]) >= 2:
            # This server's Python backend empties output tensors of numpy 2 without an error.
            raise pb_utils.TritonModelException(f"the server's environment has numpy {np.__version__}; it needs 1.26")
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = session_options(config.get("parameters", {}))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry["name"] for entry in config["input"]]
        self._batches = int(config["max_batch_size"]) > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request, in order: all rows in one run if that succeeds, else each request by itself.

        The second way is only there to find which request it was: the others get their answers.
        """
        if len(requests) > 1 and self._batches:
            try:
                return self._run(requests)
            except Exception as error:  # noqa: BLE001 - whatever the runtime raises belongs to one of the requests
                LOGGER.warning("a joined run of %d requests failed, each is tried alone: %s", len(requests), error)
        return [self._alone(request) for request in requests]

    def finalize(self) -> None:
        """Lets go of the model."""
        del self._session

    def _alone(self, request: Any) -> Any:
        try:
            return self._run([request])[0]
        except Exception as error:  # noqa: BLE001 - the caller is another process and must get an answer
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))

    def _run(self, requests: list[Any]) -> list[Any]:
        """One run over the rows of all requests; only outputs that somebody asked for are computed and sent."""
        rows = [self._arrays(request) for request in requests]
        joined = {
            name: rows[0][name] if len(rows) == 1 else np.concatenate([r[name] for r in rows]) for name in rows[0]
        }
        wanted = sorted({name for request in requests for name in request.requested_output_names()})
        results = dict(zip(wanted, self._session.run(wanted, joined), strict=True))
        if len(requests) == 1:
            return [_response(requests[0], results)]
        responses, start = [], 0
        for request, arrays in zip(requests, rows, strict=True):
            end = start + len(arrays[self._inputs[0]])
            responses.append(_response(request, {name: result[start:end] for name, result in results.items()}))
            start = end
        return responses

    def _arrays(self, request: Any) -> Arrays:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}


def _response(request: Any, results: Arrays) -> Any:
    names = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.ascontiguousarray(results[name])) for name in names])
