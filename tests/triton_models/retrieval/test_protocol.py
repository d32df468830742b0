"""Who is a query and who is gallery."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotstream.errors import Misconfigured
from triton_models.retrieval.protocol import Protocol, split

Things = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=2, max_size=60)


@given(Things, st.integers(1, 40), st.integers(0, 5))
def test_every_picture_is_on_one_side(things: list[tuple[str, int]], queries: int, seed: int) -> None:
    labels = [label for label, _ in things]
    objects = [f"{label}{number}" for label, number in things]
    answerable = {label for label in labels if len({o for x, o in zip(labels, objects, strict=True) if x == label}) > 1}
    if not answerable:
        with pytest.raises(Misconfigured, match="two objects"):
            split(labels, objects, Protocol(queries, seed=seed))
        return
    sides = split(labels, objects, Protocol(queries, seed=seed))
    both = [*sides.queries.tolist(), *sides.gallery.tolist()]
    assert sorted(both) == list(range(len(labels)))
    assert {labels[place] for place in sides.queries} <= answerable
    for place in sides.queries:
        others = {objects[one] for one in sides.gallery if labels[one] == labels[place]} - {objects[place]}
        assert others, "something relevant can be found"
    possible = sum(label in answerable for label in labels)
    lonely = sides.unanswerable - (len(labels) - possible)
    assert lonely >= 0
    assert len(sides.queries) + lonely == min(queries, len(labels) // 2, possible)
    again = split(labels, objects, Protocol(queries, seed=seed))
    assert (again.queries == sides.queries).all() and (again.gallery == sides.gallery).all()


def test_the_pascal_variant_takes_as_many_of_each_class() -> None:
    labels = ["cat"] * 80 + ["dog"] * 60 + ["cow"] * 10
    sides = split(labels, [str(place) for place in range(150)], Protocol(per_class=25))
    assert Counter(labels[place] for place in sides.queries) == {"cat": 25, "dog": 25, "cow": 5}


def test_the_seed_decides() -> None:
    labels = ["cat"] * 50
    objects = [str(place) for place in range(50)]
    first, second = (split(labels, objects, Protocol(20, seed=seed)) for seed in (0, 1))
    assert first.queries.tolist() != second.queries.tolist()


def test_a_request_for_no_query_is_refused() -> None:
    with pytest.raises(Misconfigured):
        Protocol(queries=0)
