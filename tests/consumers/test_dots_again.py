"""Deciding again over the worker's own runtime: each trigger, numbers that rise, the rate, crashes at any step."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers.dot_decider import DotDecider, DotSettings
from consumers.dot_ledger import DotLedger
from consumers.dots import Deciding, DotsProcessor, Standing
from consumers.dots_again import AgainSettings, DotsAgain, next_decision
from consumers.metrics import DOT_OUTCOMES, WorkerMetrics
from consumers.ports import LogBroken, Output
from consumers.runtime import RuntimeSettings, Worker
from consumers.window import Backoff
from dotstream.clock import ManualClock
from dotstream.errors import Retryable
from indexer.dot_order import order_of
from indexer.records import delete_record, encode
from indexer.records_pb2 import DotRecord, ObjectRecord
from tests.consumers.dots_place import BITS, EVERY_SIGNAL, RULE, Place, record_of
from tests.support.inline import InlineExecutor
from tests.support.memory_log import MemoryCluster, MemoryLog
from tests.support.memory_topic import MemoryTopic

OBJECTS = "objects.g1"


class Stage:
    """The dots worker over a log in memory, a real shard and a clock that is moved by hand."""

    def __init__(self, folder: Path, *, again: AgainSettings | None = None, dots: DotSettings = EVERY_SIGNAL) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.place = Place(folder / "g1", self.clock)
        self.cluster = MemoryCluster()
        self.again = again or AgainSettings(per_s=1_000.0, cold_start_objects=0, backoff=Backoff(0.1, 0.1))
        self.dots = dots
        self.standing = Standing(active=True, epoch=1)
        self.registry = CollectorRegistry()
        self.ledgers: list[DotLedger] = []
        self.topic = MemoryTopic(self.cluster, "dots")
        self.worker = self.start()

    def start(self, *, forget: bool = False) -> Worker:
        """A worker of this slot, as after a crash; with `forget` also without its ledger."""
        for ledger in self.ledgers:
            ledger.close()
        if forget:
            shutil.rmtree(self.folder / "ledger")
        self.ledgers = [DotLedger(self.folder / "ledger")]
        self.registry = CollectorRegistry()
        metrics = self.metrics = WorkerMetrics("dots", self.registry)
        reader, clock = self.place.reader, self.clock
        decider = DotDecider(reader, self.dots, generation="g1", clock=clock, metrics=metrics)
        deciding = Deciding(
            reader=reader,
            decider=decider,
            standing=lambda: self.standing,
            generation="g1",
            topic="dots",
            source="test",
            clock=clock,
            metrics=metrics,
        )
        processor = DotsProcessor(deciding, bits=BITS, apply_limit_s=0.0)
        spare = DotsAgain(deciding, ledger=self.ledgers[0], followed=self.topic, settings=self.again)
        log = MemoryLog(self.cluster, [OBJECTS], "dots")
        runtime = RuntimeSettings(batch_max=4, window=2, dead_letters=False, backoff=Backoff(0.1, 0.1))
        self.worker = Worker(log, processor, InlineExecutor(), clock, metrics, settings=runtime, spare=spare)
        return self.worker

    def publish(self, *records: ObjectRecord) -> None:
        for record in records:
            self.cluster.append(Output(OBJECTS, record.pin_id.encode(), encode(record)))
            self.place.log(record)

    def run(self, seconds: float, step_s: float = 0.01) -> None:
        """Steps for so long by the clock; each step takes `step_s`."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.worker.step()
            self.clock.sleep(step_s)

    def decisions(self) -> dict[str, list[DotRecord]]:
        """pin -> its records in the order in which they were written."""
        found: dict[str, list[DotRecord]] = defaultdict(list)
        for message in self.cluster.all("dots"):
            record = DotRecord.FromString(message.value or b"")
            found[record.pin_id].append(record)
        return found

    def counted(self, trigger: str) -> float:
        labels = {"role": "dots", "trigger": trigger}
        return self.registry.get_sample_value("dotstream_dots_decided_again_total", labels) or 0.0

    def close(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        self.place.reader.close()
        self.place.shard.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def crowd(first: int, last: int) -> list[ObjectRecord]:
    return [record_of(f"pin-{n:03}", seed=n) for n in range(first, last)]


def numbers(stage: Stage, pin_id: str) -> list[tuple[int, int, int]]:
    return [(each.epoch, each.decision, each.index_objects) for each in stage.decisions()[pin_id]]


def test_dots_are_decided_again_each_time_that_the_index_has_doubled(stage: Stage) -> None:
    stage.publish(*crowd(0, 4))
    stage.run(5)
    assert numbers(stage, "pin-000") == [(1, 1, 4)]
    stage.publish(*crowd(4, 7))
    stage.run(5)
    assert numbers(stage, "pin-000") == [(1, 1, 4)]
    stage.publish(*crowd(7, 8))
    stage.run(5)
    assert numbers(stage, "pin-000") == [(1, 1, 4), (1, 2, 8)]
    assert [len(stage.decisions()[f"pin-{n:03}"]) for n in range(8)] == [2, 2, 2, 2, 1, 1, 1, 1]
    assert stage.counted("growth") == 4


def test_the_end_of_cold_start_makes_what_was_decided_in_it_due(tmp_path: Path) -> None:
    cold = DotSettings(rule=RULE, neighbours=3, cold_start_objects=5)
    stage = Stage(tmp_path, again=AgainSettings(per_s=1_000.0, cold_start_objects=5), dots=cold)
    stage.publish(*crowd(0, 4))
    stage.run(3)
    assert len(stage.cluster.all("dots")) == 4
    stage.publish(*crowd(4, 5))
    stage.run(3)
    assert numbers(stage, "pin-000") == [(1, 1, 4), (1, 2, 5)]
    assert len(stage.decisions()["pin-004"]) == 1
    stage.close()


def test_a_decision_whose_witness_was_deleted_is_made_again_and_no_other(stage: Stage) -> None:
    near = [record_of(f"near-{n}", flipped=n) for n in range(5)]
    far = [record_of("far", seed=9)]
    stage.publish(*near, *far, *crowd(20, 26))
    stage.run(3)
    before = {pin: len(each) for pin, each in stage.decisions().items()}
    rests = {pin for pin, each in stage.decisions().items() if "near-1" in each[-1].witnesses}
    assert "near-0" in rests
    assert "near-1" not in rests
    stage.publish(delete_record("near-1", 2, "g1", 1))
    stage.run(3)
    after = {pin: len(each) for pin, each in stage.decisions().items()}
    assert {pin for pin in after if after[pin] > before[pin]} == rests | {"near-1"}
    assert all("near-1" not in stage.decisions()[pin][-1].witnesses for pin in rests)
    assert stage.counted("witness") == len(rests)


def test_a_cut_over_decides_everything_again_and_a_generation_that_is_not_active_nothing(stage: Stage) -> None:
    stage.publish(*crowd(0, 3))
    stage.run(2)
    stage.standing = Standing(active=False, epoch=1)
    stage.publish(*crowd(3, 4))
    stage.run(5)
    assert len(stage.cluster.all("dots")) == 3
    stage.standing = Standing(active=True, epoch=3)
    stage.run(5)
    assert [each[-1].epoch for each in stage.decisions().values()] == [3, 3, 3, 3]
    assert numbers(stage, "pin-000")[-1] == (3, 1, 4)


def test_after_a_cut_over_a_pin_that_the_generation_has_not_seen_has_no_dots_until_its_record_comes(
    stage: Stage,
) -> None:
    other = DotRecord(pin_id="pin-000", version=1, epoch=1, decision=7, generation="g0")
    stage.cluster.append(Output("dots", b"pin-000", other.SerializeToString()))
    stage.standing = Standing(active=True, epoch=2)
    stage.run(3)
    emptied = stage.decisions()["pin-000"][-1]
    assert (emptied.epoch, emptied.decision, len(emptied.dots)) == (2, 0, 0)
    stage.publish(*crowd(0, 1))
    stage.run(3)
    assert max(stage.decisions()["pin-000"], key=order_of).decision >= 1
    assert len(max(stage.decisions()["pin-000"], key=order_of).dots) == 1


def test_no_more_is_decided_again_than_the_rate_allows_and_live_records_go_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path, again=AgainSettings(per_s=10.0, batch_max=4, cold_start_objects=0))
    stage.publish(*crowd(0, 40))
    stage.run(3)
    stage.standing = Standing(active=True, epoch=2)
    written = len(stage.cluster.all("dots"))
    started = stage.clock.monotonic()
    stage.run(2)
    allowed = 10.0 * (stage.clock.monotonic() - started) + 4
    assert 10 <= len(stage.cluster.all("dots")) - written <= allowed
    stage.publish(*crowd(40, 48))
    stage.worker.step()
    stage.worker.step()
    assert all(f"pin-{n:03}" in stage.decisions() for n in range(40, 48))
    stage.run(6)
    assert all(each[-1].epoch == 2 for each in stage.decisions().values())
    stage.close()


