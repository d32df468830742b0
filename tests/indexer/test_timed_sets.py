"""Bounded sets of timed events against a plain list of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import Damaged
from indexer.timed_sets import (
    EVICTED,
    MAX_TIME,
    SAVED,
    UNSAVED,
    TimedSet,
    members_of,
    order_of,
    rank_of,
    size_of,
    time_of,
    unpack,
)

Event = tuple[bytes, int]
events = st.lists(
    st.builds(
        lambda name, time, rank: (name, order_of(time, rank)),
        st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
        st.integers(0, 9),
        st.sampled_from([SAVED, SAVED, UNSAVED, EVICTED]),
    ),
    max_size=30,
)


def winners(seen: list[Event]) -> dict[bytes, int]:
    """Set semantics, without bounds: the greatest order of each name, where it is a save."""
    best: dict[bytes, int] = {}
    for name, order in seen:
        best[name] = max(order, best.get(name, -1))
    return {name: order for name, order in best.items() if rank_of(order) == SAVED}


def filled(seen: list[Event], capacity: int) -> TimedSet:
    kept = TimedSet()
    for name, order in seen:
        kept.apply(name, order, capacity)
    return kept


@given(events, st.randoms())
def test_within_the_bound_only_which_events_there_were_counts(seen: list[Event], random: object) -> None:
    kept = filled(seen, 100)
    assert kept.members == winners(seen)
    assert list(kept.members.items()) == sorted(kept.members.items(), key=lambda item: (item[1], item[0]))
    shuffled = [*seen, *seen]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert filled(shuffled, 100).pack() == kept.pack()


@given(events, events, st.integers(1, 3))
def test_beyond_the_bound_repetitions_change_nothing(seen: list[Event], more: list[Event], capacity: int) -> None:
    """Any stretch of the log may be read again, as after a crash, or written again, as by a producer."""
    once = filled(seen, capacity)
    assert len(once.members) <= capacity
    assert len(once.marks) <= capacity
    before = once.pack()
    for name, order in seen:
        assert once.apply(name, order, capacity) == []
    assert once.pack() == before
    again = filled([*seen, *seen, *more, *more], capacity)
    assert again.pack() == filled([*seen, *more], capacity).pack()


@given(events, st.integers(1, 3))
def test_what_is_told_makes_a_copy(seen: list[Event], capacity: int) -> None:
    """Whoever applies the told changes to an unbounded set has the same members: so a pin knows its boards."""
    kept, copy = TimedSet(), TimedSet()
    for name, order in seen:
        for change in kept.apply(name, order, capacity):
            copy.apply(*change, 1_000)
    assert copy.members == kept.members


def test_the_oldest_goes_and_stays_away() -> None:
    kept = TimedSet()
    for time, name in enumerate((b"a", b"b", b"c")):
        changes = kept.apply(name, order_of(time, SAVED), 2)
    assert changes == [(b"c", order_of(2, SAVED)), (b"a", order_of(0, EVICTED))]
    kept.apply(b"c", order_of(3, UNSAVED), 2)
    assert kept.apply(b"a", order_of(0, SAVED), 2) == []
    assert list(kept.members) == [b"b"]
    assert kept.apply(b"a", order_of(4, SAVED), 2) == [(b"a", order_of(4, SAVED))]


def test_a_set_shrinks_to_a_lower_capacity_and_tells_who_went() -> None:
    kept = filled([(name, order_of(time, SAVED)) for time, name in enumerate([b"a", b"b", b"c", b"d"])], 4)
    assert kept.apply(b"e", order_of(9, SAVED), 2) == [
        (b"e", order_of(9, SAVED)),
        *((name, order_of(time, EVICTED)) for time, name in enumerate([b"a", b"b", b"c"])),
    ]
    assert list(kept.members) == [b"d", b"e"]
    for name in (b"v", b"w", b"x", b"y"):
        kept.apply(name, order_of(10, UNSAVED), 4)
    kept.apply(b"z", order_of(11, UNSAVED), 2)
    assert list(kept.marks) == [b"y", b"z"]


@given(events)
def test_rows_give_the_set_back(seen: list[Event]) -> None:
    kept = filled(seen, 4)
    assert unpack(kept.pack()) == kept
    names, orders = members_of(kept.pack())
    assert dict(zip(names, orders, strict=True)) == kept.members
    assert size_of(kept.pack()) == len(kept.members)


def test_the_row_is_laid_out_as_documented() -> None:
    kept = TimedSet({b"pin-1": order_of(2, SAVED)}, {b"p": order_of(MAX_TIME, UNSAVED)}, 7)
    golden = "0700000000000000" + "01000000" + "01000000" + "0800000000000000" + "fdffffffffffff3f" + b"pin-1\0p".hex()
    assert kept.pack().hex() == golden
    assert unpack(bytes.fromhex(golden)) == kept
    assert unpack(None) == TimedSet()
    assert (time_of(order_of(MAX_TIME, EVICTED)), rank_of(order_of(5, EVICTED))) == (MAX_TIME, EVICTED)


@pytest.mark.parametrize("row", [b"", b"\0" * 15, b"\0" * 8 + b"\2\0\0\0" + b"\0" * 4 + b"\0" * 16 + b"only-one"])
def test_a_damaged_row_is_told(row: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(row)


def test_the_size_of_a_row_that_is_no_row() -> None:
    assert size_of(None) == 0
    with pytest.raises(Damaged):
        size_of(bytes(15))


@given(events, st.integers(1, 3), st.integers(1, 5))
def test_many_events_at_once_are_events_one_by_one(seen: list[Event], capacity: int, size: int) -> None:
    one_by_one, at_once = TimedSet(), TimedSet()
    for start in range(0, len(seen), size):
        told: dict[bytes, int] = {}
        for name, order in seen[start : start + size]:
            told |= one_by_one.apply(name, order, capacity)
        assert at_once.apply_all(seen[start : start + size], capacity) == told
        assert at_once.pack() == one_by_one.pack()
