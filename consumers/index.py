"""The index worker: applies object records to the Hamming shard and catalogue of their partition.

A shard commits its content and the offset that it reflects in one atomic batch, so the group's committed offset is only
a hint for tools: reading starts where the shard says. The order of steps for one batch:

    1. Records are read under read_committed; those that cannot be read go to the dead letters, in a transaction that
       is committed before the shard moves past them (a crash in between repeats the letter, never loses it; letters
       carry their coordinates, by which repeats are told apart).
    2. Each shard applies its records with their offsets in one atomic commit (indexer/shard.py numbers its steps).
    3. Shards are synced in groups.
    4. Once a partition is read to its end, the winners of stale records are published again to the same partition,
       one in flight per pin, and deletes whose retention ran out are followed by a null. Reading them back settles
       them, so a replay repeats nothing twice.

The only writer of a partition's shard is the worker that Kafka assigned it to and that holds the folder's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from consumers.dead import dead_letter
from consumers.metrics import WorkerMetrics
from consumers.ports import Log, Message, Output, Partition
from consumers.window import Backoff
from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Poison, Retryable
from indexer.arbitration import Logged
from indexer.records import decode, encode, order_of
from indexer.records_pb2 import ObjectRecord
from indexer.shard import Shard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How the index worker takes and publishes. Times are seconds."""

    batch_max: int = 1_000
    idle_wait_s: float = 0.5
    sync_wait_s: float = 0.05  # while something is unsynced
    upkeep_every_s: float = 1.0
    hint_every_s: float = 10.0  # between commits of the group's offset, which only tools read
    tombstone_retention_s: float = 7 * 86_400.0  # at least the longest retention of any topic that may hold the pin
    tombstones_max: int = 1_000
    dead_size_limit: int = 2 * 1_048_576 + 65_536
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class Owned:
    """A shard of ours, the end that must be reached before it counts as caught up, and what is still to apply."""

    shard: Shard
    end: int
    caught_up: bool = False  # from then on it is put in place, arbitrates, and counts as ready
    waiting: list[Logged] = field(default_factory=list)
    read_to: int = -1  # the last offset read; past those of `waiting` when the last records were unreadable


