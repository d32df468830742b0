"""The log port over a real Kafka: one read_committed consumer and one transactional producer, rebuilt together.

`group.id`, `group.instance.id` and `transactional.id` name role, input, generation and worker slot, so that a restarted
slot takes its partitions back without a rebalance and ends its orphaned transaction at once, and a zombie is fenced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from consumers.bounded import BoundedCaller, Overdue
from consumers.kafka_message import plain
from consumers.ports import Listener, LogBroken, Message, Output, Partition
from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Fatal
from producers.kafka import KafkaConnection, translate

log = logging.getLogger(__name__)

_BY_KEY = -1
"""The partition that stands for the one that murmur2 of the key says."""
Delivered = Callable[[KafkaError | None, KafkaMessage], None]
STASH_MAX = 64
"""Messages that come while only the membership is kept alive; with so many in hand, fetching is paused."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Who a worker is, to Kafka. `generation` is empty for a role that no generation concerns."""

    role: str
    generation: str
    number: int = 0
    prefix: str = ""

    @property
    def group(self) -> str:
        return f"{self.prefix}dotstream-{self.role}" + (f"-{self.generation}" if self.generation else "")

    @property
    def instance(self) -> str:
        return f"{self.group}-{self.number}"


@dataclass(frozen=True, slots=True)
class KafkaLogSettings:
    """Limits of the clients. Times are seconds.

    `overdue_s`: how much later than its own timeout a call may come back before its client is given up.
    """

    session_timeout_s: float = 10.0
    poll_interval_s: float = 300.0
    transaction_timeout_s: float = 60.0
    open_limit_s: float = 10.0
    commit_limit_s: float = 10.0
    overdue_s: float = 2.0
    queued_kbytes: int = 16_384  # fetched ahead, for all partitions together
    extra: Mapping[str, Any] = field(default_factory=dict)


