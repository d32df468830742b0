"""Re-ranking and grouping against plain oracles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from discovery.crops import Kept, on_grid
from discovery.rerank import E_HALF, Ranked, Weights, cosine, grouped, rerank
from indexer.records_pb2 import Code, ObjectRecord

BITS = 64


@dataclass(frozen=True)
class Found:
    pin_id: str
    object_index: int | None
    distance: int
    similarity: float
    record: ObjectRecord


def hit(pin_id: str, distance: int, code: bytes, annotations: Sequence[str] = (), sha: bytes | None = None) -> Found:
    record = ObjectRecord(
        pin_id=pin_id,
        codes=[Code(feature="f", bits=code)],
        annotations=annotations,
        image_sha256=sha or pin_id.encode(),
        category_weights={annotations[0]: 0.5} if annotations else {},
    )
    return Found(pin_id, None, distance, 1 - distance / BITS, record)


WORDS = ("a", "b", "c", "d")


def frequencies(names: Sequence[str]) -> tuple[int, Mapping[str, int]]:
    return 100, {name: 3 + 7 * WORDS.index(name) for name in names}


hits = st.lists(
    st.tuples(st.integers(0, BITS), st.binary(min_size=8, max_size=8), st.lists(st.sampled_from(WORDS), unique=True)),
    max_size=12,
).map(lambda rows: [hit(f"p{n}", *row) for n, row in enumerate(rows)])


@given(found=hits, own=st.lists(st.sampled_from(WORDS), unique=True), liked=st.floats(0, 100))
def test_the_score_is_the_documented_sum(found: list[Found], own: list[str], liked: float) -> None:
    query = ObjectRecord(pin_id="q", annotations=own, category_weights=dict.fromkeys(own, 1.0))
    weights = Weights()
    ranked = rerank(found, query, {"p0": liked}, weights, frequencies)
    vector = {name: math.log(101 / (1 + 3 + 7 * WORDS.index(name))) for name in WORDS}
    for one in ranked:
        theirs = one.hit.record.annotations
        q = np.array([vector[w] * (w in own) for w in WORDS])
        r = np.array([vector[w] * (w in theirs) for w in WORDS])
        norm = float(np.linalg.norm(q) * np.linalg.norm(r))
        shared = float(q @ r) / norm if norm else 0.0
        category = 1 / math.sqrt(len(own)) if theirs and theirs[0] in own else 0.0
        engaged = liked / (liked + E_HALF) if one.hit.pin_id == "p0" else 0.0
        expected = one.hit.similarity + 0.05 * shared + 0.03 * category + 0.10 * engaged
        assert math.isclose(one.score, expected, abs_tol=1e-9)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert {one.hit.pin_id for one in ranked} == {one.pin_id for one in found}


@given(found=hits, k=st.integers(1, 15), share=st.floats(0, 0.6))
def test_no_two_of_a_grouped_answer_are_near_copies_and_none_is_lost(found: list[Found], k: int, share: float) -> None:
    ranked = [Ranked(one, one.similarity) for one in found]
    kept = grouped(ranked, k, share)

    def apart(one: Ranked, other: Ranked) -> int:
        codes = [int.from_bytes(each.hit.record.codes[0].bits) for each in (one, other)]
        return (codes[0] ^ codes[1]).bit_count()

    assert len(kept) <= k
    for at, one in enumerate(kept):
        assert all(apart(one, other) > share * BITS for other in kept[:at])
    by_pin = {one.hit.pin_id: one for one in ranked}
    for one in kept:
        assert all(apart(one, by_pin[name]) <= share * BITS for name in one.duplicates)
    if len(kept) < k:
        named = [one.hit.pin_id for one in kept] + [name for one in kept for name in one.duplicates]
        assert sorted(named) == sorted(by_pin)


def test_the_same_picture_is_a_copy_whatever_its_code() -> None:
    one, other = hit("a", 1, b"\0" * 8, sha=b"same"), hit("b", 2, b"\xff" * 8, sha=b"same")
    kept = grouped([Ranked(one, 1.0), Ranked(other, 0.9)], 5, 0.0)
    assert [(each.hit.pin_id, each.duplicates) for each in kept] == [("a", ("b",))]


vectors = st.dictionaries(st.sampled_from(WORDS), st.floats(0.01, 1))


@given(one=vectors, other=vectors)
def test_cosine_is_numpys(one: dict[str, float], other: dict[str, float]) -> None:
    a, b = (np.array([each.get(word, 0.0) for word in WORDS]) for each in (one, other))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    assert math.isclose(cosine(one, other), float(a @ b) / norm if norm else 0.0, abs_tol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), max_size=60), st.integers(1, 12))
def test_what_is_kept_is_bounded_and_right(asked: list[tuple[int, int]], limit: int) -> None:
    kept: Kept[int, bytes] = Kept(limit, len)
    for key, _ in asked:
        value = kept.get(key, lambda size=key: b"x" * size)  # type: ignore[misc]
        assert value == b"x" * key
        assert kept.total <= limit
    assert kept.hits + kept.misses == len(asked)


def test_a_box_on_the_grid_stays() -> None:
    assert on_grid(on_grid((0.12345, 0.2, 0.7, 0.99))) == on_grid((0.12345, 0.2, 0.7, 0.99))
    assert on_grid((0.0, 0.0, 1.0, 1.0)) == (0.0, 0.0, 1.0, 1.0)
