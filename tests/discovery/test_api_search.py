"""Flashlight and object search over HTTP: right answers, and a documented problem for every bad question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery import watermark
from discovery.search import MAX_K
from discovery.watermark import Watermark
from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem
from tests.discovery.waiting import until

KINDS = ("flashlight", "objects")


def upload(api: httpx.Client, kind: str, data: bytes, **fields: str) -> Any:
    return api.post(f"/search/{kind}", files={"image": ("x.png", data, "image/png")}, data=fields)


@pytest.fixture
def some(stage: Stage) -> Stage:
    """Three red-like pins, a blue one, a grey one without an object, and a copy of the first picture."""
    stage.pin("red", patch("red"), annotations=["art", "crimson"])
    stage.pin("red-too", patch("red", (0.1, 0.1, 0.5, 0.9)), annotations=["art", "crimson"])
    stage.pin("orange", patch("orange"), annotations=["art", "fruit"])
    stage.pin("blue", patch("blue"), annotations=["sea"])
    stage.pin("grey", patch("grey"))
    stage.pin("copy", patch("red"), annotations=["stolen"])
    return stage


def test_a_known_object_finds_its_like_without_inference(api: httpx.Client, some: Stage) -> None:
    calls = some.models.calls
    body = api.post("/search/objects", json={"pin_id": "red", "object_index": 0, "k": 3}).json()
    assert some.models.calls == calls
    first = body["results"][0]
    assert first["pin_id"] == "red-too"
    assert first["object_index"] == 0
    assert first["label"] == "Patch"
    assert first["box"] == pytest.approx([0.1, 0.1, 0.5, 0.9], abs=0.01)
    assert first["similarity"] == pytest.approx(1 - first["distance"] / 256)
    assert [hit["distance"] for hit in body["results"]] == sorted(hit["distance"] for hit in body["results"])
    found = [hit["pin_id"] for hit in body["results"]]
    assert len(set(found)) == len(found)
    assert "red" not in found, "the pin itself is left out"
    assert "copy" not in found, "and so are identical pictures"
    assert body["query"] == {
        "pin_id": "red",
        "object_index": 0,
        "box": body["query"]["box"],
        "label": "Patch",
        "inference": False,
    }
    assert watermark.read(body["indexed_up_to"]).generation == "g1"


def test_a_drawn_box_finds_what_its_object_finds(api: httpx.Client, some: Stage) -> None:
    box = api.get("/pins/red").json()["objects"][0]["box"]
    by_box = api.post("/search/objects", json={"pin_id": "red", "box": box, "k": 3}).json()
    by_index = api.post("/search/objects", json={"pin_id": "red", "object_index": 0, "k": 3}).json()
    assert by_box["results"] == by_index["results"]
    assert by_box["query"]["inference"] is True


def test_annotations_are_scored_over_the_results(api: httpx.Client, some: Stage) -> None:
    body = api.post("/search/objects", json={"pin_id": "red", "object_index": 0, "k": 2}).json()
    named = [one["annotation"] for one in body["annotations"]]
    assert "crimson" in named
    assert named.index("crimson") < len(named)
    assert all(one["score"] >= 0 for one in body["annotations"])
    assert "sea" not in named


def test_flashlight_answers_with_whole_pictures_too(api: httpx.Client, some: Stage) -> None:
    body = api.post("/search/flashlight", json={"pin_id": "grey", "k": 5}).json()
    assert body["query"] == {"pin_id": "grey", "inference": False}
    assert len(body["results"]) == 4, "the copy is named by the picture that it copies"
    assert any("object_index" not in hit and hit["box"] == [0, 0, 1, 1] for hit in body["results"])


def test_object_search_without_an_object_is_empty(api: httpx.Client, some: Stage) -> None:
    assert api.post("/search/objects", json={"pin_id": "grey"}).json()["results"] == []
    body = upload(api, "objects", patch("grey")).json()
    assert body["results"] == []
    assert body["query"]["objects"] == []
    assert upload(api, "objects", patch("grey"), box="0.1,0.1,0.9,0.9").json()["results"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_uploaded_picture_is_searched_by_its_dominant_object(api: httpx.Client, some: Stage, kind: str) -> None:
    body = upload(api, kind, patch("red", size=(401, 301)), k="2", duplicates="keep").json()
    assert {hit["pin_id"] for hit in body["results"]} == {"red", "copy"}
    assert body["query"]["label"] == "Patch"
    assert body["query"]["objects"][0]["score"] == pytest.approx(0.8)
    assert body["query"]["inference"] is True


def test_a_pin_is_found_as_soon_as_it_is_indexed(api: httpx.Client, stage: Stage) -> None:
    stage.pin("a", patch("red"))
    for n in range(20):
        stage.pin(f"new-{n}", patch("red", size=(402 + n, 300)))
        found = api.post(
            "/search/objects", json={"pin_id": "a", "object_index": 0, "k": 100, "duplicates": "keep"}
        ).json()
        assert f"new-{n}" in {hit["pin_id"] for hit in found["results"]}


def test_as_many_pins_as_wanted_though_one_holds_all_the_nearest(api: httpx.Client, stage: Stage) -> None:
    stage.pin("a", patch("red"))
    for n in range(30):
        stage.pin(f"p{n}", patch("red", size=(402 + n, 300)))
    asked = {"pin_id": "a", "object_index": 0, "k": 30, "duplicates": "keep"}
    body = api.post("/search/flashlight", json=asked).json()
    assert len({hit["pin_id"] for hit in body["results"]}) == 30


BAD = [
    ({}, 422, "bad-field"),
    ({"pin_id": "red", "k": 0}, 422, "bad-field"),
    ({"pin_id": "red", "k": MAX_K + 1}, 422, "bad-field"),
    ({"pin_id": "red", "k": 1_000_000}, 422, "bad-field"),
    ({"pin_id": "red", "k": "10"}, 422, "bad-field"),
    ({"pin_id": "red", "annotations": "oak"}, 422, "bad-field"),
    ({"pin_id": "red", "annotations": ["a"] * 21}, 422, "bad-field"),
    ({"pin_id": "red", "annotations": [""]}, 422, "bad-field"),
    ({"pin_id": "red", "buyable": "yes"}, 422, "bad-field"),
    ({"pin_id": "red", "category": ""}, 422, "bad-field"),
    ({"pin_id": "red", "preset": "similar"}, 422, "bad-field"),
    ({"pin_id": "red", "duplicates": True}, 422, "bad-field"),
    ({"pin_id": "", "k": 1}, 422, "bad-field"),
    ({"pin_id": 7}, 422, "bad-field"),
    ({"pin_id": "red", "object_index": -1}, 422, "bad-field"),
    ({"pin_id": "red", "object_index": 10**30}, 422, "bad-field"),
    ({"pin_id": "red", "colour": "red"}, 422, "bad-field"),
    ({"pin_id": "red", "object_index": 0, "box": [0, 0, 1, 1]}, 422, "bad-field"),
    ({"pin_id": "red", "box": "0,0,1,1"}, 422, "bad-field"),
    ({"pin_id": "red", "box": [0.9, 0, 0.1, 1]}, 422, "bad-box"),
    ({"pin_id": "red", "box": [0, 0, 2, 1]}, 422, "bad-box"),
    ({"pin_id": "red", "box": [0.5, 0.5, 0.5, 0.5]}, 422, "bad-box"),
    ({"pin_id": "red", "box": [0, 0, 1]}, 422, "bad-box"),
    ({"pin_id": "red", "object_index": 44}, 404, "unknown-object"),
    ({"pin_id": "nobody"}, 404, "unknown-pin"),
    ({"pin_id": "red", "indexed_up_to": "nonsense"}, 400, "bad-watermark"),
    ({"pin_id": "red", "indexed_up_to": watermark.write(Watermark("g9", {0: 1}))}, 422, "other-generation"),
    ([], 422, "bad-field"),
    ("red", 422, "bad-field"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_question_is_told_what_is_wrong(api: httpx.Client, some: Stage, kind: str) -> None:
    for body, status, slug in BAD:
        problem(api.post(f"/search/{kind}", json=body), status, slug)


UNREADABLE = [
    (b"{", "application/json", 400, "bad-request"),
    (b"\xff\xfe", "application/json", 400, "bad-request"),
    (b'{"pin_id": "\\ud800"}', "application/json", 400, "bad-request"),
    (b'{"pin_id": "red", "box": [NaN, 0, 1, 1]}', "application/json", 422, "bad-box"),
    (b"[" * 50_000, "application/json", 400, "bad-request"),
    (b'{"pin_id": "' + b"x" * 70_000 + b'"}', "application/json", 413, "too-large"),
    (b"x", "text/plain", 415, "wrong-content-type"),
    (b"x", "image/png", 415, "wrong-content-type"),
    (b"x", "multipart/form-data", 400, "bad-request"),
    (b"x", "multipart/form-data; boundary=b", 400, "bad-request"),
    (b"--b\r\nbroken", "multipart/form-data; boundary=b", 422, "bad-field"),
]


def test_an_unreadable_body_is_told_what_is_wrong(api: httpx.Client) -> None:
    for content, content_type, status, slug in UNREADABLE:
        response = api.post("/search/flashlight", content=content, headers={"Content-Type": content_type})
        problem(response, status, slug)


def test_bad_forms_are_told_what_is_wrong(api: httpx.Client, some: Stage) -> None:
    red = patch("red")
    problem(api.post("/search/objects", files={"other": ("x", red)}), 422, "bad-field")
    problem(api.post("/search/objects", files={"image": (None, "text")}), 422, "bad-field")
    problem(upload(api, "objects", red, k="0"), 422, "bad-field")
    problem(upload(api, "objects", red, k="many"), 422, "bad-field")
    problem(upload(api, "objects", red, box="1,2,3"), 422, "bad-box")
    problem(upload(api, "objects", red, box="0.9,0,0.1,1"), 422, "bad-box")
    problem(upload(api, "objects", red, surprise="1"), 422, "bad-field")
    problem(upload(api, "objects", red, box="x" * 20_000), 400, "bad-request")
    problem(api.post("/search/objects", files=[("image", ("a", red)), ("image2", ("b", red))]), 400, "bad-request")


POISON = [
    (b"", "picture_empty"),
    (b"x", "picture_format"),
    (b"<html>not a picture</html>", "picture_format"),
    (patch("red")[:200], "picture_truncated"),
    (patch("red", size=(7, 300)), "picture_side"),
]


def test_a_poisonous_picture_is_refused_with_its_reason(api: httpx.Client) -> None:
    for data, reason in POISON:
        assert problem(upload(api, "flashlight", data), 422, "bad-picture")["reason"] == reason
        assert problem(upload(api, "flashlight", data, box="0,0,1,1"), 422, "bad-picture")["reason"] == reason


def test_a_body_over_the_limit_is_stopped_announced_or_not(api: httpx.Client, stage: Stage) -> None:
    limit = stage.services.limits.body_bytes
    problem(upload(api, "objects", b"x" * (limit + 1)), 413, "too-large")

    def endless() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(limit // 1_000_000 + 2):
            yield b"x" * 1_000_000

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(api.post("/search/objects", content=endless(), headers=headers), 413, "too-large")


def test_without_triton_known_objects_are_still_searched(api: httpx.Client, some: Stage) -> None:
    some.models.away = True
    assert api.post("/search/objects", json={"pin_id": "red", "object_index": 0}).status_code == 200
    for response in (
        api.post("/search/objects", json={"pin_id": "red", "box": [0.1, 0.1, 0.9, 0.9]}),
        upload(api, "flashlight", patch("red")),
    ):
        problem(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1


def test_an_answer_reflects_what_the_client_has_seen(api: httpx.Client, some: Stage) -> None:
    word = api.get("/pins").json()["indexed_up_to"]
    assert api.post("/search/objects", json={"pin_id": "red", "indexed_up_to": word}).status_code == 200
    ahead = watermark.write(Watermark("g1", {0: 10**6}))
    response = api.post("/search/objects", json={"pin_id": "red", "indexed_up_to": ahead})
    problem(response, 503, "not-yet-indexed")
    assert response.headers["retry-after"] == "1"
    problem(api.get("/pins/red", params={"indexed_up_to": ahead}), 503, "not-yet-indexed")
    problem(api.get("/pins", params={"indexed_up_to": "!"}), 400, "bad-watermark")


def test_a_damaged_index_is_a_503_and_the_api_is_not_ready(api: httpx.Client, some: Stage, tmp_path: Path) -> None:
    (page,) = tmp_path.glob("index/g1/0/*/commit")
    with page.open("r+b") as stream:
        stream.write(b"\0" * page.stat().st_size)
    problem(api.post("/search/objects", json={"pin_id": "red", "object_index": 0}), 503, "unavailable")
    until(lambda: api.get("/readyz").status_code == 503)
    assert problem(api.get("/readyz"), 503, "unavailable")["checks"]["index"] is False


def test_an_index_that_is_gone_is_a_503_and_no_empty_index(api: httpx.Client, some: Stage, tmp_path: Path) -> None:
    home = tmp_path / "index" / "g1"
    home.rename(tmp_path / "away")
    for asked in (
        api.post("/search/objects", json={"pin_id": "red", "object_index": 0}),
        api.post("/lens", files={"image": patch("red")}),
        api.get("/pins"),
        api.get("/pins/nobody"),
        api.get("/pins/red/related"),
    ):
        problem(asked, 503, "unavailable")
    until(lambda: api.get("/readyz").status_code == 503)
    shutil.rmtree(home, ignore_errors=True)
    (tmp_path / "away").rename(home)
    until(lambda: api.get("/readyz").status_code == 200)
    assert api.post("/search/objects", json={"pin_id": "red", "object_index": 0}).status_code == 200


words = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
named = st.fixed_dictionaries(
    {"pin_id": st.sampled_from(["red", "grey", "nobody"]) | words},
    optional={
        "object_index": st.integers(-1, 3) | words,
        "box": st.lists(st.floats(-0.5, 1.5), min_size=3, max_size=5) | words,
        "k": st.integers(-1, 200) | words,
        "indexed_up_to": words,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=named | words)
def test_no_question_is_a_500(api: httpx.Client, some: Stage, body: Any) -> None:
    response = api.post(
        "/search/objects", content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code in {200, 400, 404, 422, 503}, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
