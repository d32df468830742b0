"""The typed way to emit events: checked before they leave, acknowledged by all replicas, never dropped in silence.

The first station of a pin's way. Producers that are not written in Python need only the `.proto` file, the headers of
producers/headers.py and Java's default partitioner.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from dotstream.clock import Clock, SystemClock
from dotstream.errors import DotstreamError, Poison, Retryable, Unavailable
from producers.events import (
    Event,
    kind_name,
    validate_engagement,
    validate_pin,
    validate_save,
    validate_tag,
)
from producers.events_pb2 import EngagementEvent, PinEvent, SaveEvent, TagEvent
from producers.headers import Headers, event_headers, new_traceparent
from producers.kafka import KafkaConnection, translate

MAX_EVENT_BYTES = 1 << 20
"""What the event topics take in one batch of records."""

FRAMING_BYTES = 1024
"""Left free within MAX_EVENT_BYTES for what Kafka adds around one record (61 bytes a batch, under 40 a header)."""

QUEUE_BYTES = 64 << 20


@dataclass(frozen=True)
class EventTopics:
    """Names of the topics that take events."""

    pins: str = "pins"
    pins_backfill: str = "pins.backfill"
    saves: str = "saves"
    engagements: str = "engagements"
    tags: str = "tags"

    @classmethod
    def prefixed(cls, prefix: str) -> EventTopics:
        """The default names behind a prefix."""
        return cls(**{field.name: f"{prefix}{field.default}" for field in fields(cls)})


@dataclass(frozen=True)
class Failure:
    """An event that was not acknowledged.

    Attributes:
        topic: where it should have gone.
        key: its key: pin_id, or board_id for saves.
        error: why.
    """

    topic: str
    key: str
    error: DotstreamError


class Undelivered(Retryable):
    """Events were accepted by the publisher but not acknowledged by Kafka.

    Attributes:
        failures: one entry for each event, in the order in which they were given up.
    """

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        self.failures = failures
        some = ", ".join(failure.key for failure in failures[:10])
        more = f" and {len(failures) - 10} more" if len(failures) > 10 else ""
        super().__init__(f"{len(failures)} events not delivered ({failures[0].error}): {some}{more}")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(failure.key for failure in self.failures)


class Publisher:
    """Publishes events: idempotent, acks=all, lz4, keyed, partitioned by murmur2 as Java clients do.

    Events of one key keep their order. A call returns as soon as the event is queued; what became of it is told by the
    next call or by `flush`, which raise `Undelivered` with the keys of the events that Kafka did not take (each is told
    once). Leaving the `with` block flushes.

    Not for concurrent use: one publisher per thread.

    Args:
        connection: the cluster.
        topics: where each kind of event goes.
        source: the CloudEvents source: who emits.
        queue_max: events that may wait for acknowledgement; a call beyond it blocks.
        block_limit_s: how long a call may block for room in the queue.
        delivery_limit_s: how long an event may wait for its acknowledgement before it is given up.
        flush_limit_s: the limit of the flush at the end of a `with` block.
        linger_ms: how long a batch waits for more events.
        clock: for CloudEvents times and waits.
        new_id: makes the ids of events.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        topics: EventTopics | None = None,
        source: str = "dotstream",
        queue_max: int = 10_000,
        block_limit_s: float = 30,
        delivery_limit_s: float = 120,
        flush_limit_s: float = 150,
        linger_ms: float = 2,
        clock: Clock | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._topics = topics or EventTopics()
        self._source = source
        self._block_limit_s = block_limit_s
        self._flush_limit_s = flush_limit_s
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._waiting: dict[int, tuple[str, str]] = {}
        self._failures: list[Failure] = []
        self._sent = 0
        self._delivered_count = 0
        self._producer = _producer(connection, queue_max, delivery_limit_s, linger_ms)

    def pin(self, event: PinEvent, *, topic: str | None = None, traceparent: str | None = None) -> None:
        """Queues a pin event for `pins`, or for another topic such as `pins.backfill`.

        Args:
            event: the pin's whole state; a delete needs pin_id, and version or event_time.
            topic: another topic than the publisher's own, with its prefix.
            traceparent: of the trace that caused the event; without it a new trace begins.

        Raises:
            Poison: the event breaks its contract ("too_large" when over a topic's limit); nothing was queued.
            Undelivered: earlier events were not delivered; this one was not queued, call again with it.
            Unavailable: the queue stayed full for `block_limit_s`; this one was not queued.
            DotstreamError: the client failed for good, translated.
        """
        validate_pin(event)
        self._send(topic or self._topics.pins, event.pin_id, event, "pin", traceparent)

    def save(self, event: SaveEvent, *, topic: str | None = None, traceparent: str | None = None) -> None:
        """Queues a save event, keyed by its board; raises as `pin`."""
        validate_save(event)
        self._send(topic or self._topics.saves, event.board_id, event, "save", traceparent)

    def engagement(self, event: EngagementEvent, *, topic: str | None = None, traceparent: str | None = None) -> None:
        """Queues an engagement event, keyed by its pin; raises as `pin`."""
        validate_engagement(event)
        self._send(topic or self._topics.engagements, event.pin_id, event, "engagement", traceparent)

    def tag(self, event: TagEvent, *, topic: str | None = None, traceparent: str | None = None) -> None:
        """Queues an expert tag, keyed by its scene; raises as `pin`."""
        validate_tag(event)
        self._send(topic or self._topics.tags, event.pin_id, event, "tag", traceparent)

    @property
    def delivered(self) -> int:
        """How many events Kafka has acknowledged so far, as far as calls have learnt of it."""
        return self._delivered_count

    @property
    def outstanding(self) -> int:
        """How many events are queued or on their way."""
        return len(self._waiting)

    def flush(self, limit_s: float) -> None:
        """Returns when every event so far is acknowledged.

        Raises:
            Undelivered: some were refused or given up, or were still on their way when the limit was reached. The
                latter stay queued: a later flush may find them delivered.
        """
        deadline = self._clock.monotonic() + limit_s
        while self._waiting and (left := deadline - self._clock.monotonic()) > 0:
            self._producer.flush(min(left, 1.0))
        late = Unavailable(f"not acknowledged within {limit_s:g} s")
        failures = (*self._failures, *(Failure(topic, key, late) for topic, key in self._waiting.values()))
        self._failures.clear()
        if failures:
            raise Undelivered(failures)

    def close(self) -> None:
        """Lets go of the connection; events that are still queued are given up. Call `flush` first to know."""
        self._producer.purge()
        self._producer.close()
        self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush(self._flush_limit_s)
        finally:
            self.close()

    def _send(self, topic: str, key: str, event: Event, name: str, traceparent: str | None) -> None:
        kind = kind_name(event)
        headers = event_headers(
            kind,
            self._new_id(),
            self._source,
            f"dotstream.{name}.{kind}.v1",
            event.event_time or self._clock.now_ms(),
            traceparent or new_traceparent(),
            subject=event.pin_id,
        )
        value = event.SerializeToString(deterministic=True)
        _check_size(key, value, headers)
        self._producer.poll(0)
        if self._failures:
            failures = tuple(self._failures)
            self._failures.clear()
            raise Undelivered(failures)
        self._sent += 1
        self._waiting[self._sent] = (topic, key)
        try:
            self._queue(topic, key.encode(), value, headers, partial(self._answered, self._sent))
        except BaseException:
            del self._waiting[self._sent]
            raise

    def _queue(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Headers,
        answered: Callable[[KafkaError | None, Message], None],
    ) -> None:
        deadline = self._clock.monotonic() + self._block_limit_s
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=answered, headers=list(headers))
            except BufferError:
                if (left := deadline - self._clock.monotonic()) <= 0:
                    waiting = len(self._waiting) - 1
                    raise Unavailable(
                        f"{waiting} events wait for Kafka and none left in {self._block_limit_s:g} s"
                    ) from None
                self._producer.poll(min(left, 0.1))
            except KafkaException as error:
                raise translate(error) from error
            else:
                return

    def _answered(self, number: int, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002
        topic, key = self._waiting.pop(number, ("", ""))
        if error is None:
            self._delivered_count += 1
        else:
            self._failures.append(Failure(topic, key, translate(error)))


def _check_size(key: str, value: bytes, headers: Headers) -> None:
    size = len(key.encode()) + len(value) + sum(len(name) + len(text) for name, text in headers) + FRAMING_BYTES
    if size > MAX_EVENT_BYTES:
        raise Poison(
            "too_large",
            f"the event of {key[:80]} has {len(value)} bytes, topics take {MAX_EVENT_BYTES} with all around it; "
            "send the picture by reference",
        )


def _producer(connection: KafkaConnection, queue_max: int, delivery_limit_s: float, linger_ms: float) -> Producer:
    settings = {
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "message.max.bytes": MAX_EVENT_BYTES,
        "queue.buffering.max.messages": queue_max,
        "queue.buffering.max.kbytes": QUEUE_BYTES >> 10,
        "linger.ms": linger_ms,
        "delivery.timeout.ms": int(delivery_limit_s * 1000),
    }
    try:
        return Producer(connection.config(**settings))
    except KafkaException as error:
        raise translate(error) from error
