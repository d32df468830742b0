"""A pin that was deleted is in no answer of any kind, whatever still names it: dots, tags, boards, cursors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from discovery.client import Client
from indexer.cooccurrence import Together
from indexer.tags import Tagged
from tests.discovery.stage import Stage, patch

GONE = "victim"
BOX = [0.25, 0.25, 0.75, 0.75]
BY_PIN: dict[str, tuple[str, dict[str, Any]]] = {
    "Flashlight by an object": ("/search/flashlight", {"object_index": 0}),
    "Flashlight by a box": ("/search/flashlight", {"box": BOX}),
    "Flashlight by the whole pin": ("/search/flashlight", {}),
    "near-copies by name": ("/search/flashlight", {"object_index": 0, "duplicates": "group", "k": 1}),
    "near-copies as results": ("/search/flashlight", {"object_index": 0, "duplicates": "keep"}),
    "narrowed down": ("/search/flashlight", {"object_index": 0, "annotations": ["art"]}),
    "object search": ("/search/objects", {"object_index": 0}),
    "object search by a box": ("/search/objects", {"box": BOX}),
    "Similar Looks": ("/search/flashlight", {"preset": "similar_looks"}),
    "Shop-the-Look, an object": ("/search/flashlight", {"preset": "shop_the_look", "object_index": 0}),
    "Shop-the-Look, a box": ("/search/flashlight", {"preset": "shop_the_look", "box": BOX}),
}
"""What is asked -> route and body. Each answer names the pin while it is live."""
BY_PICTURE = {"Flashlight": "/search/flashlight", "object search": "/search/objects", "Lens": "/lens"}


@pytest.fixture
def scene(stage: Stage) -> Stage:
    """A query, a pin that everything leads to, and one that stays."""
    stage.dots(stage.pin("query", patch("red"), annotations=["art"]))
    for n, pin_id in enumerate((GONE, "stays")):
        picture = patch("red", (0.25, 0.25, 0.75, 0.75), size=(401 + n, 300))
        record = stage.pin(
            pin_id, picture, annotations=["art", "crimson"], categories={"fashion": 1.0}, buyable=True, title="Red art"
        )
        stage.dots(record)
    stage.dots(stage.pin("witness", patch("red", (0.1, 0.1, 0.9, 0.9))), witnesses=[GONE, "stays"])
    for number in range(30):
        stage.pin(
            f"other-{number}", patch("blue", (0.02 * number, 0.1, 0.3 + 0.02 * number, 0.6)), annotations=[f"w{number}"]
        )
    tags = [(0, None), (None, tuple(BOX)), (None, None)]
    stage.tags.tags["query"] = [Tagged(at, box, pin, 1) for pin in (GONE, "stays") for at, box in tags]  # type: ignore[arg-type]
    stage.together.of["query"] = [Together(GONE, 3.0, 3), Together("stays", 1.0, 1)]
    stage.engagement.weights["query", 0] = {GONE: 50.0}
    return stage


def asked(api: httpx.Client) -> dict[str, str]:
    """What is asked -> the answer's text."""
    answers: dict[str, httpx.Response] = {}
    for name, (route, fields) in BY_PIN.items():
        answers[name] = api.post(route, json={"pin_id": "query", **fields})
    for name, route in BY_PICTURE.items():
        answers[f"{name} by a picture"] = api.post(
            route, files={"image": patch("red", size=(444, 300))}, data={"k": "20"}
        )
    for name, path in {
        "newest pins": "/pins",
        "related pins": "/pins/query/related",
        "related pins that look alike": "/pins/stays/related",
        "dots": "/pins/witness/dots",
        "lineage": "/pins/witness/lineage",
    }.items():
        answers[name] = api.get(path)
    assert {name: answer.text for name, answer in answers.items() if answer.status_code != 200} == {}
    return {name: answer.text for name, answer in answers.items()}


def test_a_deleted_pin_is_in_no_list(api: httpx.Client, scene: Stage) -> None:
    before = asked(api)
    assert [name for name, text in before.items() if f'"{GONE}"' not in text] == ["dots"], (
        "an answer that proves nothing"
    )
    scene.delete(GONE)
    after = asked(api)
    assert [name for name, text in after.items() if GONE in text] == []
    assert all("stays" in text for name, text in after.items() if name not in {"dots", "related pins that look alike"})
    for path in ("", "/dots", "/picture", "/picture?width=160", "/related"):
        gone = api.get(f"/pins/{GONE}{path}")
        assert (gone.status_code, gone.json()["type"]) == (410, "/problems/deleted-pin")
    asking = api.post("/search/flashlight", json={"pin_id": GONE})
    assert asking.status_code == 410


def test_a_pin_deleted_in_the_middle_of_a_page_is_left_out_and_the_next_page_goes_on(
    api: httpx.Client, scene: Stage
) -> None:
    with Client(str(api.base_url)) as client:
        first = client.pins(limit=31)
        last = first.pins[-1].pin.pin_id
        assert last == "witness"
        scene.delete("witness")
        scene.delete(GONE)
        rest = client.pins(limit=31, before=first.next)
        assert [card.pin.pin_id for card in rest.pins] == ["stays", "query"]
        assert rest.next is None


def test_what_comes_back_is_found_again(api: httpx.Client, scene: Stage) -> None:
    scene.delete(GONE)
    scene.pin(GONE, patch("red", size=(401, 300)), version=3, annotations=["art"], buyable=True)
    asked = {"pin_id": "query", "preset": "shop_the_look", "object_index": 0, "duplicates": "keep"}
    found = api.post("/search/flashlight", json=asked).json()
    assert {one["pin_id"] for one in found["results"] if one["curated"]} == {GONE, "stays"}
