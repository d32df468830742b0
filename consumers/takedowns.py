"""The takedown worker: deletes go to the index at once, without waiting behind inference.

A group of its own on `pins` that looks at headers only: an event whose header `kind` is `deleted` becomes a delete
record; where the header is absent the value is parsed. Everything else is passed over. The vision worker writes the
same deletes when it comes to them, which is harmless by the order of records, and it alone dead-letters bad events.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome, Output
from consumers.records import RecordWriter
from dotstream.clock import Clock
from dotstream.errors import Poison
from producers.events import check_pin
from producers.events_pb2 import PinEvent
from producers.headers import read_kind

DELETED = "deleted"


class TakedownProcessor:
    """See `consumers.ports.Processor`."""

    def __init__(self, records: RecordWriter, clock: Clock, metrics: WorkerMetrics) -> None:
        self._records = records
        self._clock = clock
        self._metrics = metrics

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return [Outcome(self._outputs(message)) for message in batch]

    def _outputs(self, message: Message) -> tuple[Output, ...]:
        kind = read_kind(message.headers)
        if kind is not None and kind != DELETED:
            return ()
        try:
            event = check_pin(message.key, message.value, message.timestamp_ms)
        except Poison:
            return ()
        if event.kind != PinEvent.KIND_DELETED:
            return ()
        self._metrics.freshness("record", self._clock.now_ms() - event.event_time)
        return (self._records.deleted(event, message),)
