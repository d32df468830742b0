"""A Triton server that can be told to fail, built from the stubs that the client uses, in this process.

It serves both models with made-up but deterministic answers, through gRPC and shared memory, and applies faults to
requests: `fake.fail(FAULTS["nan"], times=2)`. Answers depend on each picture alone, so that tests can tell rows apart.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

LABELS = ["Person", "Chair", "Desk"]
CODE_BYTES = 20
FEATURES = 24
DETECTIONS = 6
SHM = Path("/dev/shm")

Request: TypeAlias = service_pb2.ModelInferRequest
Response: TypeAlias = service_pb2.ModelInferResponse
Arrays = dict[str, npt.NDArray[Any]]
DTYPES = {"UINT8": np.uint8, "INT32": np.int32, "FP32": np.float32, "FP64": np.float64}


@dataclass
class FakeModel:
    """What the fake says about a model."""

    size: int
    max_batch: int
    outputs: dict[str, tuple[str, list[int]]]
    versions: list[str] = field(default_factory=lambda: ["1"])
    response_cache: bool = False


def two_models() -> dict[str, FakeModel]:
    detector = {"boxes": ("FP32", [DETECTIONS, 4]), "labels": ("INT32", [DETECTIONS]), "scores": ("FP32", [DETECTIONS])}
    embedder = {"codes": ("UINT8", [CODE_BYTES]), "features": ("FP32", [FEATURES])}
    return {
        "ssd_mobilenet_v2": FakeModel(300, 4, {name: (kind, list(row)) for name, (kind, row) in detector.items()}),
        "efficientnet_lite0": FakeModel(224, 5, {name: (kind, list(row)) for name, (kind, row) in embedder.items()}),
    }


def answer(model: str, images: npt.NDArray[np.uint8]) -> Arrays:
    """The fake's right answer for a batch of pictures: of each row, what that row's bytes say."""
    digests = np.stack([np.frombuffer(hashlib.sha512(row.tobytes()).digest(), np.uint8) for row in images])
    if model == "efficientnet_lite0":
        return {"codes": digests[:, :CODE_BYTES], "features": digests[:, :FEATURES].astype(np.float32) - 127.5}
    shares = digests[:, : DETECTIONS * 4].reshape(-1, DETECTIONS, 4).astype(np.float32) / 255
    boxes = np.concatenate([shares[..., :2] * 0.5, 0.5 + shares[..., 2:] * 0.5], axis=-1)
    live = np.arange(DETECTIONS) < 1 + digests[:, 40:41] % 3
    scores = np.where(live, 0.95 - 0.2 * np.arange(DETECTIONS) - digests[:, 41:42] / 2560, 0).astype(np.float32)
    labels = np.where(live, digests[:, 42 : 42 + DETECTIONS].astype(np.int32) % len(LABELS), -1).astype(np.int32)
    return {"boxes": np.where(live[..., None], boxes, 0).astype(np.float32), "labels": labels, "scores": scores}


@dataclass
class Call:
    """A request at the point where its answer is known: what a fault works on."""

    fake: FakeTriton
    request: Request
    context: grpc.ServicerContext
    arrays: Arrays

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.context.abort(code, details)
        raise AssertionError("abort raises")


Fault = Callable[[Call], Response]


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # has no types
    """The server. `start` and `stop` may be called in turn; the port stays."""

    def __init__(self, models: dict[str, FakeModel] | None = None) -> None:
        self.models = models if models is not None else two_models()
        self.ready = True
        self.sees_shared_memory = True
        self.batches: list[tuple[str, int]] = []
        self.regions: dict[str, tuple[str, int]] = {}
        self.calls: Counter[str] = Counter()
        self._held: list[threading.Event] = []
        self.hanging = threading.Semaphore(0)  # one permit for each call that began to hang
        self._faults: list[tuple[Fault, str | None, int]] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None
        self._port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self.regions.clear()  # a new process knows none
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        """Ends as a killed process does: connections drop, calls in flight get no answer."""
        if self._server is not None:
            stopped = self._server.stop(None)
            self.let_go()  # only now, so that no call that hung is answered after all
            stopped.wait(10)
            self._server = None

    def fail(self, fault: Fault, *, model: str | None = None, times: int = 1_000_000) -> None:
        """The next `times` inferences (of `model`) go through `fault`."""
        with self._lock:
            self._faults.append((fault, model, times))

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()
        self.let_go()

    def hold(self, context: grpc.ServicerContext) -> None:
        """Blocks a call until `heal`, `stop` or its caller's end."""
        held = threading.Event()
        with self._lock:
            self._held.append(held)
        self.hanging.release()
        if context.add_callback(held.set):
            held.wait(60)

    def let_go(self) -> None:
        """Lets calls that hang go on."""
        with self._lock:
            held, self._held = self._held, []
        for event in held:
            event.set()

    def ModelInfer(self, request: Request, context: grpc.ServicerContext) -> Response:  # noqa: N802
        model = self.models[request.model_name]
        tensor = request.inputs[0]
        shape = tuple(tensor.shape)
        self.batches.append((request.model_name, shape[0]))
        if request.model_version not in model.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: version {request.model_version}")
        if shape[0] > model.max_batch or shape[1:] != (model.size, model.size, 3):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unexpected shape {shape}")
        images = np.frombuffer(self._content(request, context), np.uint8).reshape(shape)
        arrays = {output.name: answer(request.model_name, images)[output.name] for output in request.outputs}
        return self._fault_for(request.model_name)(Call(self, request, context, arrays))

    def _content(self, request: Request, context: grpc.ServicerContext) -> bytes:
        parameters = request.inputs[0].parameters
        if "shared_memory_region" not in parameters:
            return bytes(request.raw_input_contents[0])
        name = parameters["shared_memory_region"].string_param
        if name not in self.regions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Unable to find shared memory region: '{name}'")
        with (SHM / self.regions[name][0].lstrip("/")).open("rb") as stream:
            return stream.read(parameters["shared_memory_byte_size"].int64_param)

    def _fault_for(self, model: str) -> Fault:
        with self._lock:
            for place, (fault, only, times) in enumerate(self._faults):
                if only in (None, model):
                    self._faults[place : place + 1] = [(fault, only, times - 1)] if times > 1 else []
                    return fault
        return good

    def ModelMetadata(  # noqa: N802
        self, request: service_pb2.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelMetadataResponse:
        model = self._known(request.name, request.version, context)
        response = service_pb2.ModelMetadataResponse(name=request.name, versions=model.versions)
        response.inputs.add(name="image", datatype="UINT8", shape=[-1, model.size, model.size, 3])
        for name, (datatype, row) in model.outputs.items():
            response.outputs.add(name=name, datatype=datatype, shape=[-1, *row])
        return response

    def ModelConfig(  # noqa: N802
        self, request: service_pb2.ModelConfigRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelConfigResponse:
        model = self._known(request.name, request.version, context)
        response = service_pb2.ModelConfigResponse()
        response.config.max_batch_size = model.max_batch
        response.config.response_cache.enable = model.response_cache
        return response

    def _known(self, name: str, version: str, context: grpc.ServicerContext) -> FakeModel:
        self.calls["metadata"] += 1
        model = self.models.get(name)
        if model is None or (version and version not in model.versions):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        assert model is not None
        return model

    def RepositoryIndex(self, request: object, context: object) -> service_pb2.RepositoryIndexResponse:  # noqa: N802
        response = service_pb2.RepositoryIndexResponse()
        for name, model in self.models.items():
            for version in model.versions:
                response.models.add(name=name, version=version, state="READY")
        return response

    def ServerReady(self, request: object, context: object) -> service_pb2.ServerReadyResponse:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def SystemSharedMemoryStatus(  # noqa: N802
        self, request: object, context: object
    ) -> service_pb2.SystemSharedMemoryStatusResponse:
        response = service_pb2.SystemSharedMemoryStatusResponse()
        for name, (key, size) in self.regions.items():
            response.regions[name].name = name
            response.regions[name].key = key
            response.regions[name].byte_size = size
        return response

    def SystemSharedMemoryRegister(  # noqa: N802
        self, request: service_pb2.SystemSharedMemoryRegisterRequest, context: grpc.ServicerContext
    ) -> service_pb2.SystemSharedMemoryRegisterResponse:
        if not self.sees_shared_memory or not (SHM / request.key.lstrip("/")).exists():
            context.abort(grpc.StatusCode.INTERNAL, f"Unable to open shared memory region: '{request.key}'")
        self.calls["register"] += 1
        self.regions[request.name] = (request.key, request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(  # noqa: N802
        self, request: service_pb2.SystemSharedMemoryUnregisterRequest, context: object
    ) -> service_pb2.SystemSharedMemoryUnregisterResponse:
        self.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()


def good(call: Call) -> Response:
    """No fault."""
    return encode(call, call.arrays)


def encode(call: Call, arrays: Mapping[str, npt.NDArray[Any]]) -> Response:
    """An answer to the call's request that carries these arrays, as Triton writes it."""
    response = Response(
        model_name=call.request.model_name, model_version=call.request.model_version, id=call.request.id
    )
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    for name, array in arrays.items():
        response.outputs.add(name=name, datatype=names[array.dtype], shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    return response


def changed(**changes: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Fault:
    """Some outputs are replaced; those that the request did not ask for stay away."""

    def fault(call: Call) -> Response:
        return encode(call, {name: changes.get(name, _same)(array) for name, array in call.arrays.items()})

    return fault


def every(change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Fault:
    """Every output is replaced."""
    return lambda call: encode(call, {name: change(array) for name, array in call.arrays.items()})


def status(code: grpc.StatusCode, details: str = "told to") -> Fault:
    """The call ends with a status."""
    return lambda call: call.abort(code, details)


def hung(call: Call) -> Response:
    """No answer until the server is healed or stopped, or the caller gives up."""
    call.fake.hold(call.context)
    return good(call)


def edited(change: Callable[[Response], object]) -> Fault:
    """The message itself is changed after it was made."""

    def fault(call: Call) -> Response:
        response = good(call)
        change(response)
        return response

    return fault


def _same(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array


def _with(place: Any, value: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        copy = array.copy()
        copy[place] = value
        return copy

    return change


def _rename(response: Response) -> None:
    response.outputs[0].name = "other"


FAILURES: dict[str, Fault] = {
    "hung": hung,
    "queue full": status(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"),
    "stopping": status(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'x' has no available versions"),
    "overloaded": status(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "model raised": status(grpc.StatusCode.INTERNAL, "model raised"),
    "stub died": status(grpc.StatusCode.INTERNAL, "Stub process 'x' is not healthy."),
}
"""Requests that end without an answer."""

WRONG_ANSWERS: dict[str, Fault] = {
    "short batch": every(lambda array: array[:-1]),
    "long batch": every(lambda array: np.concatenate([array, array[:1]])),
    "no rows": every(lambda array: array[:0]),
    "wrong width": every(lambda array: array[:, :-1]),
    "another axis": every(lambda array: array[:, None]),
    "flat": every(lambda array: array.reshape(-1)),
    "wrong dtype": every(lambda array: array.astype(np.float64)),
    "missing output": edited(_rename),
    "no outputs": edited(lambda response: (response.ClearField("outputs"), response.ClearField("raw_output_contents"))),
    "missing content": edited(lambda response: response.raw_output_contents.pop()),
    "empty content": edited(lambda response: response.raw_output_contents.__setitem__(0, b"")),
    "short content": edited(
        lambda response: response.raw_output_contents.__setitem__(0, response.raw_output_contents[0][:-1])
    ),
    "output twice": edited(lambda response: response.outputs.append(response.outputs[0])),
    "another model": edited(lambda response: setattr(response, "model_name", "other")),
    "another version": edited(lambda response: setattr(response, "model_version", "2")),
    "another request": edited(lambda response: setattr(response, "id", "0")),
}
"""Answers that are wrong for either model, by their form."""

WRONG_DETECTIONS: dict[str, Fault] = {
    "box NaN": changed(boxes=_with((0, 0, 0), np.nan)),
    "box infinite": changed(boxes=_with((0, 0, 2), np.inf)),
    "box in pixels": changed(boxes=lambda array: array * 300),
    "box outside": changed(boxes=_with((0, 0, 2), 1.01)),
    "box negative": changed(boxes=_with((0, 0, 1), -0.01)),
    "box inverted": changed(boxes=lambda array: array[..., [2, 3, 0, 1]]),
    "score NaN": changed(scores=_with((0, 0), np.nan)),
    "score above 1": changed(scores=_with((0, 0), 1.5)),
    "score negative": changed(scores=_with((0, -1), -0.5)),
    "scores rising": changed(scores=_with((0, 0), 0.01), labels=_with((0, slice(None)), 0)),
    "score in padding": changed(scores=lambda array: np.full_like(array, 0.5)),
    "label too large": changed(labels=_with((0, 0), len(LABELS))),
    "label below padding": changed(labels=_with((0, 0), -2)),
    "label behind padding": changed(labels=_with((0, -1), 1)),
    "emptied": every(np.zeros_like),
}
"""Answers of the detector that are wrong by their values."""
