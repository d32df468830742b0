"""The engagements worker: aggregates what people did with results, for each query object, as a job of state_worker.py.

A group on topic `engagements`, keyed by pin_id (the result), with one state for each partition; what counts and for how
much stands in indexer/engagement.py. Events without a query count nothing here. What was counted is remembered as long
as late events are taken, so that repetition changes nothing; rows end when their newest day leaves the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Partition
from consumers.state_worker import Owed, Plan
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.database import Batch, Database
from indexer.engagement import (
    DAY,
    DAY_MS,
    LATE_DAYS,
    NEWEST,
    WEIGHTS,
    WINDOW_DAYS,
    identity,
    key_of,
    pack,
    unpack,
)
from indexer.keyed_state import KeyedState
from producers.events import check_engagement, kind_name
from producers.events_pb2 import EngagementEvent

ENDED_MAX = 5_000
"""Rows and marks that one batch lets go at most."""


class EngagementsJob:
    """See `consumers.state_worker.Job`.

    Args:
        open_counts: opens the state of a partition, given the topic's end.
    """

    def __init__(
        self, open_counts: Callable[[Partition, int], KeyedState], clock: Clock, metrics: WorkerMetrics
    ) -> None:
        self._open = open_counts
        self._clock = clock
        self._metrics = metrics

    def open(self, source: Partition, end: int) -> KeyedState:
        return self._open(source, end)

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:  # noqa: ARG002
        poison: list[tuple[Message, Poison]] = []
        counting = _Counting(state.database)
        for message in messages:
            try:
                event = check_engagement(message.key, message.value, message.timestamp_ms)
            except Poison as found:
                poison.append((message, found))
            else:
                counting.add(event, message.timestamp_ms)
        batch = counting.batch()

        def apply() -> None:
            state.commit(batch, messages[-1].offset)
            if counting.latest_ms:
                self._metrics.freshness("engagement", self._clock.now_ms() - counting.latest_ms)

        return Plan(apply, poison=poison)

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:  # noqa: ARG002  it publishes nothing
        return Owed()

    def report(self, source: Partition, state: KeyedState) -> None:
        self._metrics.state(*source, applied=state.applied_offset, durable=state.durable_offset)


@dataclass
class _Counting:
    """One batch, worked out over the rows as they stand."""

    database: Database
    rows: dict[bytes, dict[int, int]] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    newest: int = -1
    latest_ms: int = 0

    def __post_init__(self) -> None:
        mark = self.database.get("marks", NEWEST)
        self.newest = -1 if mark is None else DAY.unpack(mark)[0]

    def add(self, event: EngagementEvent, logged_ms: int) -> None:
        """Counts one event, logged at `logged_ms`, if it counts."""
        day = min(event.event_time, logged_ms + DAY_MS) // DAY_MS  # a clock that is ahead makes no other event late
        self.newest = max(self.newest, day)
        weight = WEIGHTS.get(kind_name(event))
        if weight is None or not event.query_pin_id or day <= self.newest - LATE_DAYS:
            return
        index = event.query_object_index if event.HasField("query_object_index") else None
        if index is None and event.HasField("box"):
            return  # the query was a drawn box that means no known object: it is neither an object nor the whole
        key = key_of(event.pin_id, event.query_pin_id, index)
        once = DAY.pack(day) + _identity(event, key)
        if once in self.seen or self.database.get("seen", once) is not None:
            return
        self.seen.add(once)
        if key not in self.rows:
            self.rows[key] = unpack(self.database.get("counts", key))
        days = self.rows[key]
        days[day] = days.get(day, 0) + weight
        self.latest_ms = max(self.latest_ms, event.event_time)

    def batch(self) -> Batch:
        """What the events change, and what ended meanwhile."""
        batch = self.database.batch()
        for once in self.seen:
            batch.put("seen", once, b"")
        self._end(batch)
        for key, days in self.rows.items():
            before = unpack(self.database.get("counts", key))
            if before:
                batch.delete("days", DAY.pack(max(before)) + key)
            batch.put("counts", key, pack(days, self.newest))
            batch.put("days", DAY.pack(max(days)) + key, b"")
        if self.newest >= 0:
            batch.put("marks", NEWEST, DAY.pack(self.newest))
        return batch

    def _end(self, batch: Batch) -> None:
        """Lets go of marks and rows behind the window, some at a time."""
        for family, days in (("seen", LATE_DAYS), ("days", WINDOW_DAYS)):
            stop = DAY.pack(max(0, self.newest - days + 1))
            with self.database.scan(family, b"", stop) as found:
                for (key, _), _ in zip(found, range(ENDED_MAX), strict=False):
                    batch.delete(family, key)
                    if family == "days" and key[DAY.size :] not in self.rows:
                        batch.delete("counts", key[DAY.size :])


def _identity(event: EngagementEvent, key: bytes) -> bytes:
    if event.user_id or event.request_id:
        return identity(event.kind, event.user_id, event.request_id, key)
    return identity(event.kind, key, event.event_time, event.position)
