"""What a call to Triton can end in: named errors, and the one table that translates every gRPC status code to them.

Stands at the edge between the vision worker and the model server: nothing behind triton_models/client.py ever sees a
gRPC exception. The names refine dotstream.errors, so that a worker can act on the class alone:

    Retryable
    ├── Unavailable        the server refuses, is overloaded, is starting or is gone
    │   ├── TimedOut       no answer within the deadline; tried once more, since the work may still be running there
    │   ├── CircuitOpen    too many failures in a row; nothing was sent, `retry_after_s` says when a try makes sense
    │   └── Closed         this client was closed while the call ran, or before it
    ├── ModelFailed        the model raised (INTERNAL): tried again a bounded number of times, then the caller decides
    └── BadOutput          an answer came and is wrong: never returned to a caller

NOT_FOUND is Unavailable, not Misconfigured: a server that is shutting down, reloading or still loading answers with it
for a model that it served a moment ago, and that must not stop a worker. Whether a model was never there at all is
decided at connection time from the server's repository index (triton_models/served.py), not from a status.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Retryable, Unavailable


class TimedOut(Unavailable):
    """No answer within the deadline."""


class CircuitOpen(Unavailable):
    """The circuit breaker refused the call; nothing was sent.

    Args:
        name: whose breaker it is (a model's name).
        retry_after_s: seconds until the breaker lets a probe through.
    """

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name}: circuit open after repeated failures, next probe in {retry_after_s:.2f} s")
        self.retry_after_s = retry_after_s


class Closed(Unavailable):
    """The client was closed; calls in flight end with this at once."""


class ModelFailed(Retryable):
    """The server answered that the model itself failed on this request."""


class BadOutput(Retryable):
    """The server answered with something that cannot be right; the values were thrown away.

    Args:
        model: the model's name.
        problem: what was found and what was expected.
    """

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"{model}: {problem}")
        self.model = model
        self.problem = problem


STATUS_ERRORS: Mapping[grpc.StatusCode, type[DotstreamError]] = {
    grpc.StatusCode.OK: Fatal,  # a failed call with this status is a defect of the gRPC library
    grpc.StatusCode.CANCELLED: Unavailable,  # the server let go of the call while shutting down
    grpc.StatusCode.UNKNOWN: ModelFailed,  # an exception that the server did not translate
    grpc.StatusCode.INVALID_ARGUMENT: Misconfigured,  # our tensors are checked before: the models do not fit
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.NOT_FOUND: Unavailable,  # see above: "no available versions" while stopping or reloading
    grpc.StatusCode.ALREADY_EXISTS: Misconfigured,  # a region of our random name: two clients share one state
    grpc.StatusCode.PERMISSION_DENIED: Misconfigured,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.FAILED_PRECONDITION: Misconfigured,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: Misconfigured,
    grpc.StatusCode.UNIMPLEMENTED: Misconfigured,  # something else than Triton listens at the address
    grpc.StatusCode.INTERNAL: ModelFailed,  # the model raised, or its stub process has died
    grpc.StatusCode.UNAVAILABLE: Unavailable,  # gone, refused, queue full or queue timeout
    grpc.StatusCode.DATA_LOSS: ModelFailed,
    grpc.StatusCode.UNAUTHENTICATED: Misconfigured,
}

_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (TimedOut, "timed_out"),
    (CircuitOpen, "circuit_open"),
    (Closed, "closed"),
    (Unavailable, "unavailable"),
    (ModelFailed, "model_failed"),
    (BadOutput, "bad_output"),
    (Misconfigured, "misconfigured"),
)

OUTCOMES: tuple[str, ...] = ("ok", *(slug for _, slug in _OUTCOMES), "failed")
"""Every value of an observer's `outcome`, for metrics that declare their label values."""


def translate(error: grpc.RpcError, what: str) -> DotstreamError:
    """The named error for a failed gRPC call.

    Args:
        error: as raised by a synchronous stub, which is also a grpc.Call and so has a code and details.
        what: the call in words, the start of the message.
    """
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    return STATUS_ERRORS[code](f"{what}: {code.name}: {details}")


def outcome_of(error: BaseException | None) -> str:
    """The slug under which a call that ended so is counted; "ok" for None."""
    if error is None:
        return "ok"
    return next((slug for kind, slug in _OUTCOMES if isinstance(error, kind)), "failed")
