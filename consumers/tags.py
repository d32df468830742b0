"""The tags worker: keeps experts' product tags for Shop-the-Look (paper section 7), as a job of state_worker.py.

A group on topic `tags`, keyed by pin_id, with one state for each partition (indexer/tags.py). Whether a product can
still be bought is the catalogue's to say when a tag is answered; here it only counts what the experts said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Partition
from consumers.state_worker import Owed, Plan
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.keyed_state import KeyedState
from indexer.tags import CAPACITY, name_of
from indexer.timed_sets import MAX_TIME, SAVED, UNSAVED, TimedSet, order_of, unpack
from producers.events import check_tag
from producers.events_pb2 import TagEvent


class TagsJob:
    """See `consumers.state_worker.Job`.

    Args:
        open_tags: opens the state of a partition, given the topic's end.
    """

    def __init__(self, open_tags: Callable[[Partition, int], KeyedState], clock: Clock, metrics: WorkerMetrics) -> None:
        self._open = open_tags
        self._clock = clock
        self._metrics = metrics

    def open(self, source: Partition, end: int) -> KeyedState:
        return self._open(source, end)

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:  # noqa: ARG002
        poison: list[tuple[Message, Poison]] = []
        sets: dict[bytes, TimedSet] = {}
        newest = 0
        for message in messages:
            try:
                tag = _checked(message)
            except Poison as found:
                poison.append((message, found))
                continue
            key = tag.pin_id.encode()
            if key not in sets:
                sets[key] = unpack(state.database.get("tags", key))
            order = order_of(tag.event_time, SAVED if tag.kind == TagEvent.KIND_TAGGED else UNSAVED)
            sets[key].apply(_name(tag), order, CAPACITY)
            newest = max(newest, tag.event_time)
        batch = state.database.batch()
        for key, kept in sets.items():
            batch.put("tags", key, kept.pack())

        def apply() -> None:
            state.commit(batch, messages[-1].offset)
            if newest:
                self._metrics.freshness("tags", self._clock.now_ms() - newest)

        return Plan(apply, poison=poison)

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:  # noqa: ARG002  it publishes nothing
        return Owed()

    def report(self, source: Partition, state: KeyedState) -> None:
        self._metrics.state(*source, applied=state.applied_offset, durable=state.durable_offset)


def _checked(message: Message) -> TagEvent:
    tag = check_tag(message.key, message.value, message.timestamp_ms)
    if tag.event_time > MAX_TIME:
        raise Poison("bad_field", f"event_time {tag.event_time} is beyond {MAX_TIME}")
    tag.event_time = min(tag.event_time, message.timestamp_ms)  # a clock that is ahead must not outlive later tags
    return tag


def _name(tag: TagEvent) -> bytes:
    index = tag.object_index if tag.HasField("object_index") else None
    box = (tag.box.x0, tag.box.y0, tag.box.x1, tag.box.y1) if tag.HasField("box") else None
    return name_of(index, box, tag.product_pin_id)
