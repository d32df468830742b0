"""What people did, told over HTTP: checked, published as the events of their topics, and only where that is allowed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer

from discovery.client import Client
from discovery.ports import NoReports
from discovery.report_schemas import DoneJson, SaveJson, TakenJson
from discovery.reports import KafkaReports
from dotstream.errors import Retryable
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames
from producers.events_pb2 import EngagementEvent, EventBox, SaveEvent
from producers.kafka import KafkaConnection
from producers.publisher import Publisher
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch


def fill(stage: Stage) -> None:
    for pin_id, colour in (("scene", "red"), ("chair", "blue"), ("gone", "green")):
        stage.pin(pin_id, patch(colour))
    stage.delete("gone")


def test_what_people_did_becomes_events_with_the_apis_own_time(api: httpx.Client, stage: Stage) -> None:
    fill(stage)
    before = time.time_ns() // 1_000_000
    with Client(str(api.base_url)) as client:
        done = client.engage(
            [
                DoneJson(
                    pin_id="chair",
                    kind="long_click",
                    user_id="u",
                    request_id="r",
                    query_pin_id="scene",
                    query_object_index=0,
                    position=3,
                ),
                DoneJson(pin_id="scene", kind="crop", user_id="u", box=[0.25, 0.25, 0.5, 0.75]),
            ]
        )
        saved = client.save(
            [SaveJson(pin_id="chair", board_id="b"), SaveJson(pin_id="scene", board_id="b", kind="unsaved")]
        )
    assert done == saved == TakenJson(taken=2, left_out=0)
    click, crop, save, unsave = stage.reports.events
    assert before <= click.event_time <= time.time_ns() // 1_000_000
    for event in stage.reports.events:
        event.event_time = 0
    assert click == EngagementEvent(
        pin_id="chair",
        kind=EngagementEvent.KIND_LONG_CLICK,
        user_id="u",
        request_id="r",
        query_pin_id="scene",
        query_object_index=0,
        position=3,
    )
    box = EventBox(x0=0.25, y0=0.25, x1=0.5, y1=0.75)
    assert crop == EngagementEvent(pin_id="scene", kind=EngagementEvent.KIND_CROP, user_id="u", box=box)
    assert save == SaveEvent(pin_id="chair", board_id="b", kind=SaveEvent.KIND_SAVED)
    assert unsave == SaveEvent(pin_id="scene", board_id="b", kind=SaveEvent.KIND_UNSAVED)


@pytest.mark.parametrize("kinds", [("saved", "unsaved"), ("unsaved", "saved")])
def test_of_saves_of_one_pin_and_board_the_last_of_a_request_counts(
    api: httpx.Client, stage: Stage, kinds: tuple[str, str]
) -> None:
    fill(stage)
    events = [{"pin_id": "chair", "board_id": "b", "kind": kind} for kind in kinds]
    events.append({"pin_id": "chair", "board_id": "other"})
    assert api.post("/saves", json={"events": events}).json() == {"taken": 2, "left_out": 1}
    for event in stage.reports.events:
        event.event_time = 0
    assert stage.reports.events == [
        SaveEvent(pin_id="chair", board_id="b", kind=f"KIND_{kinds[1].upper()}"),
        SaveEvent(pin_id="chair", board_id="other", kind=SaveEvent.KIND_SAVED),
    ]


def test_pins_that_are_not_live_are_left_out(api: httpx.Client, stage: Stage) -> None:
    fill(stage)
    events: list[dict[str, Any]] = [{"pin_id": pin_id, "kind": "closeup"} for pin_id in ("gone", "nobody", "chair")]
    events.append({"pin_id": "chair", "kind": "click", "query_pin_id": "gone"})
    assert api.post("/engagements", json={"events": events}).json() == {"taken": 1, "left_out": 3}
    assert [event.pin_id for event in stage.reports.events] == ["chair"]
    gone = api.post("/saves", json={"events": [{"pin_id": "gone", "board_id": "b"}]})
    assert (gone.status_code, gone.json()) == (202, {"taken": 0, "left_out": 1})


@pytest.mark.parametrize(
    ("path", "event", "slug"),
    [
        ("/engagements", {"pin_id": "chair", "kind": "stare"}, "bad-field"),
        ("/engagements", {"pin_id": "", "kind": "click"}, "bad-field"),
        ("/engagements", {"pin_id": "a\u0001", "kind": "click"}, "bad-field"),
        ("/engagements", {"pin_id": "ü" * 400, "kind": "click"}, "bad-field"),
        ("/engagements", {"pin_id": "chair", "kind": "click", "event_time": 1}, "bad-field"),
        ("/engagements", {"pin_id": "chair", "kind": "click", "position": -1}, "bad-field"),
        ("/engagements", {"pin_id": "chair", "kind": "click", "query_object_index": 2**31}, "bad-field"),
        ("/engagements", {"pin_id": "chair", "kind": "crop"}, "bad-field"),
        ("/engagements", {"pin_id": "chair", "kind": "crop", "box": [0.5, 0, 0.2, 1]}, "bad-box"),
        ("/saves", {"pin_id": "chair"}, "bad-field"),
        ("/saves", {"pin_id": "chair", "board_id": "b", "kind": "liked"}, "bad-field"),
    ],
)
def test_what_is_no_event_is_refused(
    api: httpx.Client, stage: Stage, path: str, event: dict[str, Any], slug: str
) -> None:
    fill(stage)
    refused = api.post(path, json={"events": [event]})
    assert refused.json()["type"] == f"/problems/{slug}", refused.text
    assert refused.status_code == 422
    assert stage.reports.events == []


def test_other_sites_and_broken_bodies_are_refused(api: httpx.Client, stage: Stage) -> None:
    fill(stage)
    body = '{"events": [{"pin_id": "chair", "kind": "click"}]}'
    sent = [
        api.post("/engagements", content=body, headers={"Content-Type": "text/plain"}),
        api.post("/engagements", files={"events": body.encode()}),
        api.post("/engagements", content=body[:-3], headers={"Content-Type": "application/json"}),
        api.post("/engagements", json={"events": [{"pin_id": "chair", "kind": "click"}] * 101}),
        api.post("/engagements", json={"events": [{"pin_id": "x" * 500, "kind": "click"}] * 200}),
    ]
    slugs = [answer.json()["type"].rpartition("/")[2] for answer in sent]
    assert slugs == ["wrong-content-type", "wrong-content-type", "bad-request", "bad-field", "too-large"]
    assert stage.reports.events == []


def test_a_broker_that_is_away_and_an_api_that_only_reads_say_so(stage: Stage) -> None:
    fill(stage)
    asked = {"events": [{"pin_id": "chair", "kind": "click"}]}
    stage.reports.away = True
    with serving(stage.services) as (address, _):
        away = httpx.post(f"{address}/engagements", json=asked)
    assert (away.status_code, away.json()["type"], away.headers["Retry-After"]) == (503, "/problems/unavailable", "2")


def test_an_api_that_only_reads_says_so(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        with serving(replace(stage.services, reports=NoReports())) as (address, _):
            for path in ("/engagements", "/saves"):
                refused = httpx.post(f"{address}{path}", json={"events": []})
                assert (refused.status_code, refused.json()["type"]) == (403, "/problems/takes-no-reports")
    finally:
        stage.close()


def test_reports_reach_their_topics_or_fail(broker: KafkaProcess, topics: TopicNames) -> None:
    def publisher() -> Publisher:
        return Publisher(broker.connection, topics=topics.events, block_limit_s=5, delivery_limit_s=5)

    reports = KafkaReports(publisher, limit_s=20)
    reports.publish(
        [
            EngagementEvent(pin_id="a", kind=EngagementEvent.KIND_CLICK, event_time=1),
            SaveEvent(pin_id="a", board_id="b", kind=SaveEvent.KIND_SAVED, event_time=1),
        ]
    )
    reports.close()
    assert first_key(broker.connection, topics.events.engagements) == b"a"
    assert first_key(broker.connection, topics.events.saves) == b"b"
    gone = KafkaReports(
        lambda: Publisher(KafkaConnection("127.0.0.1:9"), block_limit_s=0.2, delivery_limit_s=0.2), limit_s=0.2
    )
    with pytest.raises(Retryable):
        gone.publish([EngagementEvent(pin_id="a", kind=EngagementEvent.KIND_CLICK)])
    gone.close()


def first_key(connection: KafkaConnection, topic: str) -> bytes | None:
    consumer = Consumer(connection.config(**{"group.id": "test", "auto.offset.reset": "earliest"}))
    consumer.subscribe([topic])
    try:
        message = consumer.poll(30)
        assert message is not None
        return message.key()
    finally:
        consumer.close()
