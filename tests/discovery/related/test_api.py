"""GET /pins/{id}/related over real shards: candidates, what is left out, fallback, variants, and bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from discovery import candidates
from discovery.client import Client
from discovery.related.model import LinearModel, Variant
from indexer.cooccurrence import Together
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch

MODEL = LinearModel({"co_occurrence": 0.1, "visual": 0.01}, trained={"synthetic": True})
"""The saves outweigh how alike the pictures are, but not five times that."""


@pytest.fixture
def related(stage: Stage) -> Iterator[httpx.Client]:
    stage.pin("query", patch("red", (0.2, 0.2, 0.8, 0.8)), annotations=["patch"])
    stage.pin("like", patch("red", (0.21, 0.2, 0.8, 0.8)))
    stage.pin("unlike", patch("blue", (0.0, 0.0, 0.4, 0.4)))
    stage.pin("same", patch("red", (0.2, 0.2, 0.8, 0.8)))
    stage.pin("gone", patch("green"))
    stage.delete("gone")
    stage.together.of["query"] = [
        Together("unlike", 3.0, 3, 0.5),
        Together("like", 2.6, 3, 0.5),
        Together("same", 9.0, 9, 0.9),
        Together("gone", 9.0, 9, 0.9),
        Together("never seen", 9.0, 9, 0.9),
    ]
    services = dataclasses.replace(stage.services, related_model=MODEL)
    with serving(services) as (address, _), httpx.Client(base_url=address, timeout=20, trust_env=False) as client:
        yield client


def ids(answer: dict[str, object]) -> list[str]:
    results = answer["results"]
    assert isinstance(results, list)
    return [one["pin_id"] for one in results]


def test_candidates_are_what_stands_of_those_kept_together(related: httpx.Client) -> None:
    answer = related.get("/pins/query/related", params={"variant": "plain"}).json()
    assert answer["source"] == "co_occurrence"
    assert answer["synthetic_model"] is True
    assert ids(answer) == ["unlike", "like"]
    first = answer["results"][0]
    assert (first["co_occurrence"], first["shared_boards"]) == (3.0, 3)
    assert 0 < first["similarity"] < 1
    assert "features" not in first


def test_a_dominant_object_makes_pictures_count(related: httpx.Client) -> None:
    answer = related.get("/pins/query/related").json()
    assert (answer["variant"], answer["dominant_object"]) == ("C", 0)
    assert ids(answer) == ["like", "unlike"]
    whole = related.get("/pins/query/related", params={"variant": "C", "explain": "true"}).json()
    item = related.get("/pins/query/related", params={"variant": "B", "explain": "true"}).json()
    visual = [{one["pin_id"]: one["features"]["visual"] for one in each["results"]} for each in (whole, item)]
    assert visual[0]["like"] != visual[1]["like"]  # B looks with the object's code
    plain = related.get("/pins/query/related", params={"variant": "A", "explain": "true"}).json()
    assert {one["pin_id"]: one["features"]["visual"] for one in plain["results"]} == visual[1]


def test_without_saves_the_neighbours_stand_in_and_say_so(related: httpx.Client, stage: Stage) -> None:
    answer = related.get("/pins/like/related").json()
    assert answer["source"] == "visual"
    assert ids(answer) == ["query", "unlike"]
    assert [one["duplicates"] for one in answer["results"]] == [["same"], []]
    assert all(one["source"] == "visual" and "co_occurrence" not in one for one in answer["results"])
    assert "degraded" not in answer
    stage.together.away = True
    degraded = related.get("/pins/query/related").json()
    assert (degraded["source"], degraded["degraded"]) == ("visual", "the saves are away")
    assert "same" not in ids(degraded)


def test_what_stands_is_found_behind_any_number_of_deleted_pins(related: httpx.Client, stage: Stage) -> None:
    gone = [Together(f"gone-{n}", 9.0, 9, 0.9) for n in range(900)]
    stage.pins([one.pin_id for one in gone[:50]], patch("green"))
    for one in gone[:50]:
        stage.delete(one.pin_id)
    stage.together.of["query"] = [*gone, Together("unlike", 3.0, 3, 0.5), Together("like", 2.6, 3, 0.5)]
    answer = related.get("/pins/query/related", params={"variant": "plain"}).json()
    assert answer["source"] == "co_occurrence"
    assert ids(answer) == ["unlike", "like"]
    stage.together.of["query"] = gone
    assert related.get("/pins/query/related").json()["source"] == "visual", "all were looked through"


def test_no_more_than_the_best_hundred_are_ranked(related: httpx.Client, stage: Stage) -> None:
    kept = [Together(f"kept-{n:03}", 300.0 - n, 1, 0.5) for n in range(250)]
    stage.pins([one.pin_id for one in kept], patch("green"))
    stage.delete("kept-000")
    stage.together.of["query"] = kept
    answer = related.get("/pins/query/related", params={"variant": "plain", "k": 100}).json()
    assert ids(answer) == [f"kept-{n:03}" for n in range(1, 101)]


def test_copies_among_the_neighbours_are_named_by_the_nearest(
    related: httpx.Client, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.pins([f"copy-{n}" for n in range(300)], patch("red", (0.4, 0.4, 0.9, 0.9)))
    answer = related.get("/pins/like/related", params={"k": 3}).json()
    assert answer["source"] == "visual"
    shown = {one["pin_id"].split("-")[0]: one["duplicates"] for one in answer["results"]}
    assert shown.keys() == {"query", "copy", "unlike"}, "one of the copies, and what is behind them"
    assert len(shown["copy"]) == 20
    assert "partial" not in answer
    monkeypatch.setattr(candidates, "ROUNDS", 1)
    cut = related.get("/pins/like/related", params={"k": 3}).json()
    assert len(cut["results"]) < 3
    assert cut["partial"] == "candidate-limit"


def test_at_most_k(related: httpx.Client) -> None:
    assert len(ids(related.get("/pins/query/related", params={"k": 1}).json())) == 1


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 1_000_000}, {"variant": "D"}, {"indexed_up_to": "x"}])
def test_bad_questions_are_told(related: httpx.Client, wrong: dict[str, str]) -> None:
    answer = related.get("/pins/query/related", params=wrong)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("pin_id", "status"), [("never", 404), ("gone", 410)])
def test_pins_that_are_not_there(related: httpx.Client, pin_id: str, status: int) -> None:
    assert related.get(f"/pins/{pin_id}/related").status_code == status


def test_the_client_asks_the_same(related: httpx.Client) -> None:
    with Client(str(related.base_url)) as client:
        answer = client.related("query", k=5, variant=Variant.PLAIN, explain=True)
        assert [one.pin_id for one in answer.results] == ["unlike", "like"]
        features = answer.results[0].features
        assert features is not None
        assert features["board_overlap"] == 0.5
        strange = client.related("like")
        assert strange.source == "visual"


def test_ids_with_slashes_find_their_way(related: httpx.Client, stage: Stage, tmp_path: Path) -> None:
    stage.pin("a/b", patch("red"))
    assert related.get("/pins/a%2Fb/related").status_code == 200