class IndexWorker:
    """Steps the shards of the assigned partitions. One thread calls everything.

    Args:
        open_shard: opens the shard of a partition, given the topic's end, waiting for its lock with a limit.
    """

    def __init__(
        self,
        log: Log,
        open_shard: Callable[[int, int], Shard],
        clock: Clock,
        metrics: WorkerMetrics,
        *,
        generation: str,
        bits: int,
        feature: str,
        settings: IndexSettings | None = None,
    ) -> None:
        self._log = log
        self._open_shard = open_shard
        self._clock = clock
        self._metrics = metrics
        self._generation = generation
        self._bits = bits
        self._feature = feature
        self._settings = settings or IndexSettings()
        self._owned: dict[Partition, Owned] = {}
        self._is_open = False
        self._joined = False
        self._attempts = 0
        self._retry_at = 0.0
        self._upkeep_at = 0.0
        self._hint_at = 0.0
        self._hinted: dict[Partition, int] = {}
        self._last_applied_ms = 0
        self._failure: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether the group has spoken, and every shard is read to the end that its topic had when it was assigned."""
        return self._is_open and self._joined and all(owned.caught_up for owned in self._owned.values())

    def run(self, stop: Callable[[], bool]) -> None:
        """Steps until `stop` says so, then syncs and closes every shard.

        Raises:
            Fatal: the worker must not go on; the message says why.
        """
        try:
            while not stop():
                self.step()
        finally:
            self._log.close()
            self._release(list(self._owned))

    def step(self) -> None:
        """One turn: open, take and apply a batch, sync, upkeep."""
        wait = self._retry_at - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(min(wait, 0.2))
            return
        try:
            self._turn()
        except Retryable as error:
            self._later(error)
        else:
            if self._joined and all(owned.caught_up for owned in self._owned.values()):
                self._attempts = 0  # nothing is left on which it could fail
                self._metrics.paused.set(0)

    def _turn(self) -> None:
        if not self._is_open:
            self._log.open(self)
            self._is_open = True
        self._take()
        self._apply()
        self._met_ends()
        for owned in self._owned.values():
            owned.shard.maybe_sync()
        if self._clock.monotonic() >= self._upkeep_at:
            self._upkeep_at = self._clock.monotonic() + self._settings.upkeep_every_s
            self._upkeep()

    # Taking and applying.

    def _take(self) -> None:
        unsynced = any(o.shard.durable_offset < o.shard.applied_offset for o in self._owned.values())
        wait_s = self._settings.sync_wait_s if unsynced else self._settings.idle_wait_s
        messages = self._log.poll(self._settings.batch_max, wait_s)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if messages:
            self._metrics.batch_size.observe(len(messages))
        dead: list[Output] = []
        read = [(message, self._logged(message, dead)) for message in messages if message.source in self._owned]
        if dead:
            self._log.commit(dead, {})
        for message, logged in read:
            owned = self._owned[message.source]
            owned.read_to = message.offset
            if logged is not None:
                owned.waiting.append(logged)

    def _logged(self, message: Message, dead: list[Output]) -> Logged | None:
        try:
            record = self._record(message)
        except Poison as poison:
            self._metrics.dead(poison.reason)
            limit = self._settings.dead_size_limit
            dead.append(dead_letter(message, poison, now_ms=self._clock.now_ms(), size_limit=limit))
            return None
        return Logged(message.offset, message.key or b"", record, message.timestamp_ms)

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

    def _met_ends(self) -> None:
        """Moves shards past what holds nothing to apply (the marks of transactions), once all before it is applied."""
        for source, end in self._log.reached().items():
            owned = self._owned.get(source)
            if owned is not None:
                owned.shard.advance(end - 1)
                owned.caught_up = owned.caught_up or end >= owned.end

    def _apply(self) -> None:
        """Applies what was read."""
        for owned in self._owned.values():
            if owned.waiting:
                started = self._clock.monotonic()
                owned.shard.apply(owned.waiting)
                self._metrics.stage("apply", self._clock.monotonic() - started)
                applied, owned.waiting = owned.waiting, []
                self._count(applied)
            if owned.read_to > owned.shard.applied_offset:
                owned.shard.advance(owned.read_to)

    def _count(self, applied: Sequence[Logged]) -> None:
        self._metrics.consumed.inc(len(applied))
        self._last_applied_ms = applied[-1].timestamp_ms
        now = self._clock.now_ms()
        for logged in applied:
            if logged.record is not None and not logged.record.deleted:
                self._metrics.freshness("searchable", now - logged.record.event_time)

    # Upkeep: arbitration, nulls, gauges, the hint for tools.

    def _upkeep(self) -> None:
        outputs: list[Output] = []
        published: list[Callable[[], None]] = []
        for (topic, number), owned in self._owned.items():
            owned.caught_up = owned.caught_up or owned.shard.applied_offset + 1 >= owned.end
            if owned.caught_up:
                owned.shard.promote()
                outputs += self._winners(owned.shard, topic, number, published)
                outputs += self._nulls(owned.shard, topic, number, published)
        positions = {source: owned.shard.applied_offset + 1 for source, owned in self._owned.items()}
        if outputs or (positions != self._hinted and self._clock.monotonic() >= self._hint_at):
            self._log.commit(outputs, positions)
            self._hinted, self._hint_at = positions, self._clock.monotonic() + self._settings.hint_every_s
            self._metrics.published.inc(len(outputs))
        for confirm in published:
            confirm()
        self._gauges()

    def _winners(self, shard: Shard, topic: str, number: int, published: list[Callable[[], None]]) -> list[Output]:
        outputs = []
        for pin_id, winner in shard.pending():
            outputs.append(Output(topic, pin_id.encode(), encode(winner), partition=number))
            published.append(partial(shard.published, pin_id, order_of(winner)))
        return outputs

    def _nulls(self, shard: Shard, topic: str, number: int, published: list[Callable[[], None]]) -> list[Output]:
        retention_ms = int(self._settings.tombstone_retention_s * 1000)
        due = shard.due_nulls(self._clock.now_ms(), retention_ms, limit=self._settings.tombstones_max)
        published += [partial(shard.published, pin_id, None) for pin_id in due]
        return [Output(topic, pin_id.encode(), None, partition=number) for pin_id in due]

    def _gauges(self) -> None:
        lag = self._log.lag()
        for (topic, partition), records in lag.items():
            self._metrics.lag(topic, partition, records)
        behind_ms = self._clock.now_ms() - self._last_applied_ms if any(lag.values()) and self._last_applied_ms else 0
        self._metrics.oldest_seconds.set(max(0, behind_ms) / 1000)
        for (_, number), owned in self._owned.items():
            shard = owned.shard
            offsets = {"applied": shard.applied_offset, "durable": shard.durable_offset}
            self._metrics.index(number, sizes=shard.counts(), offsets=offsets)

    # Called by the log, on this thread.

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        starts: dict[Partition, int] = {}
        self._joined = True
        try:
            for partition in partitions:
                end = self._log.end(partition)
                shard = self._open_shard(partition[1], end)
                self._owned[partition] = Owned(shard, end, caught_up=shard.applied_offset + 1 >= end)
                starts[partition] = shard.applied_offset + 1
                log.info("shard %d opened at offset %d of %d", partition[1], shard.applied_offset + 1, end)
        except Exception as error:  # noqa: BLE001  raised again outside the client's callback
            self._failure = error
            self._release(list(self._owned))
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self._metrics.forget_lag()
        self._release(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._release(partitions)

    def _release(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            owned = self._owned.pop(partition, None)
            if owned is None:
                continue
            try:
                owned.shard.close()
            except DotstreamError as error:  # what was not synced will be read again
                log.warning("shard %d closed without its last sync: %s", partition[1], error)

    def _later(self, error: Retryable) -> None:
        """Lets go of everything and starts again where the shards stand: a failure is the same case as a crash."""
        self._attempts += 1
        pause = self._settings.backoff.after(self._attempts)
        self._retry_at = self._clock.monotonic() + pause
        self._metrics.paused.set(1)
        self._metrics.error(type(error).__name__)
        log.warning("opening again in %.1f s (attempt %d): %s", pause, self._attempts, error)
        self._is_open = self._joined = False
        self._release(list(self._owned))
