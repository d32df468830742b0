"""Votes of crops: the same set in any order, bounded; and the boxes that people agree on."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import crop_rows
from consumers.crop_rows import WINDOW_MS, Box, Vote, agreed, joined, pack, unpack, vote_of
from indexer.errors import ForeignFormat
from producers.events_pb2 import EngagementEvent, EventBox

CHAIR: Box = (0.125, 0.25, 0.5, 0.75)
LAMP: Box = (0.625, 0.125, 0.875, 0.5)
NOW = 12


def vote(person: str, box: Box = CHAIR, time: int = 1) -> Vote:
    return Vote(time, person.encode().ljust(8, b"\0"), box)


def near(box: Box, shift: float) -> Box:
    return box[0] + shift, box[1] + shift, box[2] + shift, box[3] + shift


votes = st.builds(
    vote,
    st.sampled_from("abcdef"),
    st.sampled_from([CHAIR, LAMP, near(CHAIR, 0.25), near(LAMP, 0.125)]),
    st.integers(1, NOW) | st.integers(NOW - WINDOW_MS - 2, NOW - WINDOW_MS + 2),
)


@settings(max_examples=200, deadline=None)
@given(log=st.lists(votes, max_size=40), seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_a_row_is_the_same_whatever_the_order_the_batches_and_the_repeats(
    log: list[Vote], seed: int, cuts: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(crop_rows, "PER_PIN", 6)
        patched.setattr(crop_rows, "PER_PERSON", 2)
        whole = joined(log, NOW)
        shuffled = random.Random(seed).sample(log, len(log)) + log[:5]
        row: list[Vote] = []
        edges = sorted({0, *(min(cut, len(shuffled)) for cut in cuts), len(shuffled)})
        for first, last in itertools.pairwise(edges):
            row = unpack(pack(joined([*row, *shuffled[first:last]], NOW)))
        assert row == whole
        assert len(whole) <= 6
        assert all(sum(each.person == one.person for each in whole) <= 2 for one in whole)
        assert all(each.time >= NOW - WINDOW_MS for each in whole)


def test_a_row_of_another_version_is_refused() -> None:
    with pytest.raises(ForeignFormat, match="format 2"):
        unpack(b"\2")


def test_people_are_users_else_requests_else_single_events() -> None:
    def person(time: int = 5, user_id: str = "", request_id: str = "") -> bytes:
        box = EventBox(x0=0.1, y0=0.2, x1=0.3, y1=0.4)
        event = EngagementEvent(box=box, event_time=time, user_id=user_id, request_id=request_id)
        return vote_of(event, 10).person

    assert person(user_id="u", request_id="1") == person(user_id="u", request_id="2", time=6)
    assert person(request_id="u") == person(request_id="u", time=6) != person(user_id="u")
    assert person() == person() != person(time=6)
    assert vote_of(EngagementEvent(box=EventBox(x1=1, y1=1), event_time=99), 10).time == 10


def test_enough_people_on_one_box_agree_on_its_median() -> None:
    row = joined(
        [vote(person, near(CHAIR, shift)) for person, shift in zip("abc", (0.0, 0.02, 0.01), strict=True)], NOW
    )
    (box,) = agreed(row, people_min=3, iou_min=0.6)
    assert box.people == 3
    assert box.box == pytest.approx(near(CHAIR, 0.01), abs=1e-6)
    assert agreed(row, people_min=4, iou_min=0.6) == []


def test_one_person_who_crops_often_is_one_person() -> None:
    row = joined([vote("a", near(CHAIR, n / 100), time=n) for n in range(4)], NOW)
    assert agreed(row, people_min=2, iou_min=0.6) == []


def test_two_things_on_one_pin_are_two_boxes_the_more_wanted_first() -> None:
    row = joined([*(vote(person, LAMP) for person in "abcd"), *(vote(person) for person in "abc")], NOW)
    assert [(each.box, each.people) for each in agreed(row, people_min=3, iou_min=0.6)] == [(LAMP, 4), (CHAIR, 3)]


def test_of_a_person_who_moved_the_box_the_newest_counts() -> None:
    moved = near(CHAIR, 0.03)
    row = joined([vote("a", CHAIR, 1), vote("a", moved, 2), vote("b", moved, 1), vote("c", moved, 1)], NOW)
    (box,) = agreed(row, people_min=3, iou_min=0.6)
    assert box.box == moved
