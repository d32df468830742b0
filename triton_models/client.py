"""The typed client of the served models: pictures in, checked detections and codes out.

Stands between the vision pipeline (triton_models/pipeline.py), or a query of discovery/, and Triton. A call goes

    detect / embed / codes / features   splits by the model's max_batch_size, joins the answers
      retries                      backoff with jitter (triton_models/calls.py)
        breaker                    one for each model (triton_models/breaker.py)
          one attempt              pictures by shared memory or gRPC, one deadline, every output validated

and ends in values that passed every check, or in an error of triton_models/statuses.py. Nothing is returned in part.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from dotstream.clock import Clock, SystemClock
from dotstream.errors import Misconfigured
from triton_models import outputs, shared_memory
from triton_models.breaker import BreakerSettings
from triton_models.calls import GuardedCalls, Observer, RetrySettings, Unobserved
from triton_models.canary import check_models
from triton_models.connection import Connection
from triton_models.outputs import Detections
from triton_models.served import (
    CODES,
    DETECTOR,
    EMBEDDER,
    IMAGE,
    Contract,
    Extra,
    Served,
    read_served,
    with_extra,
)

Images = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class _Models:
    """What was learnt when the client connected."""

    detector: Served
    embedder: Served
    others: tuple[Served, ...]  # that extra features come from, beside the embedder
    regions: shared_memory.RegionPool | None


class TritonClient:
    """Detector, embedder and extra features on one Triton server. Safe to use from several threads.

    Making one touches no network; the first call (or `connect`) reads what the server serves and pins the versions.

    Args:
        address: "host:port" of Triton's gRPC endpoint.
        labels: the detector's label names in the order of its indices, or the file that has one on each line.
        detector, embedder: model names in the server's repository.
        extra: codes that `codes` gives beside the embedder's; their models must take pictures of the embedder's size.
        versions: model name to version; a model that is not in it is used at the newest version served.
        deadline_s: seconds for one attempt of one request.
        retry: see RetrySettings.
        breaker: see BreakerSettings.
        shared_memory: send pictures through shared memory. The server must run on this machine and see the same
            /dev/shm; where it does not, calls raise Misconfigured rather than fall back to gRPC.
        regions: shared-memory regions at most, so also the requests that can be in flight at once by that way.
        credentials: TLS; None is plain text.
        clock: monotonic time for the breaker and the observer.
        observer: who counts.
    """

    def __init__(
        self,
        address: str,
        *,
        labels: Sequence[str] | Path,
        detector: str = "ssd_mobilenet_v2",
        embedder: str = "efficientnet_lite0",
        extra: Sequence[Extra] = (),
        versions: Mapping[str, str] | None = None,
        deadline_s: float = 10.0,
        retry: RetrySettings | None = None,
        breaker: BreakerSettings | None = None,
        shared_memory: bool = False,
        regions: int = 4,
        credentials: grpc.ChannelCredentials | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._labels = read_labels(labels) if isinstance(labels, Path) else list(labels)
        self._names = (detector, embedder)
        self._extra = tuple(extra)
        if len({Extra(embedder), *self._extra}) <= len(self._extra):
            raise Misconfigured(f"an extra feature is named twice, or is the searched one: {self._extra}")
        self._others = tuple(dict.fromkeys(one.model for one in self._extra if one.model != embedder))
        self._versions = dict(versions or {})
        self._deadline_s = deadline_s
        self._shared_memory = shared_memory
        self._region_limit = regions
        guards = (
            retry or RetrySettings(),
            breaker or BreakerSettings(),
            clock or SystemClock(),
            observer or Unobserved(),
        )
        self._calls = {name: GuardedCalls(name, *guards) for name in (*self._names, *self._others)}
        self._connection = Connection(address, deadline_s=deadline_s, credentials=credentials)
        self._connecting = threading.Lock()
        self._models: _Models | None = None
        self._request_ids = itertools.count(1)

    @property
    def detector_name(self) -> str:
        """The detector as "name@version". Connects; raises as `connect`."""
        return self._connected().detector.full_name

    @property
    def embedder_name(self) -> str:
        """The embedder as "name@version". Connects; raises as `connect`."""
        return self._connected().embedder.full_name

    @property
    def bits(self) -> int:
        """Bits of a code. Connects; raises as `connect`."""
        return self._connected().embedder.outputs["codes"].row[0] * 8

    def connect(self) -> None:
        """Reads and checks what the server serves, once; other calls do so by themselves when it was not done.

        With shared memory it also proves that the server can map a region of this process, and removes what processes
        that died have left behind.

        Raises: Unavailable while the server is away or starting (not retried here); Misconfigured when it cannot be
            used as it is; Closed.
        """
        self._connected()

    def _connected(self) -> _Models:
        if self._models is not None:
            return self._models
        with self._connecting:
            if self._models is None:
                detector, embedder = (
                    self._served(name, contract)
                    for name, contract in zip(self._names, (DETECTOR, EMBEDDER), strict=True)
                )
                others = tuple(self._served(name, Contract({})) for name in self._others)
                for other in others:
                    if other.size != embedder.size:
                        raise Misconfigured(
                            f"{other.name} takes pictures of {other.size} pixels and {embedder.name} of "
                            f"{embedder.size}: an extra feature must take the embedder's"
                        )
                regions = self._open_regions(detector, embedder, *others) if self._shared_memory else None
                self._models = _Models(detector, embedder, others, regions)
            return self._models

    def _served(self, name: str, contract: Contract) -> Served:
        wanted = with_extra(contract, name, self._extra)
        return read_served(self._connection, name, self._versions.get(name), wanted)

    def _open_regions(self, *served: Served) -> shared_memory.RegionPool:
        for model in served:
            if model.response_cache:
                raise Misconfigured(f"model {model.name} has a response_cache: turn it off, or shared memory")
        size = max(model.batch_bytes for model in served)
        pool = shared_memory.RegionPool(self._connection, size=size, limit=self._region_limit)
        try:
            with pool.lend(self._deadline_s):
                # Only now is it known that the server sees this machine's memory, and so whose leftovers it holds.
                shared_memory.sweep(self._connection)
        except BaseException:
            pool.close()
            raise
        return pool

    def detect(self, images: Images) -> list[Detections]:
        """Objects in each picture.

        Args:
            images: uint8 [n, S, S, 3] RGB, whole pictures stretched to the detector's size (300).

        Returns: n Detections. Without rows, [] and no call.
        Raises: the errors of triton_models/statuses.py and Misconfigured; Fatal for a wrong array.
        """
        served = self._connected().detector

        def one(rows: Images) -> list[Detections]:
            found = self._attempt(served, rows, ("boxes", "labels", "scores"))
            return outputs.detections(served.name, found["boxes"], found["labels"], found["scores"], self._labels)

        return [row for batch in self._batches(served, images, one) for row in batch]

    def embed(self, images: Images) -> npt.NDArray[np.uint8]:
        """The binary code of each picture.

        Args:
            images: uint8 [n, S, S, 3] RGB, pictures or crops stretched to the embedder's size (224).

        Returns: uint8 [n, bits / 8], bits packed most significant first. Without rows, no call.
        Raises: as `detect`.
        """
        return self._packed(self._connected().embedder, images, [CODES])[CODES]

    def codes(self, images: Images) -> list[Codes]:
        """The searched codes as `embed` gives them, then those of each extra feature, one request to each model."""
        models = self._connected()
        found: dict[Extra, Codes] = {}
        for served in (models.embedder, *models.others):
            own = [one.output for one in self._extra if one.model == served.name]
            wanted = [CODES, *own] if served is models.embedder else own
            packed = self._packed(served, images, wanted)
            found.update({Extra(served.name, output): codes for output, codes in packed.items()})
        return [found[Extra(models.embedder.name)], *(found[one] for one in self._extra)]

    def _packed(self, served: Served, images: Images, wanted: Sequence[str]) -> dict[str, Codes]:
        """Outputs of packed bits, by name: uint8 [n, bits / 8]."""
        found = self._batches(served, images, lambda rows: self._attempt(served, rows, wanted))
        return {
            name: np.concatenate([np.empty((0, *served.outputs[name].row), np.uint8), *(one[name] for one in found)])
            for name in wanted
        }

    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """The float features that the codes are the signs of, float32 [n, d]; else as `embed`."""
        served = self._connected().embedder

        def one(rows: Images) -> npt.NDArray[np.float32]:
            return outputs.features(served.name, self._attempt(served, rows, ("features",))["features"])

        found = self._batches(served, images, one)
        return np.concatenate([np.empty((0, *served.outputs["features"].row), np.float32), *found])

    def canary(self) -> None:
        """Proves by real inferences that all models work, which the server's readiness does not tell.

        Raises: as `detect`; BadOutput also for answers that no healthy model gives (triton_models/canary.py).
        """
        models = self._connected()
        check_models(self, detector_size=models.detector.size, embedder_size=models.embedder.size)

    def close(self) -> None:
        """Ends all calls, in flight ones with Closed, and removes the shared memory. May be called more than once."""
        self._close_regions()  # while the server can still be told
        self._connection.close()  # also ends a `connect` that waits for a server that hangs
        with self._connecting:
            self._close_regions()

    def _close_regions(self) -> None:
        if self._models is not None and self._models.regions is not None:
            self._models.regions.close()

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches(self, served: Served, images: Images, one: Callable[[Images], T]) -> list[T]:
        served.check_images(images)
        starts = range(0, len(images), served.max_batch)
        batches = [images[start : start + served.max_batch] for start in starts]
        return [self._calls[served.name].run(functools.partial(one, batch), len(batch)) for batch in batches]

    def _attempt(self, served: Served, rows: Images, wanted: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """One request without retries: the wanted outputs, of right type and shape."""
        request = service_pb2.ModelInferRequest(
            model_name=served.name, model_version=served.version, id=str(next(self._request_ids))
        )
        tensor = request.inputs.add(name=IMAGE, datatype="UINT8", shape=rows.shape)
        for name in wanted:
            request.outputs.add(name=name)
        pool = self._connected().regions
        if pool is None:
            request.raw_input_contents.append(rows.tobytes())
            return outputs.tensors(self._connection.infer(request), served, request.id, len(rows), wanted)
        with pool.lend(self._deadline_s) as region:
            tensor.parameters["shared_memory_region"].string_param = region.name
            tensor.parameters["shared_memory_byte_size"].int64_param = region.write(rows)
            response = self._connection.infer(request)
        return outputs.tensors(response, served, request.id, len(rows), wanted)


def read_labels(path: Path) -> list[str]:
    """The label names of a labels.txt, one on each line. Raises: Misconfigured when it cannot be read or is empty."""
    try:
        labels = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"labels file {path}: {error}") from error
    if not labels or not all(label.strip() for label in labels):
        raise Misconfigured(f"labels file {path} must have one name on each line")
    return labels