class KafkaLog:
    """See `consumers.ports.Log`. One thread calls it."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Sequence[str],
        slot: Slot,
        clock: Clock,
        settings: KafkaLogSettings | None = None,
    ) -> None:
        self._connection = connection
        self.topics = tuple(topics)
        self._slot = slot
        self._clock = clock
        self._settings = settings or KafkaLogSettings()
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._paused = False
        self._stashed: list[Message] = []
        self._revokes = 0
        self._positions: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._met: dict[Partition, int] = {}
        self._fatal: KafkaError | None = None
        self._bounded = BoundedCaller()
        self._unready: Producer | None = None
        self._opened = 0

    def open(self, listener: Listener) -> None:
        unready, self._unready = self._unready, None
        self.close()
        self._fatal = None
        if unready is None:
            self._opened += 1
            unready = Producer(self._producer_config())
        self._producer = self._initialised(unready)
        consumer = Consumer(self._consumer_config())
        self._consumer = consumer
        self._guard(
            lambda: consumer.subscribe(
                list(self.topics),
                on_assign=lambda c, parts: self._on_assign(c, parts, listener),
                on_revoke=lambda _, parts: self._on_revoke(parts, listener.revoked),
                on_lost=lambda _, parts: self._on_revoke(parts, listener.lost),
            )
        )

    def _initialised(self, producer: Producer) -> Producer:
        """The producer with its epoch, and whatever its slot had left open ended.

        One whose request was not answered in time is kept for the next try: its request may still be on the way, and
        were another producer made beside it, the older request could arrive last and fence the newer producer.
        """
        try:
            self._within(self._settings.open_limit_s, producer.init_transactions)
        except KafkaException as error:
            if error.args[0].retriable():
                self._unready = producer
            raise self._broken(error.args[0]) from error
        return producer

    def poll(self, limit: int, wait_s: float) -> list[Message]:
        consumer = self._started_consumer()
        if self._paused:
            consumer.resume(consumer.assignment())
            self._paused = False
        if self._stashed:
            taken, self._stashed = self._stashed[:limit], self._stashed[limit:]
            return taken
        first = self._guard(lambda: consumer.poll(wait_s))
        self._raise_if_fatal()
        if first is None:
            return []
        revokes = self._revokes
        rest = self._guard(lambda: consumer.consume(limit - 1, 0.0)) if limit > 1 else []
        if self._revokes != revokes:
            # The first message may be of a partition that is another's by now; what comes back starts where committed.
            raise LogBroken("partitions were revoked while messages were taken")
        return [message for raw in (first, *rest) if (message := self._read(raw)) is not None]

    def idle(self) -> None:
        consumer = self._started_consumer()
        if len(self._stashed) >= STASH_MAX and not self._paused:
            consumer.pause(consumer.assignment())
            self._paused = True
        raw = self._guard(lambda: consumer.poll(0.0))
        self._raise_if_fatal()
        if raw is not None and (message := self._read(raw)) is not None:
            self._stashed.append(message)

    def commit(
        self, outputs: Sequence[Output], positions: Mapping[Partition, int], limit_s: float | None = None
    ) -> None:
        producer, consumer = self._started_producer(), self._started_consumer()
        limit_s = self._settings.commit_limit_s if limit_s is None else min(limit_s, self._settings.commit_limit_s)
        deadline = self._clock.monotonic() + limit_s
        failures: list[str] = []

        def delivered(error: KafkaError | None, record: KafkaMessage) -> None:
            if error is not None:
                failures.append(f"{record.topic()}: {error.str()}")

        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in positions.items()]
        try:
            producer.begin_transaction()
            for output in outputs:
                self._produce(producer, output, delivered, deadline)
            left = producer.flush(max(0.1, deadline - self._clock.monotonic()))
            self._raise_if_fatal()
            if left or failures:
                raise LogBroken(f"{left} of {len(outputs)} records undelivered; {_first(failures)}")
            metadata = consumer.consumer_group_metadata()
            self._until(deadline, lambda t: producer.send_offsets_to_transaction(offsets, metadata, t))
            self._until(deadline, producer.commit_transaction)
        except KafkaException as error:
            raise self._broken(error.args[0]) from error
        except SystemError as error:  # the client found itself fenced while it called our delivery callback
            cause = error.__cause__
            raise (
                self._broken(cause.args[0]) if isinstance(cause, KafkaException) else LogBroken(str(error))
            ) from error
        except BufferError as error:
            raise LogBroken(f"the producer's queue stayed full: {error}") from error
        except Overdue as error:
            raise LogBroken(str(error)) from error

    def end(self, partition: Partition) -> int:
        consumer = self._started_consumer()
        where = TopicPartition(*partition)
        answer = self._guard(lambda: consumer.get_watermark_offsets(where, timeout=self._settings.open_limit_s))
        if answer is None:
            raise LogBroken(f"the broker did not tell the end of {partition[0]}[{partition[1]}]")
        return int(answer[1])

    def positions(self) -> Mapping[Partition, int]:
        return {source: max(position, self._ends.get(source, 0)) for source, position in self._positions.items()}

    def reached(self) -> Mapping[Partition, int]:
        met, self._met = self._met, {}
        return met

    def lag(self) -> Mapping[Partition, int]:
        if self._consumer is None:
            return {}
        behind: dict[Partition, int] = {}
        for (topic, number), position in self._positions.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True) or (0, -1)
            if high >= 0:
                at_end = max(position, self._ends.get((topic, number), 0))
                behind[topic, number] = max(0, high - at_end)
        return behind

    def close(self) -> None:
        consumer, producer = self._consumer, self._producer
        self._consumer = self._producer = self._unready = None
        self._paused = False
        self._stashed.clear()
        self._positions.clear()
        self._ends.clear()
        self._met.clear()
        if consumer is not None:
            consumer.close()
        if producer is not None:
            producer.purge()
        self._bounded.close()

    # The edge to the clients.

    def _producer_config(self) -> dict[str, Any]:
        return self._connection.config(
            **{
                "client.id": self._slot.instance,
                "transactional.id": self._slot.instance,
                "transaction.timeout.ms": int(self._settings.transaction_timeout_s * 1000),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 0,
                "delivery.report.only.error": True,  # a call for each delivered record is dear, and tells nothing new
                "partitioner": "murmur2_random",
                "message.max.bytes": 2_000_000,
                "error_cb": self._error_callback(),
            }
        )

    def _consumer_config(self) -> dict[str, Any]:
        return self._connection.config(
            **{
                "client.id": self._slot.instance,
                "group.id": self._slot.group,
                "group.instance.id": self._slot.instance,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "roundrobin",
                "session.timeout.ms": int(self._settings.session_timeout_s * 1000),
                "heartbeat.interval.ms": int(self._settings.session_timeout_s * 1000 / 5),
                "max.poll.interval.ms": int(self._settings.poll_interval_s * 1000),
                "queued.max.messages.kbytes": self._settings.queued_kbytes,
                "fetch.wait.max.ms": 500,
                "fetch.error.backoff.ms": 50,
                "error_cb": self._error_callback(),
                **self._settings.extra,
            }
        )

    def _error_callback(self) -> Callable[[KafkaError], None]:
        """For the clients that are being made: what happens to them once they were given up concerns nobody."""
        mine = self._opened

        def on_error(error: KafkaError) -> None:
            if error.fatal() and mine == self._opened:
                self._fatal = error
            log.info("Kafka: %s", error.str())

        return on_error

    def _raise_if_fatal(self) -> None:
        if self._fatal is not None:
            raise self._broken(self._fatal)

    def _on_assign(self, consumer: Consumer, parts: list[TopicPartition], listener: Listener) -> None:
        names = [(part.topic, part.partition) for part in parts]
        starts = listener.assigned(names)
        for part in parts:
            part.offset = starts.get((part.topic, part.partition), part.offset)
        consumer.assign(parts)
        self._paused = False
        self._positions.clear()

    def _on_revoke(self, parts: list[TopicPartition], tell: Callable[[Sequence[Partition]], None]) -> None:
        names = [(part.topic, part.partition) for part in parts]
        self._revokes += 1
        tell(names)
        self._stashed = [m for m in self._stashed if m.source not in names]
        for name in names:
            self._positions.pop(name, None)
            self._ends.pop(name, None)
            self._met.pop(name, None)

    def _read(self, raw: KafkaMessage) -> Message | None:
        error = raw.error()
        source = (str(raw.topic()), int(raw.partition() or 0))
        if error is None:
            message = plain(raw, source)
            self._positions[source] = message.offset + 1
            return message
        if error.code() == KafkaError._PARTITION_EOF:
            offset = raw.offset()
            if offset is not None and offset != OFFSET_INVALID:
                self._ends[source] = self._met[source] = offset
                self._positions.setdefault(source, offset)
            return None
        raise self._broken(error)

    def _produce(self, producer: Producer, output: Output, delivered: Delivered, deadline: float) -> None:
        topic, key, value, headers, number = output
        where = _BY_KEY if number is None else number
        more: dict[str, Any] = {"headers": list(headers)} if headers else {}
        while True:
            try:
                producer.produce(topic, value, key, where, delivered, **more)
            except BufferError:
                if self._clock.monotonic() > deadline:
                    raise
                producer.poll(0.05)
            else:
                return

    def _until(self, deadline: float, call: Callable[[float], Any]) -> None:
        """Repeats a transactional call that the client says may be repeated as it is."""
        while True:
            left = deadline - self._clock.monotonic()
            try:
                self._within(max(0.1, left), call)
            except KafkaException as error:
                if not error.args[0].retriable() or left <= 0:
                    raise
            else:
                return

    def _within(self, limit_s: float, call: Callable[[float], Any]) -> None:
        """A call that is told its limit, and left behind where it does not keep to it."""
        self._bounded.call(lambda: call(limit_s), limit_s + self._settings.overdue_s)

    def _broken(self, error: KafkaError) -> DotstreamError:
        """A fenced slot or a refused configuration ends the process; after anything else both clients are rebuilt."""
        translated = translate(error)
        if isinstance(translated, Fatal):
            return type(translated)(f"{self._slot.instance}: {translated}")
        return LogBroken(str(translated))

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except KafkaException as error:
            raise self._broken(error.args[0]) from error
        except RuntimeError as error:
            raise LogBroken(str(error)) from error

    def _started_consumer(self) -> Consumer:
        if self._consumer is None:
            raise LogBroken("the log is not open")
        return self._consumer

    def _started_producer(self) -> Producer:
        if self._producer is None:
            raise LogBroken("the log is not open")
        return self._producer


def _first(failures: Sequence[str]) -> str:
    return failures[0] if failures else "the time ran out"
