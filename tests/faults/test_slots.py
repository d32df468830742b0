"""Many worker slots on one broker that dies and stays away: none takes itself for fenced, nothing is lost or repeated.

The runtime and the log port alone, without Triton and shards, so that one outage tries many slots at once. Each slot
copies its own topic to `out`; afterwards `out` holds what was acknowledged, each record once.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from prometheus_client import CollectorRegistry

from consumers.kafka_log import KafkaLog, KafkaLogSettings, Slot
from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome, Output
from consumers.runtime import RuntimeSettings, Worker
from dotstream.clock import SystemClock
from dotstream.errors import DotstreamError
from ops.local.kafka import KafkaProcess
from producers.kafka import KafkaConnection
from tests.faults.conftest import rounds
from tests.faults.state import read_whole
from tests.faults.waiting import until, watched

SLOTS = 16
SESSION_S = 8.0
AWAY_S = 20.0
BACK_S = 14.0  # until every slot works again, the client's slowest retry included
SETTLE_LIMIT_S = 150.0  # longer than a transaction may stay open: what is missing then is lost, not late

pytestmark = [pytest.mark.faults, pytest.mark.timeout(500)]


class Copy:
    """Each record as it is."""

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return [Outcome((Output("out", message.key or b"", message.value),)) for message in batch]


@dataclass
class Slots:
    """The workers, each on a thread, and the producer that feeds them."""

    connection: KafkaConnection
    stop: threading.Event = field(default_factory=threading.Event)
    ended: list[DotstreamError] = field(default_factory=list)
    acknowledged: Counter[bytes] = field(default_factory=Counter)

    def work(self, number: int) -> None:
        settings = KafkaLogSettings(session_timeout_s=SESSION_S)
        log = KafkaLog(self.connection, [f"in{number}"], Slot("copy", f"g{number}"), SystemClock(), settings)
        with ThreadPoolExecutor(1) as pool:
            metrics = WorkerMetrics("copy", CollectorRegistry())
            runtime = RuntimeSettings(batch_max=50, window=2)
            try:
                Worker(log, Copy(), pool, SystemClock(), metrics, settings=runtime).run(self.stop.is_set)
            except DotstreamError as error:
                self.ended.append(error)

    def publish(self) -> None:
        """Fifty records a second to each slot, until told to stop, and none is given up."""
        producer = Producer(
            self.connection.config(**{"enable.idempotence": True, "message.timeout.ms": 120_000, "linger.ms": 20})
        )

        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            assert error is None, error
            self.acknowledged[bytes(message.value() or b"")] += 1

        number = 0
        while not self.stop.wait(0.02):
            for slot in range(SLOTS):
                value = f"{slot}/{number}".encode()
                producer.produce(f"in{slot}", value, value, on_delivery=delivered)
            producer.poll(0)
            number += 1
        assert producer.flush(60) == 0


def test_slots_outlive_a_broker_that_is_away(own_broker: Callable[[], KafkaProcess], seed: int) -> None:
    chance = random.Random(seed)
    broker = own_broker()
    topics = [NewTopic(f"in{number}", 2, 1) for number in range(SLOTS)] + [NewTopic("out", 4, 1)]
    admin = AdminClient(broker.connection.config())
    for made in admin.create_topics(topics).values():
        made.result(30)
    feed, slots = Slots(broker.connection), Slots(broker.connection)
    threads = [threading.Thread(target=slots.work, args=(number,)) for number in range(SLOTS)]
    threads.append(threading.Thread(target=feed.publish))
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds(2)):
            watched(lambda: True, chance.uniform(6, 9))
            broker.kill()
            watched(lambda: True, AWAY_S)
            broker = own_broker()
            watched(lambda: True, BACK_S)
        feed.stop.set()
        threads[-1].join(90)
        settle(broker, feed.acknowledged)
    finally:
        feed.stop.set()
        slots.stop.set()
        for thread in threads:
            thread.join(60)
    print(f"{rounds(2) * SLOTS} outages of a slot, {feed.acknowledged.total()} records, {len(slots.ended)} ended")
    assert not slots.ended, slots.ended
    assert copied(broker) == feed.acknowledged


def settle(broker: KafkaProcess, acknowledged: Counter[bytes]) -> None:
    """Until `out` holds what was acknowledged; says what is missing and what there is too much of."""

    def difference() -> str:
        found = copied(broker)
        missing, surplus = acknowledged - found, found - acknowledged
        slots = Counter(value.split(b"/")[0].decode() for value in missing)
        return f"{missing.total()} missing, by slot {dict(slots)}; {surplus.total()} too many, {surplus.most_common(5)}"

    took = until(
        "all that was acknowledged is copied",
        lambda: copied(broker) == acknowledged,
        SETTLE_LIMIT_S,
        every_s=1,
        said=difference,
    )
    print(f"all was copied {took:.0f} s after the last record")


def copied(broker: KafkaProcess) -> Counter[bytes]:
    return Counter(bytes(message.value() or b"") for message in read_whole(broker.connection, "out").all())
