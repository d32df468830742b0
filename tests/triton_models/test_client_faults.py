"""Every way in which Triton fails: a named error each time, never a wrong value, and back to work afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import stamina

from dotstream.clock import ManualClock
from dotstream.errors import DotstreamError, Fatal, Misconfigured, Unavailable
from tests.support.fake_triton import (
    FAILURES,
    LABELS,
    WRONG_ANSWERS,
    WRONG_DETECTIONS,
    FakeTriton,
    Fault,
    answer,
    changed,
    every,
    hung,
    status,
)
from triton_models.breaker import BreakerSettings, State
from triton_models.calls import RetrySettings
from triton_models.client import TritonClient
from triton_models.statuses import (
    OUTCOMES,
    STATUS_ERRORS,
    BadOutput,
    CircuitOpen,
    Closed,
    ModelFailed,
    TimedOut,
    outcome_of,
)

QUICK = RetrySettings(attempts=3, wait_initial_s=0.001, wait_max_s=0.002, wait_jitter_s=0.001)
NEVER_OPEN = BreakerSettings(failures=1_000_000)
Call = Callable[[TritonClient], object]


class Counts:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, int, str]] = []
        self.breaker: list[tuple[str, State]] = []

    def inferred(self, model: str, *, rows: int, seconds: float, retries: int, outcome: str) -> None:
        assert seconds >= 0
        assert outcome in OUTCOMES
        self.requests.append((model, rows, retries, outcome))

    def breaker_changed(self, model: str, state: State) -> None:
        self.breaker.append((model, state))


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture(params=["grpc", "shared memory"])
def client(fake: FakeTriton, counts: Counts, request: pytest.FixtureRequest) -> Iterator[TritonClient]:
    with TritonClient(
        fake.address,
        labels=LABELS,
        deadline_s=10,
        retry=QUICK,
        breaker=NEVER_OPEN,
        shared_memory=request.param == "shared memory",
        observer=counts,
    ) as made:
        made.connect()
        yield made


def pictures(size: int, count: int = 2) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


CALLS: dict[str, Call] = {
    "detect": lambda client: client.detect(pictures(300)),
    "embed": lambda client: client.embed(pictures(224)),
    "features": lambda client: client.features(pictures(224)),
}


def _is_right(client: TritonClient) -> None:
    np.testing.assert_array_equal(client.embed(pictures(224)), answer("efficientnet_lite0", pictures(224))["codes"])
    assert [len(one.labels) for one in client.detect(pictures(300))] == [
        int((row >= 0).sum()) for row in answer("ssd_mobilenet_v2", pictures(300))["labels"]
    ]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", WRONG_ANSWERS)
def test_an_answer_of_wrong_form_is_never_returned(
    fake: FakeTriton, client: TritonClient, fault: str, call: str
) -> None:
    fake.fail(WRONG_ANSWERS[fault])
    with pytest.raises(BadOutput):
        CALLS[call](client)
    fake.heal()
    _is_right(client)


@pytest.mark.parametrize("fault", WRONG_DETECTIONS)
def test_detections_of_wrong_value_are_never_returned(fake: FakeTriton, client: TritonClient, fault: str) -> None:
    fake.fail(WRONG_DETECTIONS[fault])
    with pytest.raises(BadOutput):
        client.detect(pictures(300))
    fake.heal()
    _is_right(client)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_never_returned(fake: FakeTriton, client: TritonClient, value: float) -> None:
    def spoil(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        copy = array.copy()
        copy[-1, -1] = value
        return copy

    fake.fail(changed(features=spoil))
    with pytest.raises(BadOutput):
        client.features(pictures(224))


ERRORS: dict[str, type[DotstreamError]] = {
    "queue full": Unavailable,
    "stopping": Unavailable,
    "overloaded": Unavailable,
    "model raised": ModelFailed,
    "stub died": ModelFailed,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ERRORS)
def test_a_failure_has_a_name_after_its_retries(
    fake: FakeTriton, client: TritonClient, counts: Counts, fault: str, call: str
) -> None:
    fake.fail(FAILURES[fault])
    with pytest.raises(ERRORS[fault]) as caught:
        CALLS[call](client)
    assert type(caught.value) is ERRORS[fault]
    assert len(fake.batches) == QUICK.attempts
    assert counts.requests == [(fake.batches[0][0], 2, QUICK.attempts - 1, outcome_of(caught.value))]
    fake.heal()
    _is_right(client)


@pytest.mark.parametrize("fault", [*ERRORS, "wrong answer"])
def test_a_failure_that_passes_is_not_seen_by_the_caller(
    fake: FakeTriton, client: TritonClient, counts: Counts, fault: str
) -> None:
    fake.fail({**FAILURES, "wrong answer": every(lambda array: array[:-1])}[fault], times=2)
    np.testing.assert_array_equal(client.embed(pictures(224)), answer("efficientnet_lite0", pictures(224))["codes"])
    assert counts.requests == [("efficientnet_lite0", 2, 2, "ok")]


@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_hung_server_is_timed_out_and_tried_once_more(fake: FakeTriton, counts: Counts, shared_memory: bool) -> None:
    with TritonClient(
        fake.address, labels=LABELS, deadline_s=0.4, retry=QUICK, shared_memory=shared_memory, observer=counts
    ) as client:
        client.connect()
        fake.fail(hung)
        with pytest.raises(TimedOut):
            client.embed(pictures(224))
        assert len(fake.batches) == 2
        assert counts.requests == [("efficientnet_lite0", 2, 1, "timed_out")]
        fake.heal()
        _is_right(client)


@pytest.mark.parametrize("shared_memory", [False, True])
def test_closing_ends_a_call_that_hangs(fake: FakeTriton, shared_memory: bool) -> None:
    client = TritonClient(fake.address, labels=LABELS, deadline_s=60, shared_memory=shared_memory)
    client.connect()
    fake.fail(hung)
    ended: list[BaseException] = []

    def call() -> None:
        try:
            client.embed(pictures(224))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert fake.hanging.acquire(timeout=30)
    client.close()
    thread.join(10)
    assert [type(error) for error in ended] == [Closed]
    with pytest.raises(Closed):
        client.embed(pictures(224))
    client.close()


@pytest.mark.parametrize("shared_memory", [False, True])
@pytest.mark.parametrize("ends", ["slow answer", "connection lost"])
def test_a_call_in_flight_when_its_server_recovers_or_dies(fake: FakeTriton, shared_memory: bool, ends: str) -> None:
    with (
        TritonClient(fake.address, labels=LABELS, deadline_s=60, retry=QUICK, shared_memory=shared_memory) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.connect()
        fake.fail(hung)
        call = pool.submit(client.embed, pictures(224))
        assert fake.hanging.acquire(timeout=30)
        if ends == "slow answer":
            fake.heal()
            np.testing.assert_array_equal(call.result(30), answer("efficientnet_lite0", pictures(224))["codes"])
        else:
            fake.stop()
            with pytest.raises(Unavailable):
                call.result(30)


def test_every_status_of_grpc_has_its_error() -> None:
    missing = [code for code in grpc.StatusCode if code not in STATUS_ERRORS]
    assert missing == []


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_arrives_as_its_error(fake: FakeTriton, client: TritonClient, code: grpc.StatusCode) -> None:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert STATUS_ERRORS[code] is TimedOut
    fake.fail(status(code, "words of the server"))
    with pytest.raises(STATUS_ERRORS[code], match=f"{code.name}: words of the server") as caught:
        client.embed(pictures(224))
    assert type(caught.value) is STATUS_ERRORS[code]
    final = isinstance(caught.value, Fatal)
    assert len(fake.batches) == (1 if final else 2 if isinstance(caught.value, TimedOut) else QUICK.attempts)


def test_one_error_of_configuration_is_not_retried(fake: FakeTriton, client: TritonClient, counts: Counts) -> None:
    fake.fail(status(grpc.StatusCode.INVALID_ARGUMENT))
    with pytest.raises(Misconfigured):
        client.embed(pictures(224))
    assert counts.requests == [("efficientnet_lite0", 2, 0, "misconfigured")]


def test_a_server_that_dies_and_comes_back_is_found_again(fake: FakeTriton, client: TritonClient) -> None:
    _is_right(client)
    fake.stop()
    with pytest.raises(Unavailable):
        client.embed(pictures(224))
    fake.start()
    for attempt in stamina.retry_context(on=Unavailable, attempts=None, timeout=20, wait_initial=0.01, wait_max=0.05):
        with attempt:
            _is_right(client)


def test_repeated_failures_open_the_breaker_of_that_model_only(fake: FakeTriton, counts: Counts) -> None:
    clock = ManualClock()
    settings = BreakerSettings(failures=5, open_s=1.0)
    with TritonClient(
        fake.address, labels=LABELS, retry=QUICK, breaker=settings, clock=clock, observer=counts
    ) as client:
        fake.fail(FAILURES["stub died"], model="efficientnet_lite0")
        with pytest.raises(ModelFailed):
            client.embed(pictures(224))
        with pytest.raises(CircuitOpen):
            client.embed(pictures(224))
        sent = len(fake.batches)
        assert sent == 5
        with pytest.raises(CircuitOpen) as caught:
            client.embed(pictures(224))
        assert caught.value.retry_after_s == pytest.approx(1.0)
        assert len(fake.batches) == sent
        client.detect(pictures(300))
        fake.heal()
        clock.sleep(1.0)
        _is_right(client)
    assert counts.breaker == [("efficientnet_lite0", state) for state in (State.OPEN, State.HALF_OPEN, State.CLOSED)]
    assert [outcome for model, _, _, outcome in counts.requests if model == "efficientnet_lite0"] == [
        "model_failed", "circuit_open", "circuit_open", "ok",
    ]  # fmt: skip


CANARY_FAULTS: dict[str, Fault] = {
    **FAILURES,
    **WRONG_ANSWERS,
    "codes emptied": changed(codes=np.zeros_like),
    "codes all ones": changed(codes=lambda codes: np.full_like(codes, 255)),
    "codes alike": changed(codes=lambda codes: np.repeat(codes[:1], len(codes), axis=0)),
    "rows sorted": changed(codes=lambda codes: codes[np.argsort(codes[:, 0])]),
    "features alike": changed(features=np.zeros_like),
    "detections emptied": changed(boxes=np.zeros_like, labels=np.zeros_like, scores=np.zeros_like),
}


@pytest.mark.parametrize("fault", [name for name in CANARY_FAULTS if name != "hung"])
def test_the_canary_notices(fake: FakeTriton, client: TritonClient, fault: str) -> None:
    client.canary()
    fake.fail(CANARY_FAULTS[fault])
    with pytest.raises((Unavailable, ModelFailed, BadOutput)):
        client.canary()
    fake.heal()
    client.canary()
