"""A topic read whole: all partitions, read committed, without a group, from positions that the reader keeps itself.

For state that is rebuilt from a compacted topic: the dots that the API and the dots workers follow, the generations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # its documented place

from dotstream.errors import Unavailable
from producers.kafka import KafkaConnection, translate

REQUEST_S = 10.0
FETCH_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Logged:
    """One record of the topic; `timestamp_ms` is the log's time of it, Unix ms."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Extent:
    """The topic as it stands: its id, and per partition the first offset kept and the committed end (exclusive)."""

    topic_id: str
    first: Mapping[int, int]
    end: Mapping[int, int]

    def holds(self, positions: Mapping[int, int]) -> bool:
        """Whether reading can go on from these positions: each partition exists and holds them or ends there."""
        return all(
            partition in self.end and self.first[partition] <= offset <= self.end[partition]
            for partition, offset in positions.items()
        )


class WholeTopic(Protocol):
    """A topic, read without a group. One thread calls it."""

    def open(self) -> Extent:
        """Connects anew and looks at the topic. Raises Retryable without broker or topic."""
        ...

    def start(self, positions: Mapping[int, int]) -> None:
        """Reads all partitions from these offsets on, inclusive."""
        ...

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Logged], Mapping[int, int]]:
        """Records, and the next offset of each partition that moved. Waits at most `wait_s` for the first.

        Raises:
            Retryable: reading has stopped; `open` again.
        """
        ...

    def end(self, partition: int) -> int:
        """Where a partition ends (exclusive), asked from the broker; what is not committed yet lies before its end.

        So a reader that has come there has read all that was committed before it asked. A commit that was answered
        may not be readable yet: the broker writes its markers afterwards.

        Raises:
            Retryable: the broker did not answer in time.
        """
        ...

    def close(self) -> None: ...


class KafkaWholeTopic:
    """See `WholeTopic`.

    Args:
        connection: the brokers.
        topic: its name, prefix included.
        client_id: how this reader shows in the broker's logs.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, client_id: str) -> None:
        self._connection = connection
        self._topic = topic
        self._client_id = client_id
        self._consumer: Consumer | None = None
        self._asking: Consumer | None = None

    def open(self) -> Extent:
        """Looks at the topic; the committed end counts, so that an open transaction is not waited for.

        Raises:
            Retryable: no broker, or no such topic yet.
            Misconfigured: access is refused.
        """
        self.close()
        try:
            return self._extent(AdminClient(self._connection.config(**{"client.id": self._client_id})))
        except KafkaException as error:
            raise translate(error) from error
        except TimeoutError as error:
            raise Unavailable(f"Kafka did not answer within {REQUEST_S} s") from error

    def start(self, positions: Mapping[int, int]) -> None:
        """Assigns all partitions at these offsets."""
        self.close()
        config = {
            "client.id": self._client_id,
            # Assigned by hand: the id is demanded by the client, no group is joined and nothing is committed.
            "group.id": f"{self._client_id}-unused",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": int(FETCH_WAIT_S * 1000),
            "fetch.error.backoff.ms": 50,
            "queued.max.messages.kbytes": 16_384,
        }
        self._consumer = Consumer(self._connection.config(**config))
        # Brokers answer a connection in order, and a fetch that waits for records would hold the question up.
        self._asking = Consumer(self._connection.config(**config | {"isolation.level": "read_uncommitted"}))
        try:
            self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in sorted(positions.items())])
        except KafkaException as error:
            raise translate(error) from error

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Logged], Mapping[int, int]]:
        """Records and reached positions; the end of a partition moves its position behind transaction markers."""
        if self._consumer is None:
            raise Unavailable(f"{self._topic} is not open")
        records: list[Logged] = []
        moved: dict[int, int] = {}
        first = self._consumer.poll(wait_s)
        messages = [] if first is None else [first, *self._consumer.consume(limit - 1, 0)]
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if partition is None or offset is None:
                raise _failed(error)
            if error is None:
                key, value, timestamp_ms = _bytes(message.key()), _bytes(message.value()), message.timestamp()[1]
                records.append(Logged(partition, offset, key, value, timestamp_ms))
                moved[partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                if offset != OFFSET_INVALID:
                    moved[partition] = max(offset, moved.get(partition, 0))
            else:
                raise _failed(error)
        return records, moved

    def end(self, partition: int) -> int:
        """See `WholeTopic.end`."""
        if self._asking is None:
            raise Unavailable(f"{self._topic} is not open")
        try:
            answer = self._asking.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=REQUEST_S)
        except KafkaException as error:
            raise translate(error) from error
        if answer is None:
            raise Unavailable(f"Kafka did not tell the end of {self._topic}[{partition}] within {REQUEST_S} s")
        return int(answer[1])

    def close(self) -> None:
        """Leaves the broker."""
        clients = (self._consumer, self._asking)
        self._consumer = self._asking = None
        for client in clients:
            if client is not None:
                client.close()

    def _extent(self, admin: AdminClient) -> Extent:
        described = admin.describe_topics(TopicCollection([self._topic]), request_timeout=REQUEST_S)
        topic = described[self._topic].result(REQUEST_S)
        partitions = [TopicPartition(self._topic, info.id) for info in topic.partitions]
        first = self._offsets(admin, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(admin, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return Extent(str(topic.topic_id), first, end)

    def _offsets(self, admin: AdminClient, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        asked = admin.list_offsets(
            dict.fromkeys(partitions, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_S,
        )
        return {partition.partition: future.result(REQUEST_S).offset for partition, future in asked.items()}


OUTSIDE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
"""The log moved under a stored position; opening anew compares both and rebuilds."""


def _failed(error: KafkaError | None) -> Exception:
    if error is not None and error.code() in OUTSIDE:
        return Unavailable(f"the position lies outside of the log: {error.str()}")
    return Unavailable("Kafka gave a record without coordinates") if error is None else translate(error)


def _bytes(data: bytes | str | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data