def test_a_rate_of_nought_decides_nothing_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, again=AgainSettings(per_s=0.0, cold_start_objects=0))
    stage.publish(*crowd(0, 2))
    stage.run(1)
    stage.standing = Standing(active=True, epoch=2)
    stage.run(3)
    assert len(stage.cluster.all("dots")) == 2
    stage.close()


def test_with_index_or_topic_away_dots_wait_and_come_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.publish(*crowd(0, 3))
    stage.run(2)
    stage.standing = Standing(active=True, epoch=2)
    refresh = stage.place.reader.refresh

    def away() -> dict[int, int]:
        raise Retryable("the index is away")

    monkeypatch.setattr(stage.place.reader, "refresh", away)
    stage.run(2)
    assert len(stage.cluster.all("dots")) == 3
    monkeypatch.setattr(stage.place.reader, "refresh", refresh)
    stage.topic.away = True
    stage.run(2)
    assert len(stage.cluster.all("dots")) == 3
    stage.topic.away = False
    stage.run(3)
    assert [each[-1].epoch for each in stage.decisions().values()] == [2, 2, 2]


def test_an_index_that_lacks_what_was_decided_puts_the_pin_off_and_holds_up_no_other(stage: Stage) -> None:
    ahead = DotRecord(pin_id="a-newer", version=9, epoch=1, decision=1, generation="g1")
    stage.cluster.append(Output("dots", b"a-newer", ahead.SerializeToString()))
    stage.publish(record_of("a-newer"), *crowd(0, 40))
    stage.run(2)
    stage.standing = Standing(active=True, epoch=2)
    stage.run(4)
    decided = stage.decisions()
    assert all(decided[f"pin-{n:03}"][-1].epoch == 2 for n in range(40))
    assert max(decided["a-newer"], key=order_of).version == 9
    assert stage.counted("not now") > 0


