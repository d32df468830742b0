"""Opens the shards of a generation for the index worker, rebuilding one whose state is not of the topic at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dotstream.clock import Clock
from indexer.errors import NeedsRebuild
from indexer.shard import Shard
from ops.settings import Settings
from ops.topics import TopicNames, topic_id

log = logging.getLogger(__name__)


def longest_retention_ms(settings: Settings) -> int:
    """The longest time for which any topic may still hold an event of a pin; a delete is remembered so long.

    An event may be dead-lettered at the end of its time, and replayed at the end of its letter's.
    """
    return (2 * settings.topics.event_retention_hours + settings.topics.dead_retention_hours) * 3_600_000


def shard_opener(
    settings: Settings, feature: str, bits: int, *, clock: Clock, opened_one: Callable[[Shard], None]
) -> Callable[[int, int], Shard]:
    """Opens the shard of a partition, given the offset that its topic's next record will get, and tells `opened_one`.

    A shard that reflects another topic, or offsets that the topic does not have, is replayed into a new folder beside
    it, which takes its place once it has caught up; readers keep the old one until then.
    """
    topic = TopicNames(settings.topics.prefix).objects(settings.generation)
    connection = settings.kafka.connection()

    def opened(partition: int, *, rebuild: bool) -> Shard:
        return Shard.open(
            settings.index_folder / str(partition),
            generation=settings.generation,
            partition=partition,
            topic_id=topic_id(connection, topic),
            feature=feature,
            bits=bits,
            clock=clock,
            lock_limit_s=settings.index.lock_limit_s,
            segment_slots=settings.index.segment_slots,
            null_retention_ms=longest_retention_ms(settings),
            rebuild=rebuild,
        )

    def open_shard(partition: int, end: int) -> Shard:
        shard = newest(partition, end)
        opened_one(shard)
        return shard

    def newest(partition: int, end: int) -> Shard:
        try:
            shard = opened(partition, rebuild=False)
        except NeedsRebuild as error:
            log.warning("shard %d is replayed into a new folder: %s", partition, error)
            return opened(partition, rebuild=True)
        try:
            shard.check_log_end(end)
        except NeedsRebuild as error:
            log.warning("shard %d is replayed into a new folder: %s", partition, error)
            shard.abandon()
            return opened(partition, rebuild=True)
        return shard

    return open_shard
