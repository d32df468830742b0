"""From events to examples: what is attributed, what is not, and features as they were when the answer was given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from discovery.related.attribution import common_categories, examples, impressions
from discovery.related.examples import Example, read, write
from dotstream.errors import Misconfigured
from indexer.cooccurrence import Together
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from producers.events_pb2 import EngagementEvent, EventBox


def event(kind: str, pin_id: str, request_id: str = "r", position: int = 0, time: int = 5) -> EngagementEvent:
    return EngagementEvent(
        pin_id=pin_id,
        kind=f"KIND_{kind.upper()}",
        user_id="u",
        request_id=request_id,
        query_pin_id="q",
        position=position,
        event_time=time,
    )


SEARCHED: dict[str, Any] = {
    "pin_id": "d", "kind": EngagementEvent.KIND_IMPRESSION, "request_id": "r", "query_pin_id": "q", "event_time": 1
}  # fmt: skip
EVENTS = [
    event("impression", "a", position=1),
    event("impression", "b", position=0, time=4),
    event("closeup", "a", time=6),
    event("save", "a", time=7),
    event("save", "a", request_id="other", time=7),
    event("save", "never shown", time=7),
    event("crop", "b"),
    EngagementEvent(**SEARCHED, query_object_index=0),
    EngagementEvent(**SEARCHED, box=EventBox(x1=0.5, y1=0.5)),
    EngagementEvent(pin_id="c", kind=EngagementEvent.KIND_IMPRESSION, request_id="r", event_time=1),
]


def test_events_become_impressions_whatever_their_order_and_number() -> None:
    for seed in range(5):
        events = [*EVENTS, *EVENTS]
        Random(seed).shuffle(events)
        answers = impressions(events)
        assert list(answers) == ["r"]
        found = [(one.pin_id, one.position, one.event_time, sorted(one.outcomes)) for one in answers["r"]]
        assert found == [("b", 0, 4, []), ("a", 1, 5, ["closeup", "save"])]


@dataclass
class Entry:
    record: ObjectRecord
    offset: int = 0
    partition: int = 0
    logged_at: int = 0


class World:
    """An index, and saves that remember until when they were asked."""

    def __init__(self, *records: ObjectRecord) -> None:
        self.records = {record.pin_id: record for record in records}
        self.asked: list[int] = []

    def refresh(self) -> None:
        pass

    def pins(self, pin_ids: Sequence[str]) -> Sequence[Entry | None]:
        return [Entry(self.records[pin_id]) if pin_id in self.records else None for pin_id in pin_ids]

    def between(self, pin_id: str, others: Sequence[str], until_ms: int) -> Mapping[str, Together]:
        self.asked.append(until_ms)
        return {"a": Together("a", 1.0, 1, 0.5)}


def pin(pin_id: str, code: bytes, **fields: object) -> ObjectRecord:
    return ObjectRecord(pin_id=pin_id, codes=[Code(feature="f", bits=code)], **fields)  # type: ignore[arg-type]


def test_examples_hold_features_of_live_pins(tmp_path: Path) -> None:
    item = DetectedObject(
        box=Box(x1=1, y1=1), source=DetectedObject.SOURCE_DETECTOR, codes=[Code(feature="f", bits=b"\x0f")]
    )
    world = World(
        pin("q", b"\xff", category_weights={"art": 1.0}, objects=[item]),
        pin("a", b"\x0f"),
        ObjectRecord(pin_id="b", deleted=True),
    )
    (found,) = examples(impressions(EVENTS), world, world, lambda names: dict.fromkeys(names, 1.0))
    assert world.asked == [4]  # when the answer's first impression was
    assert (found.pin_id, found.category, found.outcomes, found.synthetic) == ("a", "art", ("closeup", "save"), False)
    assert (found.features["visual"], found.features["board_overlap"], found.features["cross:art"]) == (0.5, 0.5, 0.5)
    assert found.on_object is not None
    assert found.on_object["visual"] == 1.0
    assert write(tmp_path / "log.jsonl", [found]) == 1
    assert list(read([tmp_path / "log.jsonl"])) == [found]


def test_answers_of_pins_that_are_gone_give_nothing() -> None:
    world = World(pin("a", b"\xff"))
    assert list(examples(impressions(EVENTS), world, world, lambda _: {})) == []


def test_the_commonest_categories_at_most_32() -> None:
    records = [pin(str(n), b"", category_weights={f"c{n % 40:02}": 1.0}) for n in range(100)]
    found = common_categories(records)
    assert len(found) == 32
    assert {f"c{n:02}" for n in range(20)} <= set(found)


GOOD = Example("r", "u", "q", "p", 0, 1, "", ("save",), {"visual": 0.5})


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"request_id": "r"}',
        *(
            json.dumps(asdict(GOOD) | change)
            for change in ({"features": {"visual": math.nan}}, {"position": 10**400}, {"request_id": ["r"]})
        ),
    ],
)
def test_lines_that_are_no_example_are_told(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(line)
    with pytest.raises(Misconfigured, match=r"log.jsonl:1"):
        list(read([tmp_path / "log.jsonl"]))
    with pytest.raises(Misconfigured, match="cannot read"):
        list(read([tmp_path / "none"]))
