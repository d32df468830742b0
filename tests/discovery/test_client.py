"""The typed client against the real server: every route of the OpenAPI document has its call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from discovery import watermark
from discovery.client import Client
from discovery.errors import Problem
from discovery.filters import Preset
from discovery.report_schemas import SaveJson
from discovery.watermark import Watermark
from dotstream.errors import Unavailable
from indexer.tags import Tagged
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch
from tests.discovery.waiting import until


@pytest.fixture
def client(stage: Stage) -> Iterator[Client]:
    """A client of a served stage with a few pins; what it asks is noted."""
    record = stage.pin("a/b c", patch("red"), annotations=["art"], categories={"decor": 1.0})
    stage.pin("d", patch("red", (0.1, 0.1, 0.6, 0.9)), annotations=["art", "oak"], buyable=True)
    stage.pin("e", patch("blue"), annotations=["sea"])
    stage.dots(record)
    with serving(stage.services) as (address, _), Client(address.removeprefix("http://")) as api:
        until(lambda: stage.services.dots.get("a/b c"))
        yield api


def test_look_ups(client: Client) -> None:
    assert client.pin("a/b c").annotations == ["art"]
    assert client.dots("a/b c").dots[0].shown
    assert client.lineage("a/b c").state == "dots"
    page = client.pins(limit=2)
    assert [card.pin.pin_id for card in page.pins] == ["e", "d"]
    assert [card.pin.pin_id for card in client.pins(before=page.next).pins] == ["a/b c"]
    assert client.picture("d") == patch("red", (0.1, 0.1, 0.6, 0.9))
    assert client.picture("d", width=160)[:2] == b"\xff\xd8"


def test_searches(client: Client, stage: Stage) -> None:
    assert client.search_pin("a/b c", kind="objects", object_index=0).results[0].pin_id == "d"
    narrowed = client.search_pin("a/b c", annotations=["oak"], k=5, buyable=True, duplicates="keep")
    assert [hit.pin_id for hit in narrowed.results] == ["d"]
    stage.tags.tags["a/b c"] = [Tagged(None, None, "d", 1)]
    preset: Preset = "shop_the_look"
    assert client.search_pin("a/b c", preset=preset).results[0].curated
    found = client.search_picture(patch("red"), box=(0.25, 0.25, 0.75, 0.75), k=2, category="decor")
    assert [hit.pin_id for hit in found.results] == ["a/b c"]
    assert client.search_picture(patch("red"), buyable=False, indexed_up_to=found.indexed_up_to).results
    seen = client.lens(patch("red"), k=3, buyable=True)
    assert [hit.pin_id for hit in seen.results] == ["d"]
    assert {each.source for each in seen.sources} == {"visual", "semantic", "scenes"}


def test_operations_and_events(client: Client, stage: Stage) -> None:
    assert client.health().status == "ok"
    until(lambda: is_ready(client))
    assert "dotstream_api_request_seconds" in client.metrics()
    events = client.events()
    assert next(events)[1] == "hello"
    record = stage.pin("new", patch("red"))
    number, kind, data = next(events)
    assert (kind, data["pin"]["pin_id"]) == ("pin", "new")
    events.close()
    stage.dots(record)
    again = client.events(number)
    assert [next(again)[1], next(again)[1]] == ["hello", "dots"]
    again.close()


def is_ready(client: Client) -> bool:
    try:
        return client.ready().status == "ready"
    except Problem as problem:
        assert problem.slug == "unavailable"
        return False


def test_every_route_of_the_document_has_a_call(client: Client) -> None:
    calls = {
        "/pins": client.pins,
        "/pins/{pin_id}": client.pin,
        "/pins/{pin_id}/dots": client.dots,
        "/pins/{pin_id}/lineage": client.lineage,
        "/pins/{pin_id}/picture": client.picture,
        "/pins/{pin_id}/related": client.related,
        "/search/{kind}": client.search_pin,
        "/lens": client.lens,
        "/events": client.events,
        "/engagements": client.engage,
        "/saves": client.save,
        "/healthz": client.health,
        "/readyz": client.ready,
        "/metrics": client.metrics,
    }
    paths = set(client.openapi()["paths"])
    assert {"/search/flashlight", "/search/objects"} <= paths
    assert paths - {"/search/flashlight", "/search/objects"} == calls.keys() - {"/search/{kind}"}


def test_problems_and_silence(client: Client) -> None:
    with pytest.raises(Problem) as caught:
        client.pin("nobody")
    assert caught.value.slug == "unknown-pin"
    with pytest.raises(Problem) as caught:
        list(client.lens(b"no picture").results)
    assert caught.value.slug == "bad-picture"
    with Client("127.0.0.1:9", limit_s=2) as gone:
        with pytest.raises(Unavailable):
            gone.pins()
        with pytest.raises(Unavailable):
            next(gone.events())


def test_every_answer_of_the_index_can_be_asked_for_as_new_as_an_earlier_one(client: Client) -> None:
    word = client.pins().indexed_up_to
    assert client.pin("d", indexed_up_to=word).pin_id == "d"
    assert client.pins(indexed_up_to=word).pins
    assert client.related("d", indexed_up_to=word).pin_id == "d"
    ahead = watermark.write(Watermark("g1", {0: 10**6}))
    asking: list[Callable[[], object]] = [
        lambda: client.pin("d", indexed_up_to=ahead),
        lambda: client.pins(indexed_up_to=ahead),
        lambda: client.related("d", indexed_up_to=ahead),
        lambda: client.search_pin("d", indexed_up_to=ahead),
    ]
    for ask in asking:
        with pytest.raises(Problem) as caught:
            ask()
        assert caught.value.slug == "not-yet-indexed"


def test_a_pin_is_asked_by_its_own_id_or_not_at_all(client: Client, stage: Stage) -> None:
    for pin_id in ("d/dots", "d/related", "%2F", "/"):
        stage.dots(stage.pin(pin_id, patch("red")))
        until(partial(stage.services.dots.get, pin_id))
        assert client.pin(pin_id).pin_id == client.dots(pin_id).pin_id == client.lineage(pin_id).pin_id == pin_id
    for pin_id in ("", ".", "..", "\ud800"):
        for ask in (client.pin, client.dots, client.lineage, client.picture, client.related):
            with pytest.raises(Problem, match="pin id") as caught:
                ask(pin_id)
            assert caught.value.slug == "bad-field"
    for body in ({"label": "\ud800"}, {"annotations": ["\ud800"]}):
        with pytest.raises(Problem, match="UTF-8"):
            client.search_pin("d", **body)
        with pytest.raises(Problem, match="UTF-8"):
            client.search_picture(patch("red"), **body)
    with pytest.raises(Problem, match="URL"):
        client.pin("x" * 70_000)


STRANGE: list[tuple[int, dict[str, str], bytes]] = [
    (200, {}, b"<html>not an API</html>"),
    (200, {}, b'{"pin_id": 7}'),
    (200, {}, b"7"),
    (200, {}, b"\xff"),
    (200, {"Content-Encoding": "gzip"}, b"no gzip"),
    (302, {"Location": "/elsewhere"}, b"{}"),
    (502, {}, b"Bad Gateway"),
    (500, {}, b'["type"]'),
    (404, {}, b'{"type": 1}'),
    (404, {}, b'{"type": "/problems/of-another-kind", "detail": "of another API"}'),
]


@pytest.mark.parametrize(("status", "headers", "content"), STRANGE)
def test_an_answer_of_no_api_is_told_as_one(status: int, headers: dict[str, str], content: bytes) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))

    with Client("http://stranger", transport=httpx.MockTransport(answer)) as client:
        asking: list[Callable[[], object]] = [
            lambda: client.pin("a"),
            client.pins,
            client.health,
            lambda: client.lens(b"x"),
            lambda: client.search_pin("a"),
            lambda: client.save([SaveJson(pin_id="a", board_id="b")]),
        ]
        asking += [client.openapi] if content != b'{"pin_id": 7}' else []
        for ask in asking:
            with pytest.raises(Unavailable, match="stranger"):
                ask()


def test_reports_that_no_api_takes_are_refused_with_the_same_words(client: Client) -> None:
    for events in ([], [SaveJson(pin_id="d", board_id="b")] * 101):
        with pytest.raises(Problem, match="events") as caught:
            client.save(events)
        assert caught.value.slug == "bad-field"


def test_events_of_no_api_are_told_as_such() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="event: pin\ndata: {not json\n\n")

    with Client("http://stranger", transport=httpx.MockTransport(answer)) as client, pytest.raises(Unavailable):
        next(client.events())
