"""One gRPC channel to Triton and the few remote calls that dotstream makes, with every failure translated.

Stands under triton_models/client.py: it knows Triton's messages, not what our models mean. The generated stubs of the
tritonclient package are used directly rather than its InferenceServerClient: the cost per call measured the same, and
the stubs give status codes as values, where the other gives them as text inside an exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from triton_models.statuses import Closed, translate

R = TypeVar("R")

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_send_message_length", -1),  # a batch of pictures is larger than the 4 MB that gRPC allows by default
    ("grpc.max_receive_message_length", -1),
    # After an outage the server must be found again within a second: the library's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A peer that vanished without a word (half-open TCP) is noticed while a call waits.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Two clients in one process must not share a connection: closing one would leave the other's state behind.
    ("grpc.use_local_subchannel_pool", 1),
)

CLEANING_S = 1.0
"""Deadline of clean-up calls, which a process that is stopping makes to a server that may hang."""


class Connection:
    """Calls to one Triton server. Safe to use from several threads; connects by itself when first used.

    Args:
        address: "host:port" of Triton's gRPC endpoint.
        deadline_s: seconds that each call may take; more is TimedOut.
        credentials: TLS credentials; None is plain text, for a private network.
    """

    def __init__(self, address: str, *, deadline_s: float, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.address = address
        self._deadline_s = deadline_s
        self._channel = (
            grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Ends the channel. Calls in flight on other threads end at once with Closed."""
        self._closed = True
        self._channel.close()

    def infer(self, request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
        """One inference. Raises: the errors of triton_models/statuses.py."""
        return self._call(self._stub.ModelInfer, request, f"inference by {request.model_name}")

    def metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse:
        """Versions, input and output tensors of a model; version "" is the newest served."""
        request = service_pb2.ModelMetadataRequest(name=model, version=version)
        return self._call(self._stub.ModelMetadata, request, f"metadata of {model}")

    def config(self, model: str, version: str) -> model_config_pb2.ModelConfig:
        """The configuration that the server runs a model with."""
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        return self._call(self._stub.ModelConfig, request, f"configuration of {model}").config

    def models(self) -> dict[str, list[str]]:
        """Every model of the server's repository, loaded or not, with its versions."""
        found: dict[str, list[str]] = {}
        index = self._call(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), "repository index")
        for model in index.models:
            found.setdefault(model.name, []).append(model.version)
        return found

    def ready(self) -> bool:
        """Whether the server says that it is ready; it goes on saying so after a model's process has died."""
        return bool(self._call(self._stub.ServerReady, service_pb2.ServerReadyRequest(), "readiness").ready)

    def regions(self) -> dict[str, str]:
        """System shared-memory regions that the server has mapped: region name to key."""
        request = service_pb2.SystemSharedMemoryStatusRequest()
        status = self._call(self._stub.SystemSharedMemoryStatus, request, "shared memory status")
        return {name: region.key for name, region in status.regions.items()}

    def register_region(self, name: str, key: str, size: int) -> None:
        """Lets the server map `size` bytes of the shared-memory object `key` under `name`."""
        request = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=0, byte_size=size)
        self._call(self._stub.SystemSharedMemoryRegister, request, f"registering shared memory {name}")

    def unregister_region(self, name: str) -> None:
        """Lets the server unmap a region; one that it does not know is no error."""
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        what = f"unregistering shared memory {name}"
        self._call(self._stub.SystemSharedMemoryUnregister, request, what, longest_s=CLEANING_S)

    def _call(self, method: Callable[..., R], request: object, what: str, longest_s: float = math.inf) -> R:
        what = f"Triton at {self.address}: {what}"
        if self._closed:
            raise Closed(f"{what}: the client is closed")
        try:
            return method(request, timeout=min(self._deadline_s, longest_s))
        except grpc.RpcError as error:
            if self._closed:
                raise Closed(f"{what}: the client was closed during the call") from None
            raise translate(error, what) from error
        except ValueError as error:
            # The library says so when the channel is closed between our look at the flag and the call.
            if self._closed:
                raise Closed(f"{what}: the client was closed during the call") from error
            raise
