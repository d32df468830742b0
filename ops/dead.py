"""Reads the dead-letter topics whole, and puts what is in them back where it came from.

The format of a dead letter is that of consumers/dead.py. Reading stands outside of any group and ends at the offsets
that the topics had when it began.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from consumers.dead import PREFIX
from dotstream.errors import Unavailable
from producers.kafka import KafkaConnection, translate
from producers.publisher import MAX_EVENT_BYTES

LIMIT_S = 30.0


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        where: its own coordinates, "topic/partition/offset".
        key, value: the original's; `value` None when the original had none, or was too large to keep.
        headers: the original's.
        topic, partition, offset, timestamp_ms: where and when the original stood.
        reason, detail: why it could not be processed.
        at_ms: when that was found.
        value_bytes: size of the original value, also when it was not kept.
        kept: whether the original value is here.
    """

    where: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    at_ms: int
    value_bytes: int
    kept: bool

    @property
    def key_text(self) -> str:
        return (self.key or b"").decode(errors="replace")


def read_letters(connection: KafkaConnection, topics: Sequence[str], *, limit_s: float = LIMIT_S) -> list[DeadLetter]:
    """Every dead letter in these topics, oldest first; a topic that does not exist has none.

    Raises:
        Unavailable: the topics could not be read to their ends in time.
        DotstreamError: what Kafka said, translated.
    """
    config: dict[str, Any] = {
        "group.id": "dotstream-dead-reader",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(connection.config(**config))
    deadline = time.monotonic() + limit_s
    try:
        known = consumer.list_topics(timeout=limit_s).topics
        parts = [
            TopicPartition(name, number, 0) for name in topics if name in known for number in known[name].partitions
        ]
        for part in parts:
            bounds = consumer.get_watermark_offsets(part, timeout=limit_s)
            if bounds is None:
                raise Unavailable(f"the broker did not say where {part.topic} begins")
            part.offset = bounds[0]
        consumer.assign(parts)
        found = _read_to_ends(consumer, {(part.topic, part.partition) for part in parts}, deadline)
    except KafkaException as error:
        raise translate(error) from error
    finally:
        consumer.close()
    return sorted(found, key=lambda letter: (letter.at_ms, letter.where))


def _read_to_ends(consumer: Consumer, unfinished: set[tuple[str, int]], deadline: float) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    while unfinished:
        if time.monotonic() > deadline:
            raise Unavailable("the dead-letter topics could not be read to their ends in time")
        message = consumer.poll(0.5)
        if message is None:
            continue
        error = message.error()
        if error is None:
            found.append(read_letter(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            unfinished.discard((str(message.topic()), int(message.partition() or 0)))
        else:
            raise translate(error)
    return found


def read_letter(message: Message) -> DeadLetter:
    """What a record of a dead-letter topic says; headers that are missing are left empty."""
    headers = tuple((str(name), _bytes(value)) for name, value in list(message.headers() or ()))
    facts = {name.removeprefix(PREFIX): _text(value) for name, value in headers if name.startswith(PREFIX)}
    data = _bytes(message.value())
    left_out = facts.get("bytes-left-out")
    key = message.key()
    return DeadLetter(
        where=f"{message.topic()}/{message.partition()}/{message.offset()}",
        key=None if key is None else _bytes(key),
        value=None if "null" in facts or left_out else data,
        headers=tuple((name, value) for name, value in headers if not name.startswith(PREFIX)),
        topic=facts.get("topic", str(message.topic()).removesuffix(".dead")),
        partition=_number(facts.get("partition")),
        offset=_number(facts.get("offset")),
        timestamp_ms=_number(facts.get("timestamp")),
        reason=facts.get("reason", "unknown"),
        detail=facts.get("detail", ""),
        at_ms=_number(facts.get("at")),
        value_bytes=_number(left_out) if left_out else len(data),
        kept=not left_out,
    )


def replay(connection: KafkaConnection, letters: Sequence[DeadLetter]) -> tuple[int, list[tuple[DeadLetter, str]]]:
    """Publishes the originals again, each to its topic under its key, with its headers.

    Returns:
        How many Kafka acknowledged, and the others, each with why.
    """
    skipped = [
        (letter, "its bytes were too large to keep; publish the event anew") for letter in letters if not letter.kept
    ]
    done: list[DeadLetter] = []
    settings: dict[str, Any] = {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "message.max.bytes": MAX_EVENT_BYTES,
    }
    producer = Producer(connection.config(**settings))
    deadline = time.monotonic() + LIMIT_S

    def answered(letter: DeadLetter, error: KafkaError | None, _: Message) -> None:
        if error is None:
            done.append(letter)
        else:
            skipped.append((letter, str(translate(error))))

    for letter in letters:
        if letter.kept:
            try:
                _produce(producer, letter, partial(answered, letter), deadline)
            except KafkaException as error:
                skipped.append((letter, str(translate(error))))
    left = producer.flush(LIMIT_S)
    if left:
        raise Unavailable(f"{left} events were not acknowledged within {LIMIT_S:.0f} s")
    return len(done), skipped


def _produce(
    producer: Producer, letter: DeadLetter, answered: Callable[[KafkaError | None, Message], None], deadline: float
) -> None:
    """Hands the original to the producer; waits while its queue is full.

    Raises:
        Unavailable: the queue stayed full until `deadline`.
        KafkaException: the event cannot be sent.
    """
    while True:
        try:
            producer.produce(
                letter.topic,
                letter.value,
                letter.key,
                headers=list(letter.headers),
                timestamp=letter.timestamp_ms,  # an event without a time of its own is dated by it
                on_delivery=answered,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise Unavailable(f"the brokers took no more events within {LIMIT_S:.0f} s") from None
            producer.poll(0.1)
        else:
            return


def event_text(letter: DeadLetter) -> str:
    """The event in a dead letter, as text; inline pictures by their size only."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    from producers.events_pb2 import PinEvent

    if letter.value is None:
        return f"(the value was {'null' if letter.kept else f'{letter.value_bytes} bytes, too large to keep'})"
    if not letter.topic.endswith(("pins", "pins.backfill")):
        return f"({len(letter.value)} bytes: {letter.value[:64]!r})"
    try:
        event = PinEvent.FromString(letter.value)
    except DecodeError:
        return f"(no pin event; {len(letter.value)} bytes: {letter.value[:64]!r})"
    if event.image.inline:
        event.image.inline = f"({len(event.image.inline)} bytes)".encode()
    return text_format.MessageToString(event, as_utf8=True)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
