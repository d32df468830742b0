"""Features against their formulas, written out one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.related.features import BASE, MAX_CATEGORIES, Pair, category_vector, feature_names, feature_rows, side_of
from discovery.related.model import LinearModel
from indexer.cooccurrence import Together
from indexer.records_pb2 import Code, DetectedObject, ObjectRecord

IDF = {"chair": 2.0, "oak": 1.0, "red": 0.5}
CATEGORIES = ("art", "design")


def idf(annotations: Sequence[str]) -> Mapping[str, float]:
    return {name: IDF.get(name, 0.1) for name in annotations}


def record(pin_id: str, code: bytes, **fields: object) -> ObjectRecord:
    codes = [Code(feature="e@1/fc6", bits=code)] if code else []
    return ObjectRecord(pin_id=pin_id, codes=codes, **fields)  # type: ignore[arg-type]


def row_of(query: ObjectRecord, candidate: ObjectRecord, together: Together | None = None) -> dict[str, float]:
    rows = feature_rows(side_of(query), [Pair(side_of(candidate), together)], idf, CATEGORIES)
    return dict(zip(feature_names(CATEGORIES), rows[0].tolist(), strict=True))


def test_every_feature_by_hand() -> None:
    query = record(
        "q",
        b"\xff\x00",
        board_id="b",
        annotations=["chair", "oak"],
        category_weights={"art": 3.0, "design": 1.0, "quotes": 0.2},
    )
    other = record("c", b"\xff\x0f", board_id="b", annotations=["chair", "red"], category_weights={"art": 1.0})
    query.codes.append(Code(feature="e@1/fc8", bits=b"\xf0"))
    other.codes.append(Code(feature="e@1/fc8", bits=b"\xff"))
    found = row_of(query, other, Together("c", weight=3.0, shared=2, overlap=0.4))
    art, design = 3.0 / 4.2, 1.0 / 4.2
    assert found == pytest.approx(
        {
            "co_occurrence": math.log(4),
            "board_overlap": 0.4,
            "same_board": 1.0,
            "category_overlap": art / math.hypot(art, design),
            "annotation_cosine": 4.0 / (math.sqrt(5) * math.sqrt(4.25)),
            "visual": 0.75,
            "visual_missing": 0.0,
            "class": 0.5,
            "class_missing": 0.0,
            "cross:art": art * 0.75,
            "cross:design": design * 0.75,
        }
    )


def test_what_is_absent_has_its_indicator() -> None:
    found = row_of(record("q", b""), record("c", b"\x01"))
    assert (found["visual"], found["visual_missing"], found["class"], found["class_missing"]) == (0, 1, 0, 1)
    assert not any(found[name] for name in BASE if not name.endswith("_missing"))
    assert row_of(record("q", b"\x01\x01"), record("c", b"\x01"))["visual_missing"] == 1  # of another width


def test_an_object_stands_for_the_query_with_its_own_codes() -> None:
    query, other = record("q", b"\x00"), record("c", b"\xff")
    item = DetectedObject(codes=[Code(feature="e@1/fc6", bits=b"\xfe")])
    rows = feature_rows(side_of(query, item=item), [Pair(side_of(other))], idf, ())
    assert rows[0, BASE.index("visual")] == 0.875


def test_category_vectors_are_sparse() -> None:
    assert category_vector({"a": 8.0, "b": 1.25, "c": 0.75}, 0.1) == {"a": 0.8, "b": 0.125}
    assert category_vector({}, 0.1) == {}
    assert category_vector({"a": 0.0}, 0.1) == {}
    with pytest.raises(ValueError, match="32 at most"):
        feature_names([str(n) for n in range(MAX_CATEGORIES + 1)])


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=20), st.binary(min_size=8, max_size=8))
def test_visual_similarity_is_that_of_single_bits(codes: list[bytes], query: bytes) -> None:
    pairs = [Pair(side_of(record(str(n), code))) for n, code in enumerate(codes)]
    rows = feature_rows(side_of(record("q", query)), pairs, idf, ())
    bits = [np.unpackbits(np.frombuffer(code, np.uint8)) for code in (query, *codes)]
    assert rows[:, BASE.index("visual")].tolist() == [float((bits[0] == one).mean()) for one in bits[1:]]


def test_a_score_is_the_weighted_sum_and_visual_weights_can_count_five_times() -> None:
    names = feature_names(CATEGORIES)
    model = LinearModel({"co_occurrence": 2.0, "visual": 1.0, "class": 0.5, "cross:art": 3.0})
    rows = np.arange(2 * len(names), dtype=float).reshape(2, -1)
    value = dict(zip(names, rows[1].tolist(), strict=True))
    plain = 2 * value["co_occurrence"] + value["visual"] + 0.5 * value["class"] + 3 * value["cross:art"]
    boosted = 2 * value["co_occurrence"] + 5 * (value["visual"] + 0.5 * value["class"] + 3 * value["cross:art"])
    assert model.scores(rows, names)[1] == pytest.approx(plain)
    assert model.scores(rows, names, boosted=True)[1] == pytest.approx(boosted)
