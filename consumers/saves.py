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

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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

Opener = Callable[[Partition, int], KeyedState]
Event = tuple[bytes, int]
"""Whom of a set it concerns, and its order."""


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
        self._clock = clock
        self._metrics = metrics

    def open(self, source: Partition, end: int) -> KeyedState:
        return self._openers[source[0]](source, end)

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:
        if source[0] == self._settings.saves:
            return self._boards(state, messages)
        return self._pins(state, messages)

    def _boards(self, state: KeyedState, messages: Sequence[Message]) -> Plan:
        events, poison = _read(messages, lambda message: read_save(message.key, message.value, message.timestamp_ms))
        batch = state.database.batch()
        changes: list[tuple[int, bytes, bytes]] = []
        for board, changed in _applied(state, "boards", events, self._settings.board_pins, batch):
            changes += [(order, pin, board) for pin, order in changed.items()]
        changes.sort()  # a set takes events quickest in the order of their time
        return Plan(lambda: state.commit(batch, messages[-1].offset), self._pairs(changes), poison)

    def _pairs(self, changes: Iterable[tuple[int, bytes, bytes]]) -> list[Output]:
        topic, partitions = self._settings.pairs, self._settings.pair_partitions
        record = PairRecord()
        outputs: list[Output] = []
        for order, pin, board in changes:
            record.pin_id, record.board_id = pin.decode(), board.decode()
            record.state, record.event_time = _STATES[rank_of(order)], time_of(order)
            key = pin + _SEPARATOR + board
            outputs.append(Output(topic, key, record.SerializeToString(), (), partition_of(pin, partitions)))
        return outputs

    def _pins(self, state: KeyedState, messages: Sequence[Message]) -> Plan:
        events, poison = _read(messages, _pair)
        batch = state.database.batch()
        for _ in _applied(state, "pins", events, self._settings.pin_boards, batch):
            pass  # nobody is told what a pin's boards became

        def apply() -> None:
            state.commit(batch, messages[-1].offset)
            if events:
                newest = max(time_of(order) for of_one in events.values() for _, order in of_one)
                self._metrics.freshness("co_occurrence", self._clock.now_ms() - newest)

        return Plan(apply, poison=poison)

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:  # noqa: ARG002  it publishes with its plans
        return Owed()

    def report(self, source: Partition, state: KeyedState) -> None:
        self._metrics.state(*source, applied=state.applied_offset, durable=state.durable_offset)


def _applied(
    state: KeyedState, family: str, events: Mapping[bytes, Sequence[Event]], capacity: int, batch: Batch
) -> Iterator[tuple[bytes, Mapping[bytes, int]]]:
    """Puts the rows that the events give into the batch; tells the last order of each name that changed, by key."""
    for (key, of_one), row in zip(events.items(), state.database.get_many(family, list(events)), strict=True):
        kept = unpack(row)
        changed = kept.apply_all(of_one, capacity)
        if changed:
            batch.put(family, key, kept.pack())
            yield key, changed


def _read(
    messages: Sequence[Message], read: Callable[[Message], tuple[bytes, bytes, int]]
) -> tuple[Mapping[bytes, list[Event]], list[tuple[Message, Poison]]]:
    """What the messages say of each key, in their order, and those that say nothing."""
    events: defaultdict[bytes, list[Event]] = defaultdict(list)
    poison: list[tuple[Message, Poison]] = []
    for message in messages:
        try:
            key, name, order = read(message)
        except Poison as found:
            poison.append((message, found))
        else:
            events[key].append((name, order))
    return events, poison


def read_save(key: bytes | None, value: bytes | None, timestamp_ms: int) -> tuple[bytes, bytes, int]:
    """What a record of `saves` says: the board, its pin, the order (indexer/timed_sets.py).

    A time after the log's own is that: a clock that is ahead must neither outlive what comes later nor age all others.

    Raises:
        Poison: it is no save.
    """
    save = check_save(key, value, timestamp_ms)
    if save.event_time > MAX_TIME:
        raise Poison("bad_field", f"event_time {save.event_time} is beyond {MAX_TIME}")
    rank = SAVED if save.kind == SaveEvent.KIND_SAVED else UNSAVED
    return save.board_id.encode(), save.pin_id.encode(), order_of(min(save.event_time, timestamp_ms), rank)


def _pair(message: Message) -> tuple[bytes, bytes, int]:
    """Of a record of `pairs`: the pin, its board, the order."""
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
