"""The `onnxruntime` backend inside a real server: same values as in process, own rows for each, own errors for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from tritonclient import grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ops.local.triton import TritonProcess
from tests.support.photographs import pictures
from tests.support.triton import StartTriton
from triton_models.onnx_graph import BATCH, FLOAT, GraphBuilder

Array = NDArray[Any]
SIDES = {"ssd_mobilenet_v2": 300, "efficientnet_lite0": 224}
OUTPUTS = {"ssd_mobilenet_v2": ["boxes", "labels", "scores"], "efficientnet_lite0": ["codes", "features"]}
MODELS = sorted(SIDES)


@pytest.fixture
def connect() -> Iterator[Callable[[TritonProcess], grpc.InferenceServerClient]]:
    clients: list[grpc.InferenceServerClient] = []

    def begin(server: TritonProcess) -> grpc.InferenceServerClient:
        clients.append(grpc.InferenceServerClient(server.address))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


@pytest.fixture
def client(triton_server: TritonProcess, connect: Callable[..., Any]) -> grpc.InferenceServerClient:
    return connect(triton_server)


def infer(
    client: grpc.InferenceServerClient, model: str, batch: Array, outputs: Sequence[str], name: str = "image"
) -> Any:
    tensor = grpc.InferInput(name, batch.shape, np_to_triton_dtype(batch.dtype))
    tensor.set_data_from_numpy(batch)
    return client.infer(model, [tensor], outputs=[grpc.InferRequestedOutput(output) for output in outputs])


def in_process(repository: Path, model: str, batch: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = repository / model / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(OUTPUTS[model], {"image": batch}))


@pytest.mark.parametrize("model", MODELS)
def test_served_values_are_those_of_the_runtime_in_process(
    client: grpc.InferenceServerClient, exported_repository: Path, model: str
) -> None:
    batch = pictures(SIDES[model])[:7]
    answer = infer(client, model, batch, OUTPUTS[model])
    for output, expected in zip(OUTPUTS[model], in_process(exported_repository, model, batch), strict=True):
        served = answer.as_numpy(output)
        assert (served.shape, served.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(served, expected, atol=1e-5)
        assert expected.any()


@pytest.mark.parametrize("model", MODELS)
def test_only_what_was_asked_for_is_sent(client: grpc.InferenceServerClient, model: str) -> None:
    for wanted in OUTPUTS[model]:
        response = infer(client, model, pictures(SIDES[model])[:1], [wanted]).get_response()
        assert [output.name for output in response.outputs] == [wanted]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wrong", ["size", "type", "name", "too many"])
def test_a_wrong_request_is_an_invalid_argument(client: grpc.InferenceServerClient, model: str, wrong: str) -> None:
    side = SIDES[model]
    batch: Array = np.zeros((1, side, side, 3), np.uint8)
    name = "image"
    if wrong == "size":
        batch = batch[:, 1:]
    elif wrong == "type":
        batch = batch.astype(np.float32)
    elif wrong == "name":
        name = "picture"
    else:
        batch = np.repeat(batch, 33, axis=0)
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model, batch, OUTPUTS[model][:1], name)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_joined_requests_get_their_own_rows(client: grpc.InferenceServerClient, exported_repository: Path) -> None:
    """Requests of different sizes and outputs at once, several times as many as there are instances."""
    model = "efficientnet_lite0"
    codes, features = in_process(exported_repository, model, pictures(224))

    def ask(number: int) -> None:
        rows = slice(number % 20, number % 20 + 1 + number % 3)
        wanted = [["codes"], ["features"], ["features", "codes"]][number % 3]
        answer = infer(client, model, pictures(224)[rows], wanted)
        for output in wanted:
            expected = {"codes": codes, "features": features}[output][rows]
            if output == "features":
                np.testing.assert_allclose(answer.as_numpy(output), expected, atol=1e-4)
            else:
                assert (answer.as_numpy(output) != expected).mean() < 0.01

    before = executions(client, model)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(96)))
    assert executions(client, model) - before < 96, "no two requests were ever joined"


def executions(client: grpc.InferenceServerClient, model: str) -> int:
    return int(client.get_inference_statistics(model).model_stats[0].execution_count)


TABLE = """
name: "table"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "place" data_type: TYPE_INT64 dims: [ 1 ] } ]
output [ { name: "value" data_type: TYPE_FP32 dims: [ 1 ] } ]
dynamic_batching { max_queue_delay_microseconds: 200000 }
"""

WHOLE = """
name: "whole"
backend: "onnxruntime"
max_batch_size: 0
input [ { name: "place" data_type: TYPE_INT64 dims: [ -1, 1 ] } ]
output [ { name: "value" data_type: TYPE_FP32 dims: [ -1, 1 ] } ]
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters { key: "execution_mode" value: { string_value: "1" } }
"""


def table_model() -> bytes:
    """Looks up a table of four numbers: a place beyond them fails when the model runs, not before."""
    graph = GraphBuilder()
    graph.node("Gather", graph.constant([0.5, 1.5, 2.5, 3.5], "float32"), "place", axis=0, output="value")
    shape = (BATCH, 1)
    return graph.model("table", {"place": (int(TensorProto.INT64), shape)}, {"value": (FLOAT, shape)})


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for name, config in (("table", TABLE), ("whole", WHOLE)):
        version = tmp_path / "tables" / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(table_model())
        (version.parent / "config.pbtxt").write_text(config)
    return tmp_path / "tables"


def test_an_error_is_only_that_requests(tables: Path, own_triton: StartTriton, connect: Callable[..., Any]) -> None:
    client = connect(own_triton(tables))

    def ask(place: int) -> float | str:
        try:
            answer = infer(client, "table", np.array([[place]]), ["value"], "place")
        except InferenceServerException as error:
            assert error.status() == "StatusCode.INTERNAL"
            return str(error.message())
        return float(answer.as_numpy("value")[0, 0])

    before = executions(client, "table")
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(ask, [0, 1, 9, 2, 3]))
    assert executions(client, "table") - before < 5, "no two requests were ever joined"
    assert [answers[i] for i in (0, 1, 3, 4)] == [0.5, 1.5, 2.5, 3.5]
    assert "out of" in str(answers[2])


def test_a_model_without_batches_is_run_request_by_request(
    tables: Path, own_triton: StartTriton, connect: Callable[..., Any]
) -> None:
    client = connect(own_triton(tables))
    answer = infer(client, "whole", np.array([[3], [0]]), ["value"], "place")
    np.testing.assert_array_equal(answer.as_numpy("value"), [[3.5], [0.5]])
