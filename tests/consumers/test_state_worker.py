"""The base of state workers over a log in memory and real states: whatever fails, the state is what the log says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers.metrics import WorkerMetrics
from consumers.ports import LogBroken, Output, Partition
from consumers.state_worker import StateWorker, StateWorkerSettings
from consumers.window import Backoff
from dotstream.clock import ManualClock
from dotstream.errors import Fatal
from indexer.errors import NeedsRebuild
from indexer.keyed_state import KeyedState
from tests.support.keyed import COPIES, TOPIC, LastWords, open_state, rows
from tests.support.memory_log import MemoryCluster, MemoryLog


class Crash(BaseException):
    """The process ends here, without closing anything."""


class Place:
    """A worker on a cluster with its states in a folder; `topic_id` as the cluster would tell it."""

    def __init__(self, cluster: MemoryCluster, folder: Path, topic_id: str = "t") -> None:
        self.cluster = cluster
        self.folder = folder
        self.topic_id = topic_id
        self.clock = ManualClock()
        self.open: list[KeyedState] = []
        self.job = LastWords(self.open_state)
        self.registry = CollectorRegistry()
        self.worker = StateWorker(
            MemoryLog(cluster, [TOPIC], "words"),
            self.job,
            self.clock,
            WorkerMetrics("words", self.registry),
            settings=StateWorkerSettings(batch_max=3, backoff=Backoff(0.1, 0.2), upkeep_every_s=0.0),
        )

    def open_state(self, source: Partition, end: int) -> KeyedState:
        home, number = self.folder / str(source[1]), source[1]
        try:
            state = open_state(home, self.clock, topic_id=self.topic_id, partition=number)
        except NeedsRebuild:
            state = open_state(home, self.clock, topic_id=self.topic_id, partition=number, rebuild=True)
        self.open.append(state)
        return state

    def run(self, most: int = 200) -> None:
        """Steps until everything was read, then stops as on SIGTERM; or crashes."""
        steps = 0

        def stop() -> bool:
            nonlocal steps
            steps += 1
            assert steps < most, "the worker does not come to rest"
            self.clock.sleep(0.04)
            reported = [self.job.reported.get((TOPIC, number), -1) for number in range(self.cluster.partitions)]
            ends = [len(self.cluster.logs[TOPIC, number]) for number in range(self.cluster.partitions)]
            return self.worker.ready and reported == [end - 1 for end in ends]

        try:
            self.worker.run(stop)
        except Crash:
            for state in self.open:
                state.abandon()

    def content(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for number in range(self.cluster.partitions):
            state = open_state(self.folder / str(number), self.clock, topic_id=self.topic_id, partition=number)
            found |= rows(state)
            state.close()
        return found


def cluster_of(words: list[tuple[str, str]]) -> MemoryCluster:
    cluster = MemoryCluster(partitions=2)
    for key, value in words:
        cluster.append(Output(TOPIC, key.encode(), value.encode()))
    return cluster


def oracle(words: list[tuple[str, str]]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in words if value != "poison"}


def test_records_are_applied_and_poison_is_dead_lettered(tmp_path: Path) -> None:
    words = [("a", "1"), ("b", "poison"), ("a", "2"), ("c", "3"), ("c", "poison")]
    cluster = cluster_of(words)
    place = Place(cluster, tmp_path)
    assert not place.worker.ready
    place.run()
    assert place.content() == oracle(words)
    letters = cluster.all(f"{TOPIC}.dead")
    assert [dict(letter.headers)["dotstream-dead-reason"] for letter in letters] == [b"bad_word"] * 2
    copied = sorted((m.key, m.value) for m in cluster.all(COPIES))
    assert copied == [(b"a", b"1"), (b"a", b"2"), (b"c", b"3")]
    assert place.registry.get_sample_value("dotstream_consumed_records_total", {"role": "words"}) == 5


def test_kafka_gets_time_to_mark_a_transactions_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(cluster_of([(f"k{n}", "v") for n in range(20)]), tmp_path)
    done: list[tuple[str, float]] = []
    for name in ("poll", "commit"):

        def noted(log: MemoryLog, *given: object, call: Callable[..., object], name: str) -> object:
            done.append((name, place.clock.monotonic()))
            return call(log, *given)

        monkeypatch.setattr(MemoryLog, name, partialmethod(noted, call=getattr(MemoryLog, name), name=name))
    for _ in range(12):
        place.worker.step()
    commits = [at for name, at in done if name == "commit"]
    assert len(commits) > 7  # with the hint for tools, which directly follows the first one
    assert min(after - before for before, after in pairwise(commits)) == pytest.approx(0.008)
    read = [after - before for (name, before), (then, after) in pairwise(done) if (name, then) == ("commit", "poll")]
    assert min(read) == pytest.approx(0.004)
    place.worker.run(lambda: True)


def test_a_rebalance_hands_the_states_over(tmp_path: Path) -> None:
    words = [(f"k{n}", f"v{n}") for n in range(20)]
    cluster = cluster_of(words)
    place = Place(cluster, tmp_path)
    log = place.worker._log
    assert isinstance(log, MemoryLog)
    for _ in range(3):
        place.worker.step()
    log.revoke()
    place.run()
    assert place.content() == oracle(words)
    assert len(cluster.all(COPIES)) == 20


def test_another_topic_under_the_name_rebuilds(tmp_path: Path) -> None:
    Place(cluster_of([(f"k{n}", "old") for n in range(9)]), tmp_path).run()
    place = Place(cluster_of([("new", "1")]), tmp_path, topic_id="u")
    place.run()
    assert place.content() == {b"new": b"1"}


def test_what_stops_a_job_stops_the_worker(tmp_path: Path) -> None:
    place = Place(cluster_of([("a", "1")]), tmp_path)

    def broken(source: Partition, end: int) -> KeyedState:
        raise Fatal("no such disk")

    place.job.open_state = broken
    with pytest.raises(Fatal, match="no such disk"):
        place.run()


words = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3", "poison"])), max_size=12)
steps = st.sampled_from(["open", "poll", "before commit", "after commit"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logged=words, faults=st.dictionaries(st.integers(0, 40), st.tuples(steps, st.booleans()), max_size=4))
def test_failures_and_crashes_change_nothing_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, logged: list[tuple[str, str]], faults: dict[int, tuple[str, bool]]
) -> None:
    """Each fault is an error of the log or the end of the process; outputs may repeat, the state may not differ."""
    folder = tmp_path_factory.mktemp("words")
    cluster = cluster_of(logged)
    calls = 0

    def fault(step: str) -> None:
        nonlocal calls
        calls += 1
        kind, crash = faults.get(calls, ("", False))
        if kind == step:
            raise Crash if crash else LogBroken(f"{step} broke")

    cluster.fault = fault
    for _ in range(len(faults) + 1):
        Place(cluster, folder).run()
    cluster.fault = lambda step: None
    place = Place(cluster, folder)
    place.run()
    assert place.content() == oracle(logged)
    copies = {(m.key, m.value) for m in cluster.all(COPIES)}
    assert copies == {(key.encode(), value.encode()) for key, value in logged if value != "poison"}
