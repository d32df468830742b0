"""`dotstream bench saves`: how many save events the saves worker applies durably, and how soon a save is a candidate.

A real broker and one `dotstream work saves` of their own. Rate: a backlog of saves (pins and boards drawn by Zipf's
law, one in twenty an unsave) lies in the topic; the worker starts, and from the first commit that a reader sees until
both stores have all of it on the disk, boards and pins, the pairs between them through Kafka included. Peer: the same
topic read to its end by a plain consumer that does nothing. Freshness: one save at a time, from the call that
publishes it until a reader in this process finds the saved pin among the candidates of another pin of the board; once
with nothing else to do and once below a steady load.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka import Consumer, TopicPartition

from dotstream.errors import Unavailable
from dotstream.memory import settle
from indexer.cooccurrence import BOARDS, PINS, CoOccurrence
from indexer.keyed_reader import KeyedReader
from ops.bench._report import Figure, Report, machine, neighbours
from ops.commands.options import say
from ops.local import kafka
from ops.local.process import last_line, spawn
from ops.settings import Settings, load
from ops.states import store_folder
from ops.topics import TopicNames, ensure, event_topics, pair_topics
from producers.events_pb2 import SaveEvent
from producers.kafka import KafkaConnection
from producers.publisher import Publisher

EVENTS = 300_000
BOARD_COUNT, PIN_COUNT = 20_000, 100_000
UNSAVES = 0.05
TRIALS = 200
PACE_S = 0.02
LOAD = 2_000  # saves a second below which freshness is measured again
LIMIT_S = 300.0
_NAMES = TopicNames()


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    shared = neighbours()
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        jars = kafka.ensure_jars(load(None, {"data": Path(folder)}).settings.cache_folder, say)
        broker = kafka.start(jars, Path(folder) / "kafka")
        try:
            broker.wait_ready(60)
            overrides = {"data": Path(folder), "kafka.bootstrap": broker.bootstrap}
            settings = load(None, overrides).settings
            report = _measure(settings, broker.connection)
            report.conditions |= shared
            report.show(as_json=as_json)
        finally:
            broker.kill()


def _measure(settings: Settings, connection: KafkaConnection) -> Report:
    plan = settings.topics.plan()
    ensure(connection, [*event_topics(plan), *pair_topics(plan)], settings=plan)
    say(f"publishing {EVENTS} saves")
    _backlog(connection)
    plain = _plain_read(connection)
    stores = Stores(settings)
    settle()
    with contextlib.closing(stores), _worker(settings) as pid:
        say("draining")
        rate, spent = _drain(stores, connection, pid)
        idle = _freshness(stores, connection, "idle")
        with _load(connection):
            busy = _freshness(stores, connection, "busy")
    conditions = machine() | {
        "backlog": f"{EVENTS} saves of {PIN_COUNT} pins on {BOARD_COUNT} boards by Zipf's law, {UNSAVES:.0%} unsaves",
        "worker": f"one process, {settings.topics.keyed_partitions} partitions, broker on the same machine",
        "freshness": f"{TRIALS} saves one by one, idle and below {LOAD} saves/s",
    }
    return Report(
        "saves",
        conditions,
        {
            "applied durably": Figure(rate, "saves/s", limit=20_000),
            "CPU of the worker": Figure(spent, "us per save"),
            "plain read of the topic": Figure(plain, "saves/s"),
            "save to candidate p50, idle": Figure(float(np.percentile(idle, 50)), "ms"),
            "save to candidate p99, idle": Figure(float(np.percentile(idle, 99)), "ms", limit=100),
            "save to candidate p50, load": Figure(float(np.percentile(busy, 50)), "ms"),
            "save to candidate p99, load": Figure(float(np.percentile(busy, 99)), "ms", limit=100),
        },
    )


class Stores:
    """Both stores, as a reader sees them."""

    def __init__(self, settings: Settings) -> None:
        partitions = settings.topics.keyed_partitions
        self.boards = KeyedReader(store_folder(settings, BOARDS), BOARDS, partitions)
        self.pins = KeyedReader(store_folder(settings, PINS), PINS, partitions)
        self.together = CoOccurrence(self.boards, self.pins)

    def close(self) -> None:
        self.together.close()


@contextlib.contextmanager
def _worker(settings: Settings) -> Iterator[int]:
    """Process id of a `dotstream work saves` that runs for as long as the block lasts."""
    environment = {"DOTSTREAM_DATA": str(settings.data), "DOTSTREAM_KAFKA__BOOTSTRAP": settings.kafka.bootstrap}
    log = settings.data / "saves.log"
    process = spawn([sys.executable, "-m", "ops.cli", "work", "saves"], log, environment)
    try:
        yield process.pid
        if not process.alive():
            raise Unavailable(f"the worker ended: {last_line(log)}")
    finally:
        process.stop(15)


def _backlog(connection: KafkaConnection) -> None:
    draw = np.random.default_rng(0)
    boards = draw.zipf(1.2, EVENTS) % BOARD_COUNT
    pins = draw.zipf(1.2, EVENTS) % PIN_COUNT
    kinds = np.where(draw.random(EVENTS) < UNSAVES, SaveEvent.KIND_UNSAVED, SaveEvent.KIND_SAVED)
    start = time.time_ns() // 1_000_000 - EVENTS
    with Publisher(connection, queue_max=100_000, linger_ms=20) as publisher:
        for n, (board, pin, kind) in enumerate(zip(boards.tolist(), pins.tolist(), kinds.tolist(), strict=True)):
            publisher.save(SaveEvent(pin_id=f"pin-{pin}", board_id=f"board-{board}", kind=kind, event_time=start + n))


def _plain_read(connection: KafkaConnection) -> float:
    consumer = _consumer(connection)
    try:
        parts = [TopicPartition(_NAMES.events.saves, number, 0) for number in _ends(consumer, _NAMES.events.saves)]
        consumer.assign(parts)
        consumer.consume(1, LIMIT_S)
        started, count = time.monotonic(), 0
        while count < EVENTS - 1:
            found = consumer.consume(1_000, 5.0)
            if not found:
                raise Unavailable(f"the broker gave {count} of {EVENTS} saves")
            count += len(found)
        return count / (time.monotonic() - started)
    finally:
        consumer.close()


def _drain(stores: Stores, connection: KafkaConnection, pid: int) -> tuple[float, float]:
    """(saves per second from the first commit seen until all of it is on the disk, CPU microseconds for each)."""
    process = psutil.Process(pid)
    consumer = _consumer(connection)
    try:
        saves = sum(_ends(consumer, _NAMES.events.saves).values())
        deadline = time.monotonic() + LIMIT_S
        while not (before := _records(stores.boards.refresh())) and time.monotonic() < deadline:
            time.sleep(0.02)
        started, spent = time.monotonic(), _cpu_s(process)
        while time.monotonic() < deadline:  # looks at commit pages only, so as to take nothing from the worker
            if _records(stores.boards.durable()) == saves:
                stores.pins.refresh()
                if _records(stores.pins.durable()) == sum(_ends(consumer, _NAMES.pairs).values()):
                    done = saves - before
                    return done / (time.monotonic() - started), (_cpu_s(process) - spent) / done * 1e6
            time.sleep(0.02)
    finally:
        consumer.close()
    raise Unavailable(f"the worker did not apply {EVENTS} saves within {LIMIT_S:.0f} s")


def _records(offsets: Mapping[int, int]) -> int:
    """How many records these last offsets, inclusive and -1 before the first, stand for."""
    return sum(offset + 1 for offset in offsets.values())


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _freshness(stores: Stores, connection: KafkaConnection, name: str) -> list[float]:
    """Milliseconds from a save's publication until it is a candidate."""
    times = []
    with Publisher(connection, linger_ms=0) as publisher:
        for n in range(TRIALS):
            board, first, second = (f"{name}-{kind}-{n}" for kind in ("board", "first", "second"))
            publisher.save(_saved(first, board))
            _await(stores, first, None)
            started = time.monotonic()
            publisher.save(_saved(second, board))
            _await(stores, first, second)
            times.append((time.monotonic() - started) * 1000)
            time.sleep(PACE_S)
    return times


