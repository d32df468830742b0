"""The contract of the log port, held by the log in memory and by the real one over a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer

from consumers.kafka_log import KafkaLog, KafkaLogSettings, Slot
from consumers.ports import Log, LogBroken, Message, Output, Partition
from dotstream.clock import SystemClock
from dotstream.errors import Fatal
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames
from tests.support.kafka import read_topic
from tests.support.memory_log import MemoryCluster, MemoryLog

LIMIT_S = 30.0
Opener = Callable[[], Log]


class Quiet:
    """A listener that starts at the committed offsets and remembers what it was told."""

    def __init__(self) -> None:
        self.held: set[Partition] = set()

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.held |= set(partitions)
        return {}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self.held -= set(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.held -= set(partitions)


class Bench:
    """One implementation under test: opens logs of the same slot, publishes, and reads what was committed."""

    def __init__(
        self, opener: Opener, publish: Callable[[bytes], None], committed: Callable[[int], list[bytes]]
    ) -> None:
        self.opener = opener
        self.publish = publish
        self.committed = committed
        self.opened: list[Log] = []

    def open(self) -> Log:
        log = self.opener()
        log.open(Quiet())
        self.opened.append(log)
        return log


@pytest.fixture(params=["memory", "kafka"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = _memory() if request.param == "memory" else _kafka(request)
    yield made
    for log in made.opened:
        log.close()


def _memory() -> Bench:
    cluster = MemoryCluster()

    def committed(count: int) -> list[bytes]:
        found = [m.value or b"" for m in cluster.all("dots")]
        assert len(found) == count
        return found

    return Bench(
        lambda: MemoryLog(cluster, ["pins"], "group"),
        lambda value: void(cluster.append(Output("pins", b"k", value))),
        committed,
    )


def _kafka(request: pytest.FixtureRequest) -> Bench:
    broker: KafkaProcess = request.getfixturevalue("broker")
    names: TopicNames = request.getfixturevalue("topics")
    slot = Slot("test", "g1", prefix=names.prefix)
    settings = KafkaLogSettings(session_timeout_s=6.0)

    def publish(value: bytes) -> None:
        producer = Producer(broker.connection.config())
        producer.produce(names.events.pins, value, b"k")
        assert producer.flush(LIMIT_S) == 0

    return Bench(
        lambda: KafkaLog(broker.connection, [names.events.pins], slot, SystemClock(), settings),
        publish,
        lambda count: [m.value() or b"" for m in read_topic(broker.connection, names.dots, count)],
    )


def void(_: object) -> None:
    return None


def take(log: Log, count: int) -> list[Message]:
    """Polls until `count` messages came, within the limit."""
    found: list[Message] = []
    deadline = time.monotonic() + LIMIT_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
        found += log.poll(count - len(found), 0.1)
    return found


def dots_of(bench: Bench) -> str:
    return "dots" if isinstance(bench.opened[0], MemoryLog) else _dots_name(bench.opened[0])


def _dots_name(log: Log) -> str:
    assert isinstance(log, KafkaLog)
    return log.topics[0].removesuffix("pins") + "dots"


def test_outputs_and_positions_are_committed_together(bench: Bench) -> None:
    for number in range(5):
        bench.publish(b"%d" % number)
    log = bench.open()
    first = take(log, 3)
    assert [m.value for m in first] == [b"0", b"1", b"2"]
    topic = dots_of(bench)
    log.commit([Output(topic, b"k", b"seen " + (m.value or b"")) for m in first], {first[-1].source: 3})
    take(log, 2)  # read but never committed
    log.close()
    again = bench.open()
    assert [m.value for m in take(again, 2)] == [b"3", b"4"]
    assert bench.committed(3) == [b"seen 0", b"seen 1", b"seen 2"]


def test_opening_again_reads_from_the_committed_positions(bench: Bench) -> None:
    bench.publish(b"a")
    log = bench.open()
    assert [m.value for m in take(log, 1)] == [b"a"]
    log.open(Quiet())
    assert [m.value for m in take(log, 1)] == [b"a"]


def test_idle_loses_nothing(bench: Bench) -> None:
    bench.publish(b"a")
    log = bench.open()
    first = take(log, 1)
    log.commit([], {first[0].source: first[0].offset + 1})
    bench.publish(b"b")
    for _ in range(20):
        log.idle()
    assert [m.value for m in take(log, 1)] == [b"b"]


def test_ends_are_told_once_everything_before_was_returned(bench: Bench) -> None:
    bench.publish(b"a")
    log = bench.open()
    (message,) = take(log, 1)
    deadline = time.monotonic() + LIMIT_S
    met: dict[Partition, int] = {}
    while message.source not in met:
        assert time.monotonic() < deadline
        assert log.poll(10, 0.1) == []
        met |= log.reached()
    assert met[message.source] == log.end(message.source) == 1


def test_positions_are_what_may_be_committed_once_all_is_settled(bench: Bench) -> None:
    bench.publish(b"a")
    bench.publish(b"b")
    log = bench.open()
    source = take(log, 2)[0].source
    deadline = time.monotonic() + LIMIT_S
    while log.poll(10, 0.1) or len(log.positions()) == 0:
        assert time.monotonic() < deadline
    assert log.positions()[source] == 2
    log.commit([], log.positions())
    log.close()
    bench.publish(b"c")
    assert [m.value for m in take(bench.open(), 1)] == [b"c"]


def test_what_was_taken_before_a_revoke_is_not_returned(broker: KafkaProcess, topics: TopicNames) -> None:
    """Between the first message and the rest of a batch the client serves a rebalance: the first may be another's."""
    slot = Slot("test", "g1", prefix=topics.prefix)
    log = KafkaLog(broker.connection, [topics.events.pins], slot, SystemClock())
    producer = Producer(broker.connection.config())
    for value in (b"a", b"b"):
        producer.produce(topics.events.pins, value, b"k")
    assert producer.flush(LIMIT_S) == 0
    try:
        log.open(Quiet())
        take(log, 1)
        assert log._consumer is not None
        consumer: Consumer = log._consumer

        class Revoking:
            """The real consumer, whose `consume` serves a revoke first, as a rebalance makes it do."""

            def __getattr__(self, name: str) -> Any:
                return getattr(consumer, name)

            def consume(self, count: int, wait_s: float) -> list[Any]:
                log._on_revoke(consumer.assignment(), lambda _: None)
                return consumer.consume(count, wait_s)

        log._consumer = cast(Consumer, Revoking())
        deadline = time.monotonic() + LIMIT_S
        with pytest.raises(LogBroken, match="revoked"):
            while time.monotonic() < deadline:
                assert log.poll(1_000, 0.1) == []
        log._consumer = consumer
        log.open(Quiet())
        assert [message.value for message in take(log, 2)] == [b"a", b"b"]
    finally:
        log.close()


def test_a_successor_fences_the_zombie_and_ends_its_transaction(broker: KafkaProcess, topics: TopicNames) -> None:
    """The zombie stopped between producing and committing; its records are never seen and it cannot go on."""
    slot = Slot("test", "g1", prefix=topics.prefix)
    zombie = KafkaLog(broker.connection, [topics.events.pins], slot, SystemClock())
    successor = KafkaLog(broker.connection, [topics.events.pins], slot, SystemClock())
    zombie.open(Quiet())
    try:
        zombie.poll(1, 0.5)
        successor.open(Quiet())
        successor.poll(1, 0.5)
        successor.commit([Output(topics.dots, b"k", b"good")], {})
        with pytest.raises(Fatal, match="fenced"):
            zombie.commit([Output(topics.dots, b"k", b"stale")], {(topics.events.pins, 0): 1})
        successor.commit([Output(topics.dots, b"k", b"good too")], {})
        assert [m.value() for m in read_topic(broker.connection, topics.dots, 2)] == [b"good", b"good too"]
    finally:
        zombie.close()
        successor.close()
