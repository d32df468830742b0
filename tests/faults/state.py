"""The whole state of a stack as its log and its shards hold it, for comparison with the ledger."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from dotstream.clock import SystemClock
from indexer.arbitration import Logged
from indexer.records import decode, order_of
from indexer.records_pb2 import DotRecord, ObjectRecord
from indexer.shard import Shard
from producers.kafka import KafkaConnection, translate

LIMIT_S = 60.0
BITS = 1280
FEATURE = "efficientnet_lite0@1/codes"


@dataclass(frozen=True)
class Committed:
    """Every committed record of one topic that is still in it, by partition, in order."""

    messages: Mapping[int, list[Message]]

    def all(self) -> list[Message]:
        return [message for _, part in sorted(self.messages.items()) for message in part]


def read_whole(connection: KafkaConnection, topic: str) -> Committed:
    """Reads a topic from the start to its present end, committed records only."""
    config = {"group.id": "tests", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(connection.config(**config, **{"isolation.level": "read_committed"}))
    found: dict[int, list[Message]] = defaultdict(list)
    try:
        partitions = consumer.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left = set(partitions)
        deadline = time.monotonic() + LIMIT_S
        while left:
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            for message in consumer.consume(1_000, 0.1):
                error = message.error()
                if error is None:
                    found[message.partition() or 0].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                else:
                    raise translate(error)
    finally:
        consumer.close()
    return Committed(found)


def dots_of(connection: KafkaConnection, topic: str = "dots") -> dict[str, DotRecord]:
    """The latest dot record of each pin, by its order."""
    latest: dict[str, DotRecord] = {}
    for message in read_whole(connection, topic).all():
        record = DotRecord.FromString(message.value() or b"")
        known = latest.get(record.pin_id)
        if known is None or _dot_order(record) >= _dot_order(known):
            latest[record.pin_id] = record
    return latest


def headers_of(message: Message) -> dict[str, bytes]:
    """A record's headers; the last one of each name."""
    found: dict[str, Any] = dict(message.headers() or ())
    return {name: data.encode() if isinstance(data, str) else bytes(data or b"") for name, data in found.items()}


def source_of(message: Message) -> str:
    """Which worker wrote a record; empty for a winner that the index owner published again."""
    return headers_of(message).get("ce_source", b"").decode()


def positions_of(connection: KafkaConnection, group: str, topic: str) -> dict[int, tuple[int, int]]:
    """Partition -> (where a group goes on reading, end of the partition)."""
    consumer = Consumer(connection.config(**{"group.id": group, "enable.auto.commit": False}))
    try:
        numbers = consumer.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions
        places = consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=LIMIT_S)
        found = {}
        for place in places:
            where = TopicPartition(topic, place.partition)
            low, high = consumer.get_watermark_offsets(where, timeout=LIMIT_S) or (0, 0)
            found[place.partition] = max(low, place.offset), high
        return found
    finally:
        consumer.close()


def lag_of(connection: KafkaConnection, group: str, topic: str) -> int:
    """Records between a group's committed positions and the ends of the topic, transaction marks included."""
    return sum(end - position for position, end in positions_of(connection, group, topic).values())


def members_of(connection: KafkaConnection, group: str) -> dict[str, str]:
    """Instance -> member id of a group: an evicted worker comes back under another id."""
    admin = AdminClient(connection.config())  # its answers never come once it is let go of
    answer = admin.describe_consumer_groups([group], request_timeout=LIMIT_S)
    return {str(m.group_instance_id): str(m.member_id) for m in answer[group].result(LIMIT_S).members}


def _dot_order(record: DotRecord) -> tuple[int, int, int]:
    return record.version, record.epoch, record.decision


def records_of(committed: Committed, generation: str) -> list[ObjectRecord]:
    return [
        decode(message.key(), message.value() or b"", generation=generation, bits=BITS)
        for message in committed.all()
        if message.value() is not None
    ]


def winners_of(committed: Committed, generation: str) -> dict[str, ObjectRecord]:
    """The winner of each pin among the committed records."""
    best: dict[str, ObjectRecord] = {}
    for record in records_of(committed, generation):
        if record.pin_id not in best or order_of(record) > order_of(best[record.pin_id]):
            best[record.pin_id] = record
    return best


def digest_of_live(folder: Path, generation: str, partition: int, topic_id: str) -> str:
    """The digest of a stopped stack's shard."""
    shard = _open(folder, generation, partition, topic_id)
    try:
        return shard.digest()
    finally:
        shard.close()


def digest_of_rebuilt(folder: Path, committed: Committed, generation: str, partition: int) -> str:
    """The digest of a shard that is built from nothing but the committed records."""
    shard = _open(folder, generation, partition, "rebuilt")
    try:
        for message in committed.messages.get(partition, []):
            value = message.value()
            record = None if value is None else decode(message.key(), value, generation=generation, bits=BITS)
            shard.apply([Logged(message.offset() or 0, message.key() or b"", record, message.timestamp()[1])])
        return shard.digest()
    finally:
        shard.close()


def _open(folder: Path, generation: str, partition: int, topic_id: str) -> Shard:
    return Shard.open(
        folder,
        generation=generation,
        partition=partition,
        topic_id=topic_id,
        feature=FEATURE,
        bits=BITS,
        clock=SystemClock(),
        null_retention_ms=720 * 3_600_000,
    )
