"""Pins, their dots, pictures and lineage over HTTP, on real shards, dots and picture store."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from discovery.ports import DeadLetter
from tests.discovery.stage import NOW, Stage, patch
from tests.discovery.waiting import until


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document that was expected."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def test_a_pin_is_answered_with_its_messages_names(api: httpx.Client, stage: Stage) -> None:
    record = stage.pin("pin/1 ü", patch("red"), version=2**53 + 1, annotations=["art", "red"])
    body = api.get("/pins/pin%2F1%20%C3%BC").json()
    assert body["pin_id"] == "pin/1 ü"
    assert body["version"] == str(2**53 + 1)
    assert body["event_time"] == str(NOW)
    assert body["image_sha256"] == record.image_sha256.hex()
    assert body["annotations"] == ["art", "red"]
    assert (body["image_width"], body["image_height"]) == (400, 300)
    (item,) = body["objects"]
    assert item["label"] == "Patch"
    assert item["source"] == "detector"
    assert item["box"] == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.01)
    assert body["colours"][0]["rgb"].startswith("#")
    assert "codes" not in body
    assert "codes" not in item


def test_newest_pins_come_first_page_by_page(api: httpx.Client, stage: Stage) -> None:
    for n in range(7):
        stage.dots(stage.pin(f"p{n}", patch("red")))
    stage.delete("p3")
    until(lambda: stage.services.dots.get("p6"))
    first = api.get("/pins?limit=4").json()
    second = api.get("/pins", params={"limit": 4, "before": first["next"]}).json()
    assert [card["pin"]["pin_id"] for card in first["pins"] + second["pins"]] == ["p6", "p5", "p4", "p2", "p1", "p0"]
    assert "next" not in second
    assert first["pins"][0]["dots"]["dots"][0]["reasons"] == ["signals"]
    problem(api.get("/pins?before=nonsense"), 400, "bad-cursor")
    problem(api.get("/pins?limit=0"), 422, "bad-field")
    problem(api.get("/pins?limit=1000"), 422, "bad-field")


def test_dots_have_reasons_signals_and_an_etag(api: httpx.Client, stage: Stage) -> None:
    record = stage.pin("a", patch("red"))
    problem(api.get("/pins/a/dots"), 404, "no-dots-yet")
    stage.dots(record, shown=False)
    until(lambda: stage.services.dots.get("a"))
    response = api.get("/pins/a/dots")
    body = response.json()
    (dot,) = body["dots"]
    assert dot["shown"] is False
    assert dot["reasons"] == ["low_similarity", "low_conformity"]
    assert (dot["x"], dot["y"]) == pytest.approx((0.5, 0.5), abs=0.01)
    assert dot["score"] == pytest.approx(0.8)
    assert body["decided_at"] == str(NOW + 84)
    assert body["watermark"].keys() == {"0", "1"}
    tag = response.headers["etag"]
    assert api.get("/pins/a/dots", headers={"If-None-Match": tag}).status_code == 304
    assert api.get("/pins/a/dots", headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304
    stage.dots(record, decision=2)
    until(lambda: api.get("/pins/a/dots", headers={"If-None-Match": tag}).status_code == 200)
    assert api.get("/pins/a/dots").headers["etag"] != tag


def test_look_ups_take_a_lease_that_had_run_out_again(api: httpx.Client, stage: Stage) -> None:
    stage.dots(stage.pin("p", patch("red")))
    until(lambda: stage.services.dots.get("p"))
    for path in ("/pins/p", "/pins/p/dots", "/pins/p/picture") * 5:  # each before the announcer has renewed it too
        stage.reader.rest()
        assert api.get(path).status_code == 200


def test_a_deleted_pin_is_gone_everywhere(api: httpx.Client, stage: Stage) -> None:
    stage.dots(stage.pin("a", patch("red")))
    stage.pin("b", patch("orange"))
    until(lambda: stage.services.dots.get("a"))
    stage.delete("a")
    until(lambda: api.get("/pins/a").status_code == 410)
    for path in ("/pins/a", "/pins/a/dots", "/pins/a/picture", "/pins/a/picture?width=320"):
        problem(api.get(path), 410, "deleted-pin")
    for kind in ("flashlight", "objects"):
        problem(api.post(f"/search/{kind}", json={"pin_id": "a", "object_index": 0}), 410, "deleted-pin")
        found = api.post(f"/search/{kind}", json={"pin_id": "b", "object_index": 0}).json()
        assert [hit["pin_id"] for hit in found["results"]] == []
    assert [card["pin"]["pin_id"] for card in api.get("/pins").json()["pins"]] == ["b"]


@pytest.mark.parametrize("rest", ["", "/dots", "/picture"])
def test_an_unknown_pin_is_a_404(api: httpx.Client, rest: str) -> None:
    assert problem(api.get(f"/pins/nobody{rest}"), 404, "unknown-pin")["pin_id"] == "nobody"


def test_the_picture_comes_as_published_or_scaled(api: httpx.Client, stage: Stage) -> None:
    data = patch("red", size=(900, 600))
    record = stage.pin("a", data)
    whole = api.get("/pins/a/picture")
    assert whole.content == data
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in whole.headers["content-security-policy"]
    assert "no-cache" in whole.headers["cache-control"]
    scaled = api.get("/pins/a/picture?width=300")
    assert scaled.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(scaled.content)) as image:
        assert image.size == (320, 213)
    with Image.open(io.BytesIO(api.get("/pins/a/picture?width=1900").content)) as image:
        assert image.size == (900, 600)
    again = api.get("/pins/a/picture?width=310", headers={"If-None-Match": scaled.headers["etag"]})
    assert again.status_code == 304
    assert not again.content
    for width in ("0", "100000", "x"):
        problem(api.get(f"/pins/a/picture?width={width}"), 422, "bad-field")
    stage.pictures.delete(record.image_ref)
    assert problem(api.get("/pins/a/picture"), 404, "picture-gone")["reason"] == "picture_missing"


def test_lineage_of_a_pin_that_walked_the_whole_way(api: httpx.Client, stage: Stage) -> None:
    record = stage.pin("a", patch("red"))
    waiting = api.get("/pins/a/lineage").json()
    assert waiting["state"] == "waiting"
    assert [stage["stage"] for stage in waiting["stages"]] == ["event", "record", "logged", "searchable", "dots"]
    stage.dots(record)
    until(lambda: stage.services.dots.get("a"))
    done = api.get("/pins/a/lineage").json()
    assert done["state"] == "dots"
    assert [one["state"] for one in done["stages"]] == ["done"] * 5
    assert done["stages"][0]["at"] == str(NOW)
    assert done["stages"][2]["at"] == str(record.recorded_at)
    assert "at" not in done["stages"][3]
    assert done["stages"][4]["after_ms"] == "84"
    assert "score 0.80" in done["stages"][4]["detail"]
    assert done["dots"]["dots"][0]["score"] == pytest.approx(0.8)
    assert done["dots"]["dots"][0]["similarity"] == pytest.approx(0.91)
    assert done["dead_letters_checked"] is True


def test_lineage_says_where_and_why_a_pin_stopped(api: httpx.Client, stage: Stage) -> None:
    assert api.get("/pins/nobody/lineage").json()["state"] == "unseen"
    letter = DeadLetter("pins", 3, 17, "picture_truncated", "the file ends early", NOW, NOW + 9)
    stage.letters.letters["bad"] = [letter]
    dead = api.get("/pins/bad/lineage").json()
    assert dead["state"] == "dead"
    assert "picture_truncated" in dead["summary"]
    assert dead["dead_letters"][0] == {
        "topic": "pins",
        "partition": 3,
        "offset": "17",
        "reason": "picture_truncated",
        "detail": "the file ends early",
        "event_timestamp": str(NOW),
        "dead_at": str(NOW + 9),
    }
    stage.pin("gone", patch("red"))
    stage.delete("gone")
    assert api.get("/pins/gone/lineage").json()["state"] == "deleted"
    stage.dots(stage.pin("half", patch("red")))
    until(lambda: stage.services.dots.get("half"))
    stage.letters.letters["half"] = [DeadLetter("pins", 0, 99, "picture_empty", "no bytes", NOW + 10_000, NOW + 10_001)]
    later = api.get("/pins/half/lineage").json()
    assert later["state"] == "dots"
    assert later["stages"][-1]["stage"] == "later event"
    assert later["stages"][-1]["state"] == "dead"
    stage.letters.away = True
    assert api.get("/pins/nobody/lineage").json()["dead_letters_checked"] is False


@pytest.mark.parametrize(
    ("letter", "shown"),
    [
        (DeadLetter("pins", 0, 9, "picture_empty", "no bytes", NOW + 1, NOW + 20_000, NOW + 1), True),
        (DeadLetter("pins", 0, 9, "picture_empty", "no bytes", NOW + 1, NOW + 20_000), True),
        (DeadLetter("pins", 0, 9, "picture_empty", "no bytes", NOW + 10_000, NOW + 20_000, NOW), False),
        (DeadLetter("pins", 0, 9, "picture_empty", "no bytes", NOW + 10_000, NOW + 20_000, NOW - 1), False),
        (DeadLetter("x.objects.g1", 0, 9, "wrong_bits", "8 bits", NOW + 1, NOW + 20_000, NOW + 1), False),
        (DeadLetter("x.objects.g1", 0, 9, "wrong_bits", "8 bits", NOW + 10_000, NOW + 20_000), True),
    ],
    ids=["later", "without ce_time", "replayed", "earlier, late in the log", "an older record", "a newer record"],
)
def test_a_later_events_dead_letter_is_shown_by_the_events_time(
    api: httpx.Client, stage: Stage, letter: DeadLetter, shown: bool
) -> None:
    record = stage.pin("a", patch("red"))
    assert record.event_time + 1 < record.recorded_at
    stage.letters.letters["a"] = [letter]
    stages = api.get("/pins/a/lineage").json()["stages"]
    assert (stages[-1]["stage"] == "later event") is shown


def test_lineage_says_how_many_dead_letters_it_looked_at(api: httpx.Client, stage: Stage) -> None:
    stage.letters.newest_only = 10_000
    found = api.get("/pins/nobody/lineage").json()
    assert "newest 10000 dead letters" in found["summary"]
    assert found["dead_letters_limit"] == 10_000


def test_a_deleted_witness_is_in_no_answer(api: httpx.Client, stage: Stage) -> None:
    record = stage.pin("a", patch("red"))
    for name in ("witness-kept", "witness-gone"):
        stage.pin(name, patch("red"))
    witnesses = ["witness-kept", "witness-gone"]
    stage.dots(record, witnesses=witnesses)
    until(lambda: stage.services.dots.get("a"))
    assert api.get("/pins/a/lineage").json()["witnesses"] == witnesses
    stage.delete("witness-gone")
    until(lambda: api.get("/pins/witness-gone").status_code == 410)
    assert api.get("/pins/a/lineage").json()["witnesses"] == ["witness-kept"]
    with api.stream("GET", "/events") as events:
        lines = events.iter_lines()
        assert "event: hello" in iter(lambda: next(lines), "")
        stage.dots(record, decision=2, witnesses=witnesses)
        data = next(line for line in lines if line.startswith("data:") and '"dots"' in line)
    assert '"decision":2' in data
    answers = [data, *(api.get(path).text for path in ("/pins", "/pins/a", "/pins/a/dots", "/pins/a/lineage"))]
    asked = {"pin_id": "a", "object_index": 0}
    answers += [api.post(f"/search/{kind}", json=asked).text for kind in ("flashlight", "objects")]
    assert all("witness-gone" not in answer for answer in answers)
    assert all("witnesses" not in answer for answer in answers[:-3])


def test_newer_versions_wait_for_their_dots(api: httpx.Client, stage: Stage) -> None:
    stage.dots(stage.pin("a", patch("red"), version=1))
    until(lambda: stage.services.dots.get("a"))
    stage.pin("a", patch("blue"), version=2)
    found = api.get("/pins/a/lineage").json()
    assert found["state"] == "waiting"
    assert "version 1" in found["stages"][-1]["detail"]


def test_an_api_beside_the_active_generation_says_that_it_has_no_dots(api: httpx.Client, stage: Stage) -> None:
    stage.dots(stage.pin("a", patch("red")))
    until(lambda: stage.services.dots.get("a"))
    stage.services.dots.only = "g2"
    assert "this API searches g2" in problem(api.get("/pins/a/dots"), 404, "dots-elsewhere")["detail"]
    assert "dots" not in api.get("/pins").json()["pins"][0]
    lineage = api.get("/pins/a/lineage").json()
    assert (lineage["state"], "dots" in lineage) == ("waiting", False)
    assert "this API searches g2" in lineage["stages"][-1]["detail"]
    stage.services.dots.only = "g1"
    assert api.get("/pins/a/dots").json()["generation"] == "g1"
