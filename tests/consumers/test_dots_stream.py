"""Dots decided again by real worker processes over a real broker: growth, a witness taken down, a cut-over, kill -9."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from indexer.dot_order import order_of
from indexer.records import delete_record, encode
from indexer.records_pb2 import DotRecord, GenerationRecord, ObjectRecord
from ops.generations import publish_generation
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames
from tests.consumers.dots_place import BITS, FEATURE, record_of

LIMIT_S = 60.0
SETTINGS = {"dots.cold_start_min_objects": 0, "dots.neighbours": 3, "index.segment_slots": 64}


class Stream:
    """Topics of a generation, its index and dots workers as processes, and everything ever written to `dots`."""

    def __init__(self, broker: KafkaProcess, names: TopicNames, prefix: str, folder: Path) -> None:
        self.connection = broker.connection
        self.names = names
        self._prefix = prefix
        self._folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.written: dict[str, list[DotRecord]] = defaultdict(list)
        self._producer = Producer(self.connection.config(partitioner="murmur2_random"))
        config = {"group.id": "none", "enable.auto.commit": False, "isolation.level": "read_committed"}
        self._consumer = Consumer(self.connection.config(**config))
        self._consumer.assign([TopicPartition(names.dots, number, 0) for number in range(4)])
        self.generation(epoch=1)

    def generation(self, *, epoch: int) -> None:
        record = GenerationRecord(
            name="g1", state=GenerationRecord.STATE_ACTIVE, epoch=epoch, bits=BITS, partitions=4, fingerprint=bytes(32)
        )
        publish_generation(self.connection, self.names.generations, record)

    def start(self, role: str, **settings: object) -> subprocess.Popen[bytes]:
        given = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
        words = (role, self.connection.bootstrap, self._prefix, str(self._folder), FEATURE, json.dumps(given))
        process = subprocess.Popen([sys.executable, "-m", "tests.consumers.role_process", *words])
        self.running.append(process)
        return process

    def publish(self, *records: ObjectRecord) -> None:
        for record in records:
            self._producer.produce(self.names.objects("g1"), encode(record), record.pin_id.encode())
        assert self._producer.flush(LIMIT_S) == 0

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < deadline, {pin: len(each) for pin, each in self.written.items()}
            for message in self._consumer.consume(500, 0.1):
                assert message.error() is None
                record = DotRecord.FromString(message.value() or b"")
                self.written[record.pin_id].append(record)

    def winner(self, pin_id: str) -> DotRecord:
        return max(self.written[pin_id], key=order_of)

    def close(self) -> None:
        self._consumer.close()
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def stream(broker: KafkaProcess, topics: TopicNames, topic_prefix: str, tmp_path: Path) -> Iterator[Stream]:
    made = Stream(broker, topics, topic_prefix, tmp_path)
    yield made
    made.close()


def crowd(first: int, last: int) -> list[ObjectRecord]:
    return [record_of(f"pin-{n:03}", seed=n) for n in range(first, last)]


def test_dots_are_decided_again_for_each_reason_and_exactly_once_through_kill_9(stream: Stream) -> None:
    written = stream.written
    stream.start("index")
    worker = stream.start("dots")
    near = [record_of(f"near-{n}", seed=500, flipped=n) for n in range(5)]
    stream.publish(*near, *crowd(0, 5))
    stream.until(lambda: len(written) == 10)

    stream.publish(*crowd(5, 20))  # 25 objects and more than twice as many as any of the first was decided with
    stream.until(lambda: all(len(written[record.pin_id]) >= 2 for record in near))
    assert all(stream.winner(record.pin_id).decision >= 2 for record in near)

    rests = {pin for pin in written if "near-2" in stream.winner(pin).witnesses}
    assert "near-1" in rests
    stream.publish(delete_record("near-2", 2, "g1", 1))
    stream.until(lambda: all("near-2" not in stream.winner(pin).witnesses for pin in rests))

    worker.kill()
    worker.wait()
    stream.generation(epoch=2)
    worker = stream.start("dots", dots__again_per_s=10)
    stream.until(lambda: sum(stream.winner(pin).epoch == 2 for pin in written) >= 5)
    worker.kill()
    worker.wait()
    stream.start("dots")
    stream.until(lambda: all(stream.winner(pin).epoch == 2 or stream.winner(pin).deleted for pin in written))

    for pin_id, records in written.items():
        orders = [order_of(record) for record in records]
        assert len(set(orders)) == len(orders), f"a decision on {pin_id} was made twice"
