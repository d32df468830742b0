"""Watches the stream's outputs for the demonstration: object records, dot records and dead letters, as they commit."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from google.protobuf.message import DecodeError

from dotstream.errors import Unavailable
from indexer.records_pb2 import DotRecord, ObjectRecord
from ops.dead import read_letter
from ops.demo.tally import Tally
from ops.topics import TopicNames
from producers.kafka import KafkaConnection, translate

log = logging.getLogger(__name__)
LIMIT_S = 15.0


class Follower:
    """Reads from the present ends of the topics on, on a thread of its own, while the context is open.

    Args:
        connection: the brokers.
        names: of the topics.
        generation: whose object records are watched.
        tally: takes what is seen.

    Raises:
        Unavailable: the brokers did not say in time where the topics end.
    """

    def __init__(self, connection: KafkaConnection, names: TopicNames, generation: str, tally: Tally) -> None:
        self._objects, self._dots = names.objects(generation), names.dots
        self._dead = {names.dead(names.events.pins), names.dead(self._objects)}
        self._tally = tally
        self._stop = threading.Event()
        config: dict[str, Any] = {
            "group.id": "dotstream-demo-unused",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
        }
        self._consumer = Consumer(connection.config(**config))
        try:
            self._consumer.assign(self._ends([self._objects, self._dots, *self._dead]))
        except KafkaException as error:
            self._consumer.close()
            raise translate(error) from error
        self._thread = threading.Thread(target=self._follow, name="demo-follower", daemon=True)

    def _ends(self, topics: list[str]) -> list[TopicPartition]:
        known = self._consumer.list_topics(timeout=LIMIT_S).topics
        parts = [TopicPartition(name, number) for name in topics for number in known[name].partitions]
        for part in parts:
            bounds = self._consumer.get_watermark_offsets(part, timeout=LIMIT_S)
            if bounds is None:
                raise Unavailable(f"the broker did not say where {part.topic} ends")
            part.offset = bounds[1]
        return parts

    def _follow(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.2)
            now = time.time_ns() // 1_000_000
            for message in [] if first is None else [first, *self._consumer.consume(100, 0)]:
                if message.error() is not None:
                    log.warning("following the stream: %s", message.error())
                else:
                    self._take(message, now)

    def _take(self, message: Message, now_ms: int) -> None:
        value = message.value()
        data = value if isinstance(value, bytes) else b""
        try:
            if message.topic() == self._objects:
                self._tally.recorded(ObjectRecord.FromString(data), now_ms)
            elif message.topic() == self._dots:
                self._tally.dotted(DotRecord.FromString(data), now_ms)
            else:
                letter = read_letter(message)
                self._tally.died(letter.key_text, letter.reason)
        except DecodeError as error:
            log.warning("following the stream: %s holds an undecodable record: %s", message.topic(), error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()
