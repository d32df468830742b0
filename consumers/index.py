"""The index worker: applies object records to the Hamming shard and catalogue of their partition.

What it does with records, as a job of consumers/state_worker.py, which numbers the steps. Its own are:

    1. Records that cannot be read are poison; all others go to the shard, which arbitrates and commits them with their
       offsets (indexer/shard.py numbers its steps).
    2. Once a partition is read to its end, the winners of stale records are published again to the same partition,
       one in flight per pin, and deletes whose retention ran out are followed by a null. Reading them back settles
       them, so a replay repeats nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Output, Partition
from consumers.state_worker import Owed, Plan
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.arbitration import Logged
from indexer.records import decode, encode, order_of
from indexer.records_pb2 import ObjectRecord
from indexer.shard import Shard

TOMBSTONES_MAX = 1_000
"""Nulls that are published for one shard at once."""


class IndexJob:
    """See `consumers.state_worker.Job`.

    Args:
        open_shard: opens the shard of a partition, given the topic's end, waiting for its lock with a limit.
        generation, bits, feature: what the records must be of.
        tombstone_retention_ms: at least the longest retention of any topic that may hold a pin; a delete is followed by
            a null so long after it was logged.
    """

    def __init__(
        self,
        open_shard: Callable[[int, int], Shard],
        clock: Clock,
        metrics: WorkerMetrics,
        *,
        generation: str,
        bits: int,
        feature: str,
        tombstone_retention_ms: int = 7 * 86_400_000,
    ) -> None:
        self._open_shard = open_shard
        self._clock = clock
        self._metrics = metrics
        self._generation = generation
        self._bits = bits
        self._feature = feature
        self._tombstone_retention_ms = tombstone_retention_ms

    def open(self, source: Partition, end: int) -> Shard:
        return self._open_shard(source[1], end)

    def plan(self, source: Partition, state: Shard, messages: Sequence[Message]) -> Plan:  # noqa: ARG002
        logged: list[Logged] = []
        poison: list[tuple[Message, Poison]] = []
        for message in messages:
            try:
                record = self._record(message)
            except Poison as found:
                poison.append((message, found.bare()))
            else:
                logged.append(Logged(message.offset, message.key or b"", record, message.timestamp_ms))

        def apply() -> None:
            if logged:
                state.apply(logged)
                self._freshness(logged)

        return Plan(apply, poison=poison)

    def _record(self, message: Message) -> ObjectRecord | None:
        """The record of a message, or None for a null; raises Poison."""
        if message.value is not None:
            return decode(
                message.key, message.value, generation=self._generation, bits=self._bits, feature=self._feature
            )
        try:
            if not (message.key or b"").decode():
                raise Poison("bad_field", "a null without a key")
        except UnicodeDecodeError as error:
            raise Poison("bad_field", f"a null under a key that is no pin_id: {error}") from None
        return None

    def _freshness(self, applied: Sequence[Logged]) -> None:
        now = self._clock.now_ms()
        for logged in applied:
            if logged.record is not None and not logged.record.deleted:
                self._metrics.freshness("searchable", now - logged.record.event_time)

    def owed(self, caught_up: Mapping[Partition, Shard]) -> Owed:
        outputs: list[Output] = []
        published: list[Callable[[], None]] = []
        for (topic, number), shard in caught_up.items():
            shard.note_level()
            outputs += self._winners(shard, topic, number, published)
            outputs += self._nulls(shard, topic, number, published)

        def confirm() -> None:
            for each in published:
                each()

        return Owed(outputs, confirm)

    def _winners(self, shard: Shard, topic: str, number: int, published: list[Callable[[], None]]) -> list[Output]:
        outputs = []
        for pin_id, winner in shard.pending():
            outputs.append(Output(topic, pin_id.encode(), encode(winner), partition=number))
            published.append(partial(shard.published, pin_id, order_of(winner)))
        return outputs

    def _nulls(self, shard: Shard, topic: str, number: int, published: list[Callable[[], None]]) -> list[Output]:
        due = shard.due_nulls(self._clock.now_ms(), self._tombstone_retention_ms, limit=TOMBSTONES_MAX)
        published += [partial(shard.published, pin_id, None) for pin_id in due]
        return [Output(topic, pin_id.encode(), None, partition=number) for pin_id in due]

    def report(self, source: Partition, state: Shard) -> None:
        offsets = {"applied": state.applied_offset, "durable": state.durable_offset}
        self._metrics.index(source[1], sizes=state.counts(), offsets=offsets)