def _saved(pin_id: str, board_id: str) -> SaveEvent:
    now = time.time_ns() // 1_000_000
    return SaveEvent(pin_id=pin_id, board_id=board_id, kind=SaveEvent.KIND_SAVED, event_time=now)


def _await(stores: Stores, pin_id: str, other: str | None) -> None:
    """Until `other` is a candidate of the pin, and the pin of `other`; with None until the pin has a board."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        stores.together.refresh()
        now = time.time_ns() // 1_000_000
        if other is None:
            seen = bool(stores.together.boards_of(pin_id))
        else:
            pairs = ((pin_id, other), (other, pin_id))
            seen = all(any(one.pin_id == b for one in stores.together.candidates(a, now, 10)) for a, b in pairs)
        if seen:
            return
        time.sleep(0.001)
    raise Unavailable(f"a save of {pin_id} was not seen within 30 s")


@contextlib.contextmanager
def _load(connection: KafkaConnection) -> Iterator[None]:
    """Saves at a steady rate, as long as the block lasts."""
    stop = threading.Event()

    def work() -> None:
        with Publisher(connection, linger_ms=5) as publisher:
            started, sent = time.monotonic(), 0
            while not stop.is_set():
                due = int((time.monotonic() - started) * LOAD)
                for n in range(sent, due):
                    publisher.save(_saved(f"pin-{n % PIN_COUNT}", f"board-{n % BOARD_COUNT}"))
                sent = due
                stop.wait(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _consumer(connection: KafkaConnection) -> Consumer:
    return Consumer(
        connection.config(**{"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed"})
    )


def _ends(consumer: Consumer, topic: str) -> dict[int, int]:
    numbers = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=30)[1] for n in numbers}