@settings(max_examples=12, deadline=None)
@given(
    faults=st.dictionaries(
        st.integers(5, 80), st.sampled_from(["open", "poll", "before commit", "after commit"]), max_size=6
    ),
    crashes=st.dictionaries(st.integers(5, 80), st.booleans(), max_size=3),
)
def test_whatever_breaks_every_due_decision_is_made_once(faults: dict[int, str], crashes: dict[int, bool]) -> None:
    """`crashes`: the worker is killed after so many calls, with its ledger (True) or without (False) kept."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        calls = 0

        def fault(step: str) -> None:
            nonlocal calls
            calls += 1
            if faults.get(calls) == step:
                raise LogBroken(f"{step} broke")

        stage.cluster.fault = fault
        stage.publish(*crowd(0, 3), record_of("near", flipped=1), record_of("pin", flipped=0))
        for number in range(60):
            if number in crashes:
                stage.start(forget=not crashes[number])
            if number == 10:
                stage.publish(delete_record("near", 2, "g1", 1))
            if number == 20:
                stage.standing = Standing(active=True, epoch=2)
            stage.run(0.05)
        stage.cluster.fault = lambda step: None
        stage.run(3)
        for pin_id, records in stage.decisions().items():
            orders = [order_of(each) for each in records]
            assert len(set(orders)) == len(orders), "a decision was made twice"
            winner = max(records, key=order_of)
            assert winner.deleted == (pin_id == "near")
            assert "near" not in winner.witnesses
            assert winner.deleted or winner.epoch == 2
        quiet = len(stage.cluster.all("dots"))
        stage.run(3)
        assert len(stage.cluster.all("dots")) == quiet
        stage.close()


def test_numbers_of_a_revision_stay_below_the_next_ones() -> None:
    record = ObjectRecord(pin_id="p", version=1, revision=1)
    known = DotRecord(pin_id="p", version=1, epoch=1, decision=65_537)
    assert next_decision(known, record, 1) == 65_538
    assert next_decision(known, record, 2) == 65_537
    known.decision = 2 * 65_536
    assert next_decision(known, record, 1) is None
    known.decision = 3
    assert next_decision(known, record, 1) == 65_537
    known.decision = 3 * 65_536 + 1
    assert next_decision(known, record, 1) is None


def test_coverage_is_told_by_outcome_and_only_of_the_workers_own_partitions(stage: Stage) -> None:
    stage.publish(*[record_of(f"near-{n}", flipped=n) for n in range(4)], record_of("unsure", seed=9, score=0.1))
    stage.run(3)

    def told(outcome: str) -> float | None:
        labels = {"role": "dots", "partition": "0", "outcome": outcome}
        return stage.registry.get_sample_value("dotstream_dot_pins", labels)

    last = {pin: each[-1] for pin, each in stage.decisions().items()}
    shown = sum(any(dot.shown for dot in record.dots) for record in last.values())
    assert told("signals") == shown
    assert told("low_score") == 1
    assert sum(told(outcome) or 0 for outcome in DOT_OUTCOMES) == len(last)
    stage.metrics.coverage({})
    assert told("signals") is None
