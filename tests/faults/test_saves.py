"""kill -9 of the saves worker in mid-stream, duplicates and replays: boards and pins are what a dictionary says.

A broker and the worker alone, no Triton. The ledger is a list of saves in the order of their publication, which is each
board's order in the log. Boards are kept so small that members are pushed out all the time.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from indexer.cooccurrence import BOARDS, PINS
from indexer.keyed_layout import Store, digest
from indexer.keyed_reader import KeyedReader
from indexer.timed_sets import members_of
from ops.local.kafka import KafkaProcess
from ops.topics import TopicSettings, ensure, event_topics, pair_topics
from producers.events_pb2 import SaveEvent
from producers.kafka import KafkaConnection
from producers.publisher import Publisher
from tests.faults.conftest import rounds
from tests.faults.stack import clean_environment
from tests.faults.waiting import until
from tests.support.save_oracle import Save, SaveOracle

BOARD_PINS = 12
EVENTS = 600
SETTLE_LIMIT_S = 600.0  # the long run has half a million events
PARTITIONS = TopicSettings().keyed_partitions

pytestmark = pytest.mark.faults


@dataclass
class Saves:
    """What was acknowledged, in order; and a source of more of it."""

    chance: random.Random
    log: list[Save] = field(default_factory=list)

    def some(self) -> list[Save]:
        """New events, late ones, and some of the old once more."""
        fresh = [
            Save(
                f"board-{self.chance.randrange(40)}",
                f"pin-{self.chance.randrange(60)}",
                self.chance.randrange(1, 5_000),
                saved=self.chance.random() < 0.7,
            )
            for _ in range(EVENTS)
        ]
        again = [self.chance.choice(self.log) for _ in range(EVENTS // 5)] if self.log else []
        both = [*fresh, *again]
        self.chance.shuffle(both)
        return both

    def publish(self, connection: KafkaConnection, saves: list[Save]) -> None:
        with Publisher(connection) as publisher:
            for save in saves:
                kind = SaveEvent.KIND_SAVED if save.saved else SaveEvent.KIND_UNSAVED
                publisher.save(SaveEvent(pin_id=save.pin, board_id=save.board, kind=kind, event_time=save.time))
        self.log += saves


class Worker:
    """`dotstream work saves` over a data folder."""

    def __init__(self, data: Path, broker: KafkaProcess) -> None:
        self._data = data
        self._environment = clean_environment(
            {
                "DOTSTREAM_DATA": str(data),
                "DOTSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
                "DOTSTREAM_SAVES__BOARD_PINS": str(BOARD_PINS),
                "DOTSTREAM_SAVES__BATCH_MAX": "200",
            }
        )
        self._log = data.with_suffix(".log")
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "ops.cli", "work", "saves"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = self._started()

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]


@contextmanager
def worker_on(data: Path, broker: KafkaProcess) -> Iterator[Worker]:
    worker = Worker(data, broker)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


@contextmanager
def stores_in(data: Path) -> Iterator[dict[Store, KeyedReader]]:
    readers = {store: KeyedReader(data / "states" / store.name, store, PARTITIONS) for store in (BOARDS, PINS)}
    try:
        yield readers
    finally:
        for reader in readers.values():
            reader.close()


def ends(connection: KafkaConnection, topic: str) -> dict[int, int]:
    consumer = Consumer(connection.config(**{"group.id": "looks", "enable.auto.commit": False}))
    try:
        numbers = range(PARTITIONS)
        return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=20)[1] - 1 for n in numbers}
    finally:
        consumer.close()


def settle(data: Path, broker: KafkaProcess, worker: Worker) -> None:
    """Returns when both stores have all of both topics on the disk."""

    def settled() -> bool:
        assert worker.process.poll() is None, worker.said()
        with stores_in(data) as stores:
            for topic, store in (("saves", BOARDS), ("pairs", PINS)):
                stores[store].refresh()
                if stores[store].durable() != ends(broker.connection, topic):
                    return False
        return True

    until("boards and pins have everything", settled, SETTLE_LIMIT_S, every_s=0.3, said=worker.said)


def content(data: Path, store: Store, names: set[str]) -> dict[str, list[str]]:
    """Members of each set, oldest first; empty ones left out."""
    with stores_in(data) as stores:
        stores[store].refresh()
        rows = stores[store].get_many(store.families[0], [name.encode() for name in sorted(names)])
        found = {name: [m.decode() for m in members_of(row)[0]] for name, row in zip(sorted(names), rows, strict=True)}
    return {name: members for name, members in found.items() if members}


def digests(data: Path) -> dict[str, list[str]]:
    with stores_in(data) as stores:
        found = {}
        for store, reader in stores.items():
            reader.refresh()
            databases = [follower.database for follower in reader.followers]
            found[store.name] = [digest(each, store.families) for each in databases if each is not None]
    return found


def test_kills_duplicates_and_replays(tmp_path: Path, seed: int, own_broker: Callable[[], KafkaProcess]) -> None:
    chance = random.Random(seed)
    saves = Saves(chance)
    broker = own_broker()
    plan = TopicSettings()
    ensure(broker.connection, [*event_topics(plan), *pair_topics(plan)], settings=plan)
    data = tmp_path / "data"
    with worker_on(data, broker) as worker:
        for _ in range(rounds(12)):
            saves.publish(broker.connection, saves.some())
            time.sleep(chance.uniform(0.0, 4.0))  # a random moment is the point; starting takes about two seconds
            worker.kill()
        saves.publish(broker.connection, saves.some())
        settle(data, broker, worker)
        assert worker.end() == 0
    oracle = SaveOracle(board_pins=BOARD_PINS).apply(saves.log)
    assert content(data, BOARDS, {save.board for save in saves.log}) == oracle.boards()
    pins = content(data, PINS, {save.pin for save in saves.log})
    assert {pin: set(boards) for pin, boards in pins.items()} == oracle.pins()

    again = tmp_path / "again"
    with worker_on(again, broker) as worker:  # from the start of both topics, which gain the same pairs once more
        settle(again, broker, worker)
        assert worker.end() == 0
    assert digests(again)["boards"] == digests(data)["boards"]
    with worker_on(data, broker) as worker:  # the repeated pairs change nothing
        before = digests(data)
        settle(data, broker, worker)
        assert worker.end() == 0
    assert digests(data) == before
    assert digests(again) == before
    print(f"{len(saves.log)} saves, {rounds(12)} kills")
