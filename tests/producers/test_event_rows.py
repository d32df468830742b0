"""Logs of saves and engagements as events, from every kind of file, bad rows told by their place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dotstream.errors import Poison
from producers.event_rows import engagement_from_row, save_from_row
from producers.events_pb2 import EngagementEvent, EventBox, SaveEvent, TagEvent
from producers.manifests import ManifestError, read_engagements, read_saves, read_tags

ROWS = [
    {"pin_id": "p", "board_id": "b"},
    {"pin_id": "p", "board_id": "b", "kind": "unsaved", "event_time": "7"},
]
EVENTS = [
    SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED, event_time=99),
    SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_UNSAVED, event_time=7),
]


def now() -> int:
    return 99


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "a.csv").write_text("pin_id,board_id,kind,event_time\np,b,,\np,b,unsaved,7\n")
    parquet.write_table(pa.Table.from_pylist([dict.fromkeys(ROWS[1]) | row for row in ROWS]), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert list(read_saves([tmp_path / name], now_ms=now)) == EVENTS, name


def test_tags(tmp_path: Path) -> None:
    log = tmp_path / "tags.csv"
    log.write_text(
        "pin_id,product_pin_id,kind,object_index,box,expert_id,event_time\n"
        'p,lamp,,0,,e,5\np,rug,untagged,,,,\np,vase,,,"0,0,0.5,0.5",,6\np,,,,,,\n'
    )
    found = list(read_tags([log], now_ms=now))
    assert found[:3] == [
        TagEvent(
            pin_id="p",
            product_pin_id="lamp",
            kind=TagEvent.KIND_TAGGED,
            object_index=0,
            expert_id="e",
            event_time=5,
        ),
        TagEvent(pin_id="p", product_pin_id="rug", kind=TagEvent.KIND_UNTAGGED, event_time=99),
        TagEvent(
            pin_id="p",
            product_pin_id="vase",
            kind=TagEvent.KIND_TAGGED,
            box=EventBox(x1=0.5, y1=0.5),
            event_time=6,
        ),
    ]
    assert isinstance(found[3], ManifestError)


def test_bad_rows_have_their_place_and_stop_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    lone_surrogate = json.dumps({"pin_id": "\ud800", "board_id": "b"})
    bad = ['{"pin_id": "p"}', "[]", lone_surrogate, "[" * 100_000]
    log.write_text("\n".join([*bad, json.dumps({"pin_id": "p", "board_id": "b"})]))
    found = list(read_saves([log, tmp_path / "a.txt"], now_ms=now))
    assert found[4] == EVENTS[0]
    told = [one for one in found if isinstance(one, ManifestError)]
    assert [one.where for one in told] == [f"{log}:1", f"{log}:2", f"{log}:3", f"{log}:4", str(tmp_path / "a.txt")]


def test_an_engagement_with_everything(tmp_path: Path) -> None:
    row = {
        "pin_id": "p",
        "kind": "long_click",
        "user_id": "u",
        "request_id": "r",
        "query_pin_id": "q",
        "query_object_index": 0,
        "box": "0.1,0.2,0.5,1",
        "position": 3,
        "event_time": 5,
    }
    expected = EngagementEvent(
        pin_id="p",
        kind=EngagementEvent.KIND_LONG_CLICK,
        user_id="u",
        request_id="r",
        query_pin_id="q",
        query_object_index=0,
        box=EventBox(x0=0.1, y0=0.2, x1=0.5, y1=1),
        position=3,
        event_time=5,
    )
    assert engagement_from_row(row, now) == expected
    log = tmp_path / "a.jsonl"
    log.write_text(json.dumps(row | {"box": [0.1, 0.2, 0.5, 1]}))
    assert list(read_engagements([log], now_ms=now)) == [expected]
    bare = engagement_from_row({"pin_id": "p", "kind": "impression"}, now)
    assert not bare.HasField("query_object_index")
    assert not bare.HasField("box")


@pytest.mark.parametrize(
    "row",
    [
        {"pin_id": "p", "kind": "impression", "position": -1},
        {"pin_id": "p", "kind": "impression", "position": 2**31},
        {"pin_id": "p", "kind": "like"},
        {"pin_id": "p"},
        {"pin_id": "p", "kind": "crop"},
        {"pin_id": "p", "kind": "crop", "box": "0.5"},
        {"pin_id": "p", "kind": "click", "mood": "good"},
        {"pin_id": ["p"], "kind": "click"},
    ],
)
def test_rows_that_are_no_engagement(row: dict[str, object]) -> None:
    with pytest.raises(Poison):
        engagement_from_row(row, now)


def test_rows_that_are_no_save() -> None:
    for row in ({"pin_id": "p"}, {"board_id": "b"}, {"pin_id": "p", "board_id": "b", "kind": "liked"}):
        with pytest.raises(Poison):
            save_from_row(row, now)
