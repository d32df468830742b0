"""What Flashlight does with candidates: filters, narrowing, grouping, boosts, curated products, and kept crops."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from discovery import candidates, search
from indexer.errors import SearchTimeout
from indexer.tags import Tagged
from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem


@pytest.fixture
def shop(stage: Stage) -> Stage:
    """Red things of several kinds, and one that is nearly the same picture as another."""
    stage.pin("query", patch("red"), annotations=["art", "red"], categories={"decor": 1.0})
    stage.pin("decor", patch("red", (0.1, 0.1, 0.5, 0.9)), annotations=["art", "wood"], categories={"decor": 0.9})
    stage.pin("food", patch("red", (0.5, 0.1, 0.9, 0.5)), annotations=["fruit"], categories={"food": 1.0}, buyable=True)
    corner = (0.5, 0.5, 0.9, 0.9)
    stage.pin("shoes", patch("red", corner), annotations=["shoe"], categories={"fashion": 1}, buyable=True)
    stage.pin("twin", patch("red", corner, size=(420, 315)), annotations=["shoe"])
    stage.pin("sea", patch("blue", (0.2, 0.6, 0.8, 0.9)), annotations=["sea"])
    return stage


def ask(api: httpx.Client, kind: str = "flashlight", **asked: Any) -> Any:
    response = api.post(f"/search/{kind}", json={"pin_id": "query", "object_index": 0, **asked})
    assert response.status_code == 200, response.text
    return response.json()


def found(body: Any) -> list[str]:
    return [hit["pin_id"] for hit in body["results"]]


def test_annotations_of_an_answer_narrow_it_down(api: httpx.Client, shop: Stage) -> None:
    first = ask(api)
    assert "fruit" in [one["annotation"] for one in first["annotations"]]
    narrowed = ask(api, annotations=["fruit"])
    assert found(narrowed) == ["food"]
    assert "fruit" not in [one["annotation"] for one in narrowed["annotations"]]
    assert found(ask(api, annotations=["fruit", "wood"])) == []


def test_filters_of_category_label_and_buyable(api: httpx.Client, shop: Stage) -> None:
    assert found(ask(api, category="decor")) == ["decor"]
    assert set(found(ask(api, buyable=True))) == {"food", "shoes"}
    assert set(found(ask(api, buyable=False))) == {"decor", "twin", "sea"}
    assert all(hit["label"] == "Patch" for hit in ask(api, label="Patch")["results"])
    assert found(ask(api, label="Chair")) == []
    form = {"k": "5", "category": "food", "annotations": ["fruit"], "buyable": "true"}
    posted = api.post("/search/flashlight", files={"image": ("x", patch("red"))}, data=form).json()
    assert found(posted) == ["food"]


def test_similar_looks_is_fashion_only(api: httpx.Client, shop: Stage) -> None:
    assert found(ask(api, preset="similar_looks")) == ["shoes"]


def test_near_copies_are_named_by_the_best_of_them(api: httpx.Client, shop: Stage) -> None:
    body = ask(api)
    assert len({"shoes", "twin"} & set(found(body))) == 1
    leader = next(hit for hit in body["results"] if hit["pin_id"] in {"shoes", "twin"})
    assert leader["duplicates"] == [({"shoes", "twin"} - {leader["pin_id"]}).pop()]
    assert {"shoes", "twin"} <= set(found(ask(api, duplicates="keep")))


def test_many_copies_do_not_crowd_out_what_else_there_is(api: httpx.Client, shop: Stage) -> None:
    for n in range(60):
        shop.pin(f"copy-{n}", patch("red", (0.3, 0.3, 0.7, 0.7), size=(420 + n, 315)))
    body = ask(api, k=5)
    assert len(body["results"]) == 5
    assert sum(hit["pin_id"].startswith("copy") for hit in body["results"]) == 1


@pytest.mark.parametrize("kind", ["flashlight", "objects"])
def test_however_many_pins_show_one_picture_the_others_are_found(api: httpx.Client, shop: Stage, kind: str) -> None:
    shop.pins([f"copy-{n}" for n in range(1_200)], patch("red", (0.3, 0.3, 0.7, 0.7)))
    shop.pins([f"other-{n}" for n in range(1_200)], patch("red", (0.0, 0.6, 0.35, 1.0)))
    body = ask(api, kind, k=6)
    assert "partial" not in body
    assert sorted(name.split("-")[0] for name in found(body)) == ["copy", "decor", "food", "other", "sea", "shoes"]
    assert [len(hit["duplicates"]) > 0 for hit in body["results"] if "-" in hit["pin_id"]] == [True, True]


@pytest.mark.parametrize("kind", ["flashlight", "objects"])
@pytest.mark.parametrize("bound", ["PICTURES_MAX", "ROUNDS"])
def test_copies_that_fill_the_bound_are_said(
    api: httpx.Client, shop: Stage, monkeypatch: pytest.MonkeyPatch, kind: str, bound: str
) -> None:
    for n in range(8):
        shop.pin(f"copy-{n}", patch("red", size=(420 + n, 315)))
    monkeypatch.setattr(search, "POOL", 0)
    assert "partial" not in ask(api, kind, k=4)
    monkeypatch.setattr(candidates, bound, 1)
    body = ask(api, kind, k=4)
    assert len(body["results"]) < 4
    assert body["partial"] == "candidate-limit"
    assert "partial" not in ask(api, kind, k=1)


def test_metadata_of_the_query_pin_orders_what_looks_alike(api: httpx.Client, shop: Stage) -> None:
    results = {hit["pin_id"]: hit for hit in ask(api)["results"]}
    plain, alike = results["food"], results["decor"]
    assert plain["score"] == pytest.approx(plain["similarity"])
    assert alike["score"] > alike["similarity"] + 0.03, "category and one of two annotations are shared"
    assert [hit["score"] for hit in ask(api)["results"]] == sorted((h["score"] for h in results.values()), reverse=True)
    posted = api.post("/search/flashlight", files={"image": ("x", patch("red"))}).json()
    assert all(hit["score"] == pytest.approx(hit["similarity"]) for hit in posted["results"]), "a crop has no metadata"


def test_what_people_liked_for_an_object_is_boosted_for_it(api: httpx.Client, shop: Stage) -> None:
    before = {hit["pin_id"]: hit["score"] for hit in ask(api)["results"]}
    shop.engagement.weights["query", 0] = {"food": 5.0}
    body = ask(api)
    food = next(hit for hit in body["results"] if hit["pin_id"] == "food")
    assert food["engagement"] == pytest.approx(0.5)
    assert food["score"] == pytest.approx(before["food"] + 0.05)
    box = api.get("/pins/query").json()["objects"][0]["box"]
    drawn = api.post("/search/flashlight", json={"pin_id": "query", "box": box}).json()
    assert any(hit["engagement"] for hit in drawn["results"]), "a box on the object is the object"
    elsewhere = api.post("/search/flashlight", json={"pin_id": "query", "box": [0, 0, 0.4, 0.4]}).json()
    assert not any(hit["engagement"] for hit in elsewhere["results"])
    shop.engagement.away = True
    assert found(ask(api)), "a boost that is away stops nothing"


def test_shop_the_look_is_buyable_with_experts_products_first(api: httpx.Client, shop: Stage) -> None:
    shop.pin("lamp", patch("blue", (0.1, 0.1, 0.9, 0.3)), buyable=True)
    shop.pin("sold", patch("blue", (0.1, 0.5, 0.9, 0.6)), buyable=False)
    shop.pin("gone", patch("blue", (0.4, 0.5, 0.9, 0.6)), buyable=True)
    shop.delete("gone")
    shop.tags.tags["query"] = [
        Tagged(0, None, "lamp", 3),
        Tagged(0, None, "sold", 2),
        Tagged(0, None, "gone", 2),
        Tagged(1, None, "shoes", 1),
        Tagged(None, (0.0, 0.0, 0.2, 0.2), "food", 1),
    ]
    body = ask(api, preset="shop_the_look")
    assert found(body)[0] == "lamp"
    assert [hit["pin_id"] for hit in body["results"] if hit["curated"]] == ["lamp"]
    assert set(found(body)) == {"lamp", "food", "shoes"}
    assert not any(hit["curated"] for hit in ask(api)["results"]), "only shopping is curated"
    assert found(ask(api, preset="shop_the_look", label="Chair")) == [], "filters hold for experts' products too"
    assert found(ask(api, preset="shop_the_look", label="Patch"))[0] == "lamp"
    whole = api.post("/search/flashlight", json={"pin_id": "query", "preset": "shop_the_look"}).json()
    assert {hit["pin_id"] for hit in whole["results"] if hit["curated"]} == {"lamp", "shoes", "food"}


@pytest.mark.parametrize("kind", ["flashlight", "objects"])
def test_shopping_for_what_cannot_be_bought_is_refused(api: httpx.Client, shop: Stage, kind: str) -> None:
    route, asked = f"/search/{kind}", {"preset": "shop_the_look", "buyable": False}
    body = problem(api.post(route, json={"pin_id": "query", **asked}), 422, "bad-field")
    assert [one["field"] for one in body["fields"]] == ["buyable"]
    form = {"preset": "shop_the_look", "buyable": "false"}
    problem(api.post(route, files={"image": ("x", patch("red"))}, data=form), 422, "bad-field")
    assert api.post(route, json={"pin_id": "query", **asked, "buyable": True}).status_code == 200


def test_a_box_that_hardly_moves_is_not_embedded_again(api: httpx.Client, shop: Stage) -> None:
    first = api.post("/search/flashlight", json={"pin_id": "query", "box": [0.2, 0.2, 0.7, 0.7]}).json()
    calls = shop.models.calls
    again = api.post("/search/flashlight", json={"pin_id": "query", "box": [0.2001, 0.2, 0.7, 0.7002]}).json()
    assert shop.models.calls == calls
    assert again["results"] == first["results"]
    api.post("/search/flashlight", json={"pin_id": "query", "box": [0.3, 0.2, 0.7, 0.7]})
    assert shop.models.calls == calls + 1
    for _ in range(2):
        api.post("/search/flashlight", files={"image": ("x", patch("red"))})
    assert shop.models.calls == calls + 3, "an upload is seen once: one detection, one embedding"


def test_what_was_found_before_the_time_limit_is_answered(
    api: httpx.Client, shop: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    nearest = candidates.nearest_pins

    def once(*asked: Any, limit_s: float, **more: Any) -> candidates.Candidates:
        limits.append(limit_s)
        if len(limits) > 1:
            raise SearchTimeout("0 s")
        return nearest(*asked, limit_s=limit_s, **more)

    monkeypatch.setattr(candidates, "nearest_pins", once)
    monkeypatch.setattr(search, "POOL", 0)
    body = ask(api, k=4)
    assert body["partial"] == "time-limit"
    assert len(body["results"]) == 3, "the four nearest hold two near-copies"
    assert 0 < limits[1] < limits[0], "all rounds share one limit"


def test_an_answer_that_was_cut_short_says_so(api: httpx.Client, shop: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "partial" not in ask(api, annotations=["nothing has this"])
    monkeypatch.setattr(candidates, "FETCH_LIMIT", 3)
    assert ask(api, annotations=["nothing has this"])["partial"] == "candidate-limit"
