"""The runtime over a log in memory: exactly once under every failure, poison kept, order held."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers.metrics import WorkerMetrics
from consumers.ports import LogBroken, Message, Outcome, Output
from consumers.runtime import RuntimeSettings, Worker
from consumers.window import Backoff
from dotstream.clock import ManualClock
from dotstream.errors import Fatal, Poison, Retryable
from tests.support.inline import InlineExecutor
from tests.support.memory_log import MemoryCluster, MemoryLog

SETTINGS = RuntimeSettings(batch_max=3, window=2, commit_max=2, backoff=Backoff(0.1, 1.0))


class Echo:
    """Copies each value to `out`; b"bad" is poison, b"bug" fails unexpectedly, and `away` calls fail at first."""

    def __init__(self, away: int = 0) -> None:
        self.away = away

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        if self.away:
            self.away -= 1
            raise Retryable("away")
        return [self._one(message) for message in batch]

    def _one(self, message: Message) -> Outcome:
        if message.value == b"bad":
            return Outcome(poison=Poison("bad", "it says so"))
        if message.value == b"bug":
            raise ZeroDivisionError("a bug")
        return Outcome((Output("out", message.key, message.value),))


def cluster_of(values: Sequence[bytes]) -> MemoryCluster:
    cluster = MemoryCluster()
    for number, value in enumerate(values):
        cluster.append(Output("in", str(number).encode(), value))
    return cluster


def worker_on_clock(cluster: MemoryCluster, clock: ManualClock) -> tuple[Worker, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = WorkerMetrics("test", registry)
    log = MemoryLog(cluster, ["in"], "group")
    return Worker(log, Echo(), InlineExecutor(), clock, metrics, settings=SETTINGS), registry


def worker_on(cluster: MemoryCluster, echo: Echo | None = None) -> tuple[Worker, MemoryLog, CollectorRegistry]:
    registry = CollectorRegistry()
    log = MemoryLog(cluster, ["in"], "group")
    metrics = WorkerMetrics("test", registry)
    return Worker(log, echo or Echo(), InlineExecutor(), ManualClock(), metrics, settings=SETTINGS), log, registry


def run(worker: Worker, cluster: MemoryCluster, size: int, *, most: int = 1_000) -> None:
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        assert steps < most, "the worker makes no progress"
        return cluster.positions.get(("group", ("in", 0)), 0) == size

    worker.run(stop)


def test_every_record_has_one_outcome_in_order() -> None:
    cluster = cluster_of([b"a", b"bad", b"b", b"bug", b"c", b"d", b"e"])
    worker, _, registry = worker_on(cluster)
    run(worker, cluster, 7)
    assert [m.value for m in cluster.all("out")] == [b"a", b"b", b"c", b"d", b"e"]
    dead = cluster.all("in.dead")
    assert [m.value for m in dead] == [b"bad", b"bug"]
    headers = dict(dead[0].headers)
    assert headers["dotstream-dead-offset"] == b"1"
    assert headers["dotstream-dead-reason"] == b"bad"
    assert dict(dead[1].headers)["dotstream-dead-reason"] == b"internal_error"
    counted = registry.get_sample_value("dotstream_dead_letters_total", {"role": "test", "reason": "bad"})
    assert counted == 1


def test_away_models_delay_but_lose_nothing() -> None:
    cluster = cluster_of([b"a", b"b", b"c", b"d"])
    worker, _, _ = worker_on(cluster, Echo(away=5))
    run(worker, cluster, 4)
    assert [m.value for m in cluster.all("out")] == [b"a", b"b", b"c", b"d"]


def test_a_commit_that_is_refused_again_and_again_is_tried_ever_more_rarely() -> None:
    """Opening and reading succeed each time; that must neither reset the pauses nor call the worker well."""
    cluster = cluster_of([b"bad"])
    refused = 0

    def fault(step: str) -> None:
        nonlocal refused
        if step == "before commit":
            refused += 1
            raise LogBroken("the topic refuses")

    cluster.fault = fault
    clock = ManualClock()
    worker, registry = worker_on_clock(cluster, clock)
    started = clock.monotonic()
    while refused < 8:
        worker.step()
    assert clock.monotonic() - started >= 0.1 + 0.2 + 0.4 + 0.8 + 1.0 + 1.0 + 1.0
    assert registry.get_sample_value("dotstream_paused", {"role": "test"}) == 1
    cluster.fault = lambda step: None
    while ("group", ("in", 0)) not in cluster.positions:
        worker.step()
    worker.step()
    assert registry.get_sample_value("dotstream_paused", {"role": "test"}) == 0


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.sampled_from([b"a", b"b", b"bad", b"bug"]), max_size=12),
    faults=st.dictionaries(
        st.integers(0, 40), st.sampled_from(["open", "poll", "before commit", "after commit"]), max_size=8
    ),
    away=st.integers(0, 3),
)
def test_exactly_once_under_any_broken_call(values: list[bytes], faults: dict[int, str], away: int) -> None:
    """A call that breaks before or after it took effect changes nothing in what is committed in the end."""
    cluster = cluster_of(values)
    calls = 0

    def fault(step: str) -> None:
        nonlocal calls
        calls += 1
        if faults.get(calls) == step:
            raise LogBroken(f"{step} broke")

    cluster.fault = fault
    worker, _, _ = worker_on(cluster, Echo(away))
    run(worker, cluster, len(values))
    assert [m.value for m in cluster.all("out")] == [v for v in values if v in {b"a", b"b"}]
    assert [m.value for m in cluster.all("in.dead")] == [v for v in values if v in {b"bad", b"bug"}]


@settings(max_examples=100, deadline=None)
@given(turns=st.lists(st.sampled_from(["step", "revoke", "restart"]), max_size=30))
def test_exactly_once_under_rebalances_and_restarts(turns: list[str]) -> None:
    values = [bytes([n]) for n in range(10)]
    cluster = cluster_of(values)
    worker, log, _ = worker_on(cluster)
    worker.step()
    for turn in turns:
        if turn == "step":
            worker.step()
        elif turn == "revoke":
            log.revoke()
        else:
            worker, log, _ = worker_on(cluster)
            worker.step()
    run(worker, cluster, len(values))
    assert [m.value for m in cluster.all("out")] == values


def test_a_fatal_error_stops_the_worker_and_commits_nothing_of_its_batch() -> None:
    cluster = cluster_of([b"a"])

    class Refuses:
        def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
            raise Fatal("wrong generation")

    log = MemoryLog(cluster, ["in"], "group")
    metrics = WorkerMetrics("test", CollectorRegistry())
    worker = Worker(log, Refuses(), InlineExecutor(), ManualClock(), metrics, settings=SETTINGS)
    with pytest.raises(Fatal, match="wrong generation"):
        worker.run(lambda: False)
    assert not cluster.positions


def test_a_dead_letter_too_large_keeps_coordinates_and_reason() -> None:
    cluster = cluster_of([b"bad"])
    log = MemoryLog(cluster, ["in"], "group")
    metrics = WorkerMetrics("test", CollectorRegistry())
    small = RuntimeSettings(dead_size_limit=100)

    class Poisons:
        def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
            return [Outcome(poison=Poison("bad", "x" * 5_000)) for _ in batch]

    run(Worker(log, Poisons(), InlineExecutor(), ManualClock(), metrics, settings=small), cluster, 1)
    (letter,) = cluster.all("in.dead")
    headers = dict(letter.headers)
    assert letter.value == b""
    assert headers["dotstream-dead-bytes-left-out"] == b"3"
    assert len(headers["dotstream-dead-detail"]) == 1_000


def test_a_worker_rests_once_when_all_is_done() -> None:
    cluster = cluster_of([b"a", b"b", b"c", b"d"])
    rests: list[int] = []
    worker = Worker(
        MemoryLog(cluster, ["in"], "group"),
        Echo(),
        InlineExecutor(),
        ManualClock(),
        WorkerMetrics("test", CollectorRegistry()),
        settings=SETTINGS,
        rested=lambda: rests.append(len(cluster.all("out"))),
    )
    for _ in range(20):
        worker.step()
    assert rests == [4]
    cluster.append(Output("in", b"e", b"e"))
    for _ in range(20):
        worker.step()
    assert rests == [4, 5]
