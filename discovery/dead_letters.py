"""Looks a pin up in the dead-letter topics: why an event of it could not pass.

A dead letter is the original record with headers of the prefix below (written by consumers/dead.py; a contract test
holds both against each other). The topics are small and rarely asked, so each question reads the end of the pin's
partitions anew instead of keeping a copy. Records, bytes and time are bounded: only the newest records of a partition
are looked at, one at a time, and only their headers are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from discovery.ports import DeadLetter, Letters
from dotstream.errors import Retryable
from producers.kafka import KafkaConnection, translate

PREFIX = "dotstream-dead-"
FETCH_WAIT_MS = 10
"""How long the broker may hold an empty answer back: the ends are waited for, never news."""


def read_dead_letter(headers: Iterable[Any]) -> DeadLetter | None:
    """The coordinates and reason in a record's headers, (name, bytes) pairs; None when it is no dead letter."""
    texts = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value or "" for name, value in headers
    }
    facts = {name.removeprefix(PREFIX): text for name, text in texts.items() if name.startswith(PREFIX)}
    try:
        return DeadLetter(
            topic=facts["topic"],
            partition=int(facts["partition"]),
            offset=int(facts["offset"]),
            reason=facts["reason"],
            detail=facts["detail"],
            event_timestamp=int(facts["timestamp"]),
            dead_at=int(facts["at"]),
            event_time=_milliseconds(texts.get("ce_time", "")),
        )
    except (KeyError, ValueError):
        return None


def _milliseconds(time: str) -> int | None:
    """Unix milliseconds of an RFC 3339 time; None for what is none, since any producer may have written it."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return None
    return None if moment.tzinfo is None else round(moment.timestamp() * 1000)


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

    def find(self, pin_id: str) -> Letters:
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
                    "fetch.wait.max.ms": FETCH_WAIT_MS,
                    "fetch.queue.backoff.ms": FETCH_WAIT_MS,
                }
            )
        )
        try:
            return self._find(consumer, pin_id.encode(), time.monotonic() + self._limit_s)
        except KafkaException as error:
            raise translate(error) from error
        finally:
            consumer.close()

    def _find(self, consumer: Consumer, key: bytes, deadline: float) -> Letters:
        waiting, all_of_them = self._starts(consumer, deadline)
        if not waiting:
            return Letters()
        consumer.assign([TopicPartition(topic, number, start) for (topic, number), start in waiting.items()])
        found: list[DeadLetter] = []
        open_parts = set(waiting)
        while open_parts:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Retryable(f"the dead letters could not be read within {self._limit_s} s")
            # One at a time: values of up to the topic's limit are dropped before the next one is taken.
            message = consumer.poll(left)
            if message is None:
                continue
            error = message.error()
            if error is None:
                _note(found, message, key)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_parts.discard((str(message.topic()), int(message.partition() or 0)))
            else:
                raise translate(error)
        found.sort(key=lambda letter: (letter.dead_at, letter.offset), reverse=True)
        return Letters(found, None if all_of_them else self._records)

    def _starts(self, consumer: Consumer, deadline: float) -> tuple[Mapping[tuple[str, int], int], bool]:
        """(topic, partition) -> where to begin, of those that hold anything; and whether that is all they hold."""
        starts: dict[tuple[str, int], int] = {}
        all_of_them = True
        known = consumer.list_topics(timeout=_left(deadline)).topics
        for topic in self._topics:
            for number in known[topic].partitions if topic in known else ():
                bounds = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_left(deadline))
                if bounds is None:
                    raise Retryable(f"the broker did not say where {topic} ends")
                low, high = bounds
                if high > low:
                    starts[topic, number] = max(low, high - self._records)
                    all_of_them = all_of_them and starts[topic, number] == low
        return starts, all_of_them


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _note(found: list[DeadLetter], message: Message, key: bytes) -> None:
    own = message.key()
    if (own.encode() if isinstance(own, str) else own) == key:
        letter = read_dead_letter(list(message.headers() or ()))
        if letter is not None:
            found.append(letter)
