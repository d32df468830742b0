"""Lens over HTTP: what is understood, which sources run, and one diverse answer; and blending against an oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import blending, candidates, lens
from discovery.blending import SOURCES, Choice, Source
from discovery.ports import Sight
from discovery.rerank import Ranked
from discovery.understanding import FLOOR, PRIOR, Guess, understand
from dotstream.errors import Retryable
from indexer.errors import LeaseExpired, SearchTimeout
from indexer.records_pb2 import Code, ObjectRecord
from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem

BITS = 64


def ask(api: httpx.Client, picture: bytes, **fields: Any) -> Any:
    response = api.post("/lens", files={"image": ("x.png", picture)}, data=fields)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def kitchen(stage: Stage) -> Stage:
    """Pins like the photograph, one that is only about the same thing, and others."""
    boxes = [(0.1, 0.1, 0.6, 0.9), (0.2, 0.1, 0.7, 0.9), (0.3, 0.2, 0.9, 0.8), (0.2, 0.3, 0.8, 0.9)]
    for n, box in enumerate(boxes):
        stage.pin(f"berry-{n}", patch("blue", box), annotations=["blueberry", "fruit"], categories={"food": 1.0})
    stage.pin("cake", patch("grey"), annotations=["blueberry", "dessert"], title="Blueberry cake", buyable=True)
    for n in range(8):
        stage.pin(f"other-{n}", patch("yellow", (0.1, 0.1 + n / 20, 0.3, 0.6)), annotations=[f"word-{n}"])
    return stage


def states(body: Any) -> dict[str, str]:
    return {each["source"]: each["state"] for each in body["sources"]}


def test_a_photograph_finds_what_looks_alike_and_what_means_the_same(api: httpx.Client, kitchen: Stage) -> None:
    body = ask(api, patch("blue", (0.15, 0.1, 0.65, 0.9)), k=8)
    known = body["understanding"]
    assert known["annotations"][0]["annotation"] in {"blueberry", "fruit"}
    assert known["annotations"][0]["confidence"] > 0.5
    assert next(iter(known["categories"])) == "food"
    assert known["objects"][0]["label"] == "Patch"
    assert known["dominant_object"] == 0
    assert known["colours"][0]["rgb"].startswith("#")
    assert states(body) == {"visual": "used", "semantic": "used", "scenes": "used"}
    assert sum(each["ratio"] for each in body["sources"]) == pytest.approx(1)
    pins = [hit["pin_id"] for hit in body["results"]]
    assert len(set(pins)) == len(pins)
    assert "cake" in pins, "what means the same though it looks otherwise"
    assert next(hit for hit in body["results"] if hit["pin_id"] == "cake")["source"] == "semantic"
    assert pins[0].startswith("berry")
    assert "partial" not in body


def test_sources_follow_the_query(api: httpx.Client, kitchen: Stage) -> None:
    body = ask(api, patch("grey", size=(410, 300)))
    assert states(body)["scenes"] == "skipped"
    assert "no object" in next(each["reason"] for each in body["sources"] if each["source"] == "scenes")
    strange = ask(api, patch("white", (0.0, 0.0, 1.0, 1.0)))
    assert states(strange)["semantic"] == "skipped"
    assert "below" in next(each["reason"] for each in strange["sources"] if each["source"] == "semantic")
    assert states(ask(api, patch("blue"), category="nothing"))["visual"] == "empty"
    assert [hit["pin_id"] for hit in ask(api, patch("blue"), buyable="true")["results"]] == ["cake"]


def test_near_copies_are_left_out_and_named(api: httpx.Client, kitchen: Stage) -> None:
    for n in range(5):
        kitchen.pin(f"copy-{n}", patch("blue", (0.1, 0.1, 0.6, 0.9), size=(420 + n, 300)), annotations=["blueberry"])
    body = ask(api, patch("blue", (0.1, 0.1, 0.6, 0.9), size=(500, 300)), k=10)
    alike = [hit for hit in body["results"] if hit["pin_id"].startswith("copy") or hit["pin_id"] == "berry-0"]
    assert len(alike) == 1
    assert len(alike[0]["duplicates"]) == 5


def test_however_many_pins_show_the_photograph_the_answer_is_diverse(api: httpx.Client, kitchen: Stage) -> None:
    photograph = patch("blue", (0.5, 0.0, 1.0, 0.4))
    kitchen.pins([f"copy-{n}" for n in range(400)], photograph, ["blueberry"])
    body = ask(api, photograph, k=8)
    assert states(body) == {"visual": "used", "semantic": "used", "scenes": "used"}
    assert len(body["results"]) == 8
    assert sum(hit["pin_id"].startswith("copy") for hit in body["results"]) == 1
    assert "partial" not in body


def test_near_copies_that_fill_the_bound_are_said(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        copy = patch("blue", (0.1, 0.1, 0.6, 0.9), size=(420 + n, 300))
        kitchen.pin(f"again-{n}", copy, annotations=["blueberry", "fruit"])
    photograph = patch("blue", (0.1, 0.1, 0.6, 0.9), size=(500, 300))
    assert "partial" not in ask(api, photograph, k=4)
    monkeypatch.setattr(candidates, "PICTURES_MAX", 12)
    monkeypatch.setattr(lens, "ABOUT_LIMIT", 12)
    body = ask(api, photograph, k=4)
    assert len(body["results"]) < 4
    assert body["partial"] == "candidate-limit"


def test_annotation_search_finds_the_one_of_many_that_passes_the_filters(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.pins([f"jam-{n}" for n in range(200)], patch("blue", (0.1, 0.2, 0.7, 0.9)), ["blueberry"])
    words = ["blueberry", "flour", "sugar", "butter", "oven", "plate", "summer", "table"]
    kitchen.pin("tart", patch("grey", size=(410, 300)), annotations=words, categories={"bakery": 1.0})
    photograph = patch("blue", (0.15, 0.1, 0.65, 0.9))
    body = ask(api, photograph, k=2, category="bakery")
    assert states(body)["semantic"] == "used"
    assert [hit["pin_id"] for hit in body["results"]] == ["tart"]
    assert "partial" not in body
    monkeypatch.setattr(lens, "ABOUT_LIMIT", 12)
    body = ask(api, photograph, k=2, category="bakery")
    semantic = next(each for each in body["sources"] if each["source"] == "semantic")
    assert (semantic["state"], semantic["reason"]) == (
        "empty",
        "it found nothing that passes the filters among those it looked at",
    )
    assert body["partial"] == "candidate-limit"


def test_an_object_that_had_no_vote_in_time_is_said(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, scans = kitchen.reader.search, []

    def second_late(*asked: Any, **how: Any) -> Any:
        scans.append(how)
        if len(scans) == 2:
            raise SearchTimeout("0 s")
        return search(*asked, **how)

    monkeypatch.setattr(kitchen.reader, "search", second_late)
    body = ask(api, patch("blue"))
    assert states(body) == {"visual": "used", "semantic": "used", "scenes": "used"}
    assert body["partial"] == "time-limit"


def test_a_source_that_is_away_costs_only_itself(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Any:
        raise Retryable("the disk refuses")

    monkeypatch.setattr(kitchen.reader, "about", away)
    body = ask(api, patch("blue"))
    assert states(body)["semantic"] == "failed"
    assert body["partial"] == "source-missing"
    assert body["results"]
    kitchen.models.away = True
    problem(api.post("/lens", files={"image": ("x", patch("red"))}), 503, "unavailable")


def test_what_was_seen_before_the_time_limit_is_answered(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, scans = kitchen.reader.search, []

    def first_only(*asked: Any, **how: Any) -> Any:
        scans.append(how)
        if len(scans) > 1:
            raise SearchTimeout("0 s")
        return search(*asked, **how)

    monkeypatch.setattr(kitchen.reader, "search", first_only)
    body = ask(api, patch("blue"))
    assert "blueberry" in [one["annotation"] for one in body["understanding"]["annotations"]]
    assert states(body) == {"visual": "late", "semantic": "used", "scenes": "late"}
    assert body["partial"] == "source-missing"
    monkeypatch.setattr(kitchen.reader, "search", lambda *_, **__: first_only())
    problem(api.post("/lens", files={"image": ("x", patch("blue"))}), 503, "unavailable")


def test_a_lease_that_ran_out_between_two_sources_is_renewed(
    api: httpx.Client, kitchen: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, asked = kitchen.reader.about, []

    def once_late(*words: Any) -> Any:
        asked.append(words)
        if len(asked) == 1:
            raise LeaseExpired("the process stood still")
        return about(*words)

    monkeypatch.setattr(kitchen.reader, "about", once_late)
    body = ask(api, patch("blue"))
    assert states(body)["semantic"] == "used"
    assert "partial" not in body


def test_a_bad_photograph_is_told_what_is_wrong(api: httpx.Client) -> None:
    red = {"image": ("x", patch("red"))}
    problem(api.post("/lens", json={"pin_id": "a"}), 415, "wrong-content-type")
    problem(api.post("/lens", files={"image": ("x", b"no picture")}), 422, "bad-picture")
    problem(api.post("/lens", files=red, data={"k": "0"}), 422, "bad-field")
    problem(api.post("/lens", files=red, data={"k": "1000000"}), 422, "bad-field")
    problem(api.post("/lens", files=red, data={"box": "0,0,1,1"}), 422, "bad-field")
    problem(api.post("/lens", files=red, data={"buyable": "perhaps"}), 422, "bad-field")
    problem(api.post("/lens", files=red, data={"indexed_up_to": "x"}), 400, "bad-watermark")
    problem(api.post("/lens", data={"k": "5"}), 415, "wrong-content-type")


@dataclass(frozen=True)
class Found:
    pin_id: str
    object_index: int | None
    distance: int
    similarity: float
    record: ObjectRecord


def hit(number: int, code: bytes, annotations: Sequence[str] = (), similarity: float = 0.9) -> Found:
    record = ObjectRecord(
        pin_id=f"p{number}", codes=[Code(bits=code)], image_sha256=bytes([number]) * 32, annotations=annotations
    )
    return Found(record.pin_id, None, 3, similarity, record)


def apart(one: Found, other: Found) -> int:
    return (int.from_bytes(one.record.codes[0].bits) ^ int.from_bytes(other.record.codes[0].bits)).bit_count()


words = st.lists(st.sampled_from(["sofa", "lamp", "rug", "tea"]), max_size=4)
pins = st.lists(st.tuples(st.binary(min_size=8, max_size=8), words), min_size=1, max_size=14).map(
    lambda rows: [hit(number, code, about) for number, (code, about) in enumerate(rows)]
)
GUESSES = [Guess("sofa", 0.5, 1.0), Guess("lamp", 0.3, 0.9), Guess("rug", 0.2, 0.1)]
CHOICE = Choice(rank=0.6, likeness=0.4, agreement=0.7, news=1.3)


def oracle(
    found: dict[Source, list[Found]], shares: dict[Source, float], k: int, limit: float
) -> list[tuple[str, str]]:
    """The documented blend, by whole recomputation at each place."""
    chosen: list[tuple[Found, Source]] = []

    def open_(source: Source) -> list[tuple[int, Found]]:
        taken = [one for one, _ in chosen]
        return [
            (rank, one)
            for rank, one in enumerate(found[source])
            if all(one.pin_id != other.pin_id and apart(one, other) > limit * BITS for other in taken)
        ]

    while len(chosen) < k:
        able = [source for source in SOURCES if shares[source] and open_(source)]
        if not able:
            break
        place = len(chosen) + 1
        source = max(able, key=lambda each: shares[each] * place - sum(s == each for _, s in chosen))

        def marginal(each: tuple[int, Found], source: Source = source) -> float:
            rank, one = each
            like = max((max(0.0, 1 - 2 * apart(one, other) / BITS) for other, _ in chosen), default=0.0)
            about = [guess for guess in GUESSES if guess.annotation in one.record.annotations]
            agreement = max((guess.confidence for guess in about), default=0.0)
            news: float = sum(
                guess.confidence / 2 ** sum(guess.annotation in other.record.annotations for other, _ in chosen)
                for guess in about
            )
            return 0.6 * (1 - rank / len(found[source])) - 0.4 * like + 0.7 * agreement + 1.3 * news / 1.0

        best = max(open_(source), key=lambda each: (marginal(each), -each[1].distance, each[1].pin_id))
        chosen.append((best[1], source))
    return [(one.pin_id, source) for one, source in chosen]


@settings(max_examples=80, deadline=None)
@given(
    all_pins=pins,
    picks=st.tuples(*[st.lists(st.integers(0, 13), unique=True, max_size=8)] * 3),
    weights=st.tuples(*[st.integers(0, 4)] * 3),
    k=st.integers(1, 12),
    limit=st.floats(0, 0.4),
)
def test_blending_is_the_documented_one(
    all_pins: list[Found], picks: tuple[list[int], ...], weights: tuple[int, ...], k: int, limit: float
) -> None:
    found = {s: [all_pins[n] for n in each if n < len(all_pins)] for s, each in zip(SOURCES, picks, strict=True)}
    shares = {s: w / 16 if found[s] else 0.0 for s, w in zip(SOURCES, weights, strict=True)}
    ranked = {source: [Ranked(one, one.similarity) for one in each] for source, each in found.items()}
    blended = blending.blend(ranked, shares, k, near_duplicate=limit, guesses=GUESSES, choice=CHOICE)
    assert [(one.ranked.hit.pin_id, one.source) for one in blended] == oracle(found, shares, k, limit)


@given(
    st.lists(
        st.tuples(st.floats(0.4, 1.0), st.lists(st.sampled_from(["a", "b", "c"]), unique=True)), min_size=1, max_size=10
    )
)
def test_confidence_is_the_documented_share_of_votes(rows: list[tuple[float, list[str]]]) -> None:
    neighbours = [hit(n, b"\0" * 8, words, similarity) for n, (similarity, words) in enumerate(rows)]
    known = understand(Sight(b"", (), b""), neighbours, lambda names: (100, dict.fromkeys(names, 10)))
    votes = [(max(0.0, similarity - FLOOR) / (1 - FLOOR)) ** 3 for similarity, _ in rows]
    for guess in known.annotations:
        own = sum(vote for vote, (_, words) in zip(votes, rows, strict=True) if guess.annotation in words)
        assert math.isclose(guess.confidence, own / (sum(votes) + PRIOR), abs_tol=1e-9)
        assert math.isclose(guess.score, guess.confidence * math.log(101 / 11), abs_tol=1e-9)
    carried = {word for vote, (_, words) in zip(votes, rows, strict=True) if vote for word in words}
    assert {guess.annotation for guess in known.annotations} == carried
