"""The saves worker: keeps image-board co-occurrence for Related Pins (paper section 6), as a job of state_worker.py.

One group on two topics, each with a state per partition:

    saves    SaveEvent keyed by board_id -> store `boards`: the pins of each board
    pairs    PairRecord partitioned by pin_id -> store `pins`: the boards of each pin

What a save changes on its board goes to `pairs` in the transaction that step 2 of state_worker.py commits before the
board's state moves, one record for each (pin, board) pair. After a crash in between it is published again; of one pair
the greater (event_time, state) counts, so it takes effect once. The key of a pair is pin_id NUL board_id, so that
compaction keeps each pair's last record and the store `pins` can be rebuilt from the topic at any time.

What bounds a board and a pin stands in indexer/timed_sets.py. Deleted pins stay in the sets and are taken out where
candidates are read (discovery/related.py), by the catalogue's word, which is sooner than any event could be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter

from google.protobuf.message import DecodeError

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Output, Partition
from consumers.state_worker import Owed, Plan
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.database import Batch
from indexer.keyed_state import KeyedState
from indexer.partition import partition_of
from indexer.records_pb2 import PairRecord
from indexer.timed_sets import EVICTED, MAX_TIME, SAVED, UNSAVED, order_of, rank_of, time_of, unpack
from producers.events import check_save
from producers.events_pb2 import SaveEvent

_RANKS = {
    PairRecord.STATE_SAVED: SAVED,
    PairRecord.STATE_UNSAVED: UNSAVED,
    PairRecord.STATE_EVICTED: EVICTED,
}
_STATES = {rank: state for state, rank in _RANKS.items()}
_SEPARATOR = b"\0"
PARTITIONS_KEPT = 65_536
"""Pins whose partition is remembered, as murmur2 takes some microseconds in Python."""

Opener = Callable[[Partition, int], KeyedState]
Event = tuple[bytes, bytes, int]
"""The set's key, whom the event concerns, and its order."""


@dataclass(frozen=True, slots=True)
class SavesSettings:
    """Topics and bounds.

    `board_pins`: pins that a board keeps, its newest; `pin_boards`: boards that a pin keeps. `pair_partitions`: of the
    topic `pairs`.
    """

    saves: str = "saves"
    pairs: str = "pairs"
    pair_partitions: int = 4
    board_pins: int = 256
    pin_boards: int = 256


class SavesJob:
    """See `consumers.state_worker.Job`."""

    def __init__(
        self, open_boards: Opener, open_pins: Opener, settings: SavesSettings, clock: Clock, metrics: WorkerMetrics
    ) -> None:
        self._openers = {settings.saves: open_boards, settings.pairs: open_pins}
        self._settings = settings
        self._number_of = lru_cache(PARTITIONS_KEPT)(partial(partition_of, partitions=settings.pair_partitions))
        self._clock = clock
        self._metrics = metrics

    def open(self, source: Partition, end: int) -> KeyedState:
        return self._openers[source[0]](source, end)

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:
        if source[0] == self._settings.saves:
            return self._boards(state, messages)
        return self._pins(state, messages)

    def _boards(self, state: KeyedState, messages: Sequence[Message]) -> Plan:
        events, poison = _read(messages, _save)
        batch, changes = _applied(state, "boards", events, self._settings.board_pins)
        by_time = sorted(changes.items(), key=itemgetter(1))  # a set takes events quickest in their order
        outputs = [self._pair(pin, board, order) for (board, pin), order in by_time]
        return Plan(lambda: state.commit(batch, messages[-1].offset), outputs, poison)

    def _pair(self, pin: bytes, board: bytes, order: int) -> Output:
        record = PairRecord(
            pin_id=pin.decode(), board_id=board.decode(), state=_STATES[rank_of(order)], event_time=time_of(order)
        )
        number = self._number_of(pin)
        value = record.SerializeToString(deterministic=True)
        return Output(self._settings.pairs, pin + _SEPARATOR + board, value, partition=number)

    def _pins(self, state: KeyedState, messages: Sequence[Message]) -> Plan:
        events, poison = _read(messages, _pair)
        batch, _ = _applied(state, "pins", events, self._settings.pin_boards)

        def apply() -> None:
            state.commit(batch, messages[-1].offset)
            if events:
                newest = max(time_of(order) for _, _, order in events)
                self._metrics.freshness("co_occurrence", self._clock.now_ms() - newest)

        return Plan(apply, poison=poison)

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:  # noqa: ARG002  it publishes with its plans
        return Owed()

    def report(self, source: Partition, state: KeyedState) -> None:
        self._metrics.state(*source, applied=state.applied_offset, durable=state.durable_offset)


def _applied(
    state: KeyedState, family: str, events: Iterable[Event], capacity: int
) -> tuple[Batch, dict[tuple[bytes, bytes], int]]:
    """The batch with the rows that the events give, and the last order of each (key, name) that changed."""
    by_key: dict[bytes, list[Event]] = {}
    for event in events:
        by_key.setdefault(event[0], []).append(event)
    batch = state.database.batch()
    changes: dict[tuple[bytes, bytes], int] = {}
    for key, row in zip(by_key, state.database.get_many(family, list(by_key)), strict=True):
        kept = unpack(row)
        changed = False
        for _, name, order in by_key[key]:
            for about, its in kept.apply(name, order, capacity):
                changes[key, about] = its
                changed = True
        if changed:
            batch.put(family, key, kept.pack())
    return batch, changes


def _read(
    messages: Sequence[Message], event_of: Callable[[Message], Event]
) -> tuple[list[Event], list[tuple[Message, Poison]]]:
    events: list[Event] = []
    poison: list[tuple[Message, Poison]] = []
    for message in messages:
        try:
            events.append(event_of(message))
        except Poison as found:
            poison.append((message, found))
    return events, poison


def _save(message: Message) -> Event:
    """The event of a record of `saves`, about a board."""
    save = check_save(message.key, message.value, message.timestamp_ms)
    if save.event_time > MAX_TIME:
        raise Poison("bad_field", f"event_time {save.event_time} is beyond {MAX_TIME}")
    rank = SAVED if save.kind == SaveEvent.KIND_SAVED else UNSAVED
    return save.board_id.encode(), save.pin_id.encode(), order_of(save.event_time, rank)


def _pair(message: Message) -> Event:
    """The event of a record of `pairs`, about a pin."""
    record = PairRecord()
    try:
        record.ParseFromString(message.value or b"")
    except DecodeError as error:
        raise Poison("undecodable", f"no {record.DESCRIPTOR.full_name}: {error}") from error
    rank = _RANKS.get(record.state)
    pin, board = record.pin_id.encode(), record.board_id.encode()
    if rank is None or not pin or not board or not 0 <= record.event_time <= MAX_TIME:
        raise Poison("bad_field", "a pair needs pin_id, board_id, a state and a time")
    if message.key != pin + _SEPARATOR + board:
        raise Poison("key_mismatch", f"the key of a pair is pin_id NUL board_id, not {message.key!r}")
    return pin, board, order_of(record.event_time, rank)
