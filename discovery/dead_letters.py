"""Looks a pin up in the dead-letter topics: why an event of it could not pass.

A dead letter is the original record with headers of the prefix below (written by consumers/dead.py; a contract test
holds both against each other). The topics are small and rarely asked, so each question reads the end of the pin's
partitions anew instead of keeping a copy; records, bytes and time are bounded, newest first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from discovery.ports import DeadLetter
from dotstream.errors import Retryable
from producers.kafka import KafkaConnection, translate

PREFIX = "dotstream-dead-"


def read_dead_letter(headers: Iterable[Any]) -> DeadLetter | None:
    """The coordinates and reason in a record's headers, (name, bytes) pairs; None when it is no dead letter."""
    facts = {
        name.removeprefix(PREFIX): value.decode(errors="replace") if isinstance(value, bytes) else value or ""
        for name, value in headers
        if name.startswith(PREFIX)
    }
    try:
        return DeadLetter(
            topic=facts["topic"],
            partition=int(facts["partition"]),
            offset=int(facts["offset"]),
            reason=facts["reason"],
            detail=facts["detail"],
            event_timestamp=int(facts["timestamp"]),
            dead_at=int(facts["at"]),
        )
    except (KeyError, ValueError):
        return None


class KafkaDeadLetters:
    """`DeadLetters` over real topics.

    Args:
        connection: the brokers.
        topics: dead-letter topics, prefix included; one that does not exist holds nothing.
        records: read from the end of each partition, at most.
        limit_s: for one question.
    """

    def __init__(
        self, connection: KafkaConnection, topics: Sequence[str], *, records: int = 10_000, limit_s: float = 3.0
    ) -> None:
        self._connection = connection
        self._topics = tuple(topics)
        self._records = records
        self._limit_s = limit_s

    def find(self, pin_id: str) -> Sequence[DeadLetter]:
        """The pin's dead letters, latest first.

        Raises:
            Retryable: the broker is away, or did not answer in time.
            Misconfigured: access is refused.
        """
        consumer = Consumer(
            self._connection.config(
                **{
                    "client.id": "dotstream-lineage",
                    "group.id": "dotstream-lineage-unused",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "queued.max.messages.kbytes": 16_384,
                }
            )
        )
        try:
            return self._find(consumer, pin_id.encode(), time.monotonic() + self._limit_s)
        except KafkaException as error:
            raise translate(error) from error
        finally:
            consumer.close()

    def _find(self, consumer: Consumer, key: bytes, deadline: float) -> list[DeadLetter]:
        waiting = self._starts(consumer, deadline)
        if not waiting:
            return []
        consumer.assign([TopicPartition(topic, number, start) for (topic, number), start in waiting.items()])
        found: list[DeadLetter] = []
        open_parts = set(waiting)
        while open_parts:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Retryable(f"the dead letters could not be read within {self._limit_s} s")
            first = consumer.poll(left)
            for message in [] if first is None else [first, *consumer.consume(500, 0)]:
                error = message.error()
                if error is None:
                    _note(found, message, key)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_parts.discard((str(message.topic()), int(message.partition() or 0)))
                else:
                    raise translate(error)
        return sorted(found, key=lambda letter: (letter.dead_at, letter.offset), reverse=True)

    def _starts(self, consumer: Consumer, deadline: float) -> Mapping[tuple[str, int], int]:
        """(topic, partition) -> where to begin, of those that hold anything."""
        starts: dict[tuple[str, int], int] = {}
        known = consumer.list_topics(timeout=_left(deadline)).topics
        for topic in self._topics:
            for number in known[topic].partitions if topic in known else ():
                bounds = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_left(deadline))
                if bounds is None:
                    raise Retryable(f"the broker did not say where {topic} ends")
                low, high = bounds
                if high > low:
                    starts[topic, number] = max(low, high - self._records)
        return starts


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _note(found: list[DeadLetter], message: Message, key: bytes) -> None:
    own = message.key()
    if (own.encode() if isinstance(own, str) else own) == key:
        letter = read_dead_letter(list(message.headers() or ()))
        if letter is not None:
            found.append(letter)
