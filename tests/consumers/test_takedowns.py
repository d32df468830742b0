"""The takedown worker: deletes by header or by value, everything else passed over."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from consumers.metrics import WorkerMetrics
from consumers.ports import Message
from consumers.records import RecordWriter
from consumers.takedowns import TakedownProcessor
from dotstream.clock import ManualClock
from indexer.records_pb2 import ObjectRecord
from producers.events import TAKEDOWN_VERSION
from producers.events_pb2 import PinEvent

GONE = PinEvent(pin_id="p", kind=PinEvent.KIND_DELETED, version=TAKEDOWN_VERSION)
LIVE = PinEvent(pin_id="p", kind=PinEvent.KIND_CREATED, version=1, image=PinEvent.Image(inline=b"x"))


def processor() -> TakedownProcessor:
    clock = ManualClock()
    writer = RecordWriter(
        topic="objects.g1", generation="g1", detector="d@1", embedder="e@1", features=["f"], source="test", clock=clock
    )
    return TakedownProcessor(writer, clock, WorkerMetrics("takedowns", CollectorRegistry()))


def message(event: PinEvent, **headers: str) -> Message:
    pairs = tuple((name, value.encode()) for name, value in headers.items())
    return Message("pins", 0, 0, 1, event.pin_id.encode(), event.SerializeToString(), pairs)


@pytest.mark.parametrize("headers", [{"kind": "deleted"}, {}])
def test_a_delete_becomes_a_delete_record(headers: dict[str, str]) -> None:
    (outcome,) = processor().process([message(GONE, **headers)])
    (output,) = outcome.outputs
    record = ObjectRecord.FromString(output.value or b"")
    assert (record.deleted, record.version, output.key) == (True, TAKEDOWN_VERSION, b"p")


@pytest.mark.parametrize(
    "passed_over",
    [
        message(LIVE, kind="created"),
        message(LIVE),
        message(LIVE, kind="deleted"),
        Message("pins", 0, 0, 1, b"p", b"garbage", (("kind", b"deleted"),)),
        Message("pins", 0, 0, 1, b"p", None),
    ],
)
def test_everything_else_is_passed_over(passed_over: Message) -> None:
    (outcome,) = processor().process([passed_over])
    assert outcome.outputs == ()
    assert outcome.poison is None
