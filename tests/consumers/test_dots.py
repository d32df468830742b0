"""The dots worker over real shards and a real reader: which dots are shown, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.dot_decider import DotSettings
from consumers.dots import NotActive, NotYetApplied
from consumers.ports import Message
from dotstream.clock import ManualClock
from indexer.reader import IndexReader, SearchResult
from indexer.records import delete_record
from indexer.records_pb2 import Dot
from tests.consumers.dots_place import BITS, RULE, Place, record_of


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "g1")
    yield made
    made.reader.close()
    made.shard.close()


def crowd(place: Place) -> None:
    """Pins that look like nothing else and have other annotations, so that an annotation can say something."""
    for number in range(10):
        place.log(record_of(f"far-{number}", seed=50 + number, annotations=[f"tree-{number}"]))


def test_a_dot_is_shown_when_every_signal_passes(place: Place) -> None:
    crowd(place)
    for number in range(3):
        place.log(record_of(f"near-{number}", flipped=number + 1))
    (decided,) = place.decide(place.log(record_of("pin")))
    (dot,) = decided.dots
    assert dot.shown
    assert list(dot.reasons) == [Dot.REASON_SIGNALS]
    assert dot.similarity == pytest.approx(1 - 1 / BITS)
    assert [dot.x, dot.y] == pytest.approx([0.4, 0.6])
    assert dot.category_conformity == 1.0
    assert (decided.epoch, decided.version, dict(decided.watermark)) == (3, 1, {0: 13})
    assert set(decided.witnesses) == {f"near-{n}" for n in range(3)}


@pytest.mark.parametrize(
    ("neighbours", "pin", "reason"),
    [
        ([{"flipped": 60 + n} for n in range(3)], {}, Dot.REASON_LOW_SIMILARITY),
        ([{"flipped": n, "annotations": ()} for n in range(3)], {}, Dot.REASON_LOW_ANNOTATION),
        ([{"flipped": 1, "category": c} for c in ("a", "b", "c")], {}, Dot.REASON_LOW_CONFORMITY),
        ([{"flipped": n} for n in range(3)], {"score": 0.5}, Dot.REASON_LOW_SCORE),
    ],
)
def test_a_suppressed_dot_names_the_signal_that_failed(
    place: Place, neighbours: list[dict[str, object]], pin: dict[str, object], reason: Dot.Reason
) -> None:
    crowd(place)
    for number, settings in enumerate(neighbours):
        place.log(record_of(f"near-{number}", **settings))  # type: ignore[arg-type]
    (decided,) = place.decide(place.log(record_of("pin", **pin)))  # type: ignore[arg-type]
    assert not decided.dots[0].shown
    assert list(decided.dots[0].reasons) == [reason]


def test_the_pin_itself_and_identical_pictures_are_no_witnesses(place: Place) -> None:
    place.log(record_of("copy", picture="same"))
    place.log(record_of("other", flipped=3))
    (decided,) = place.decide(place.log(record_of("pin", picture="same")))
    assert list(decided.witnesses) == ["other"]


def test_in_cold_start_the_score_alone_decides(place: Place) -> None:
    cold = DotSettings(rule=RULE, cold_start_objects=100)
    sure, unsure = place.log(record_of("sure")), place.log(record_of("unsure", seed=2, score=0.4))
    shown, hidden = place.decide(sure, unsure, settings=cold)
    assert (shown.dots[0].shown, list(shown.dots[0].reasons)) == (True, [Dot.REASON_COLD_START])
    assert (hidden.dots[0].shown, list(hidden.dots[0].reasons)) == (False, [Dot.REASON_LOW_SCORE])


def test_a_delete_takes_the_dots_away_and_a_stale_record_decides_nothing(place: Place) -> None:
    stale = place.log(record_of("pin"))
    gone = place.log(delete_record("pin", 2, "g1", 1))
    decided = place.decide(stale, gone)
    assert [(record.version, record.deleted) for record in decided] == [(2, True)]


def test_it_waits_for_the_index_and_then_tries_again_later(place: Place) -> None:
    ahead = place.log(record_of("pin"), apply=False)
    with pytest.raises(NotYetApplied):
        place.decide(ahead)


def test_garbage_is_left_to_the_index_worker(place: Place) -> None:
    good = place.log(record_of("pin"))
    bad = Message("objects.g1", 0, 0, 1, b"x", b"not a record")
    null = Message("objects.g1", 0, 0, 1, b"x", None)
    assert [record.pin_id for record in place.decide(bad, null, good)] == ["pin"]


def test_only_the_active_generation_decides(place: Place) -> None:
    with pytest.raises(NotActive):
        place.decide(place.log(record_of("pin")), active=False)


def test_a_record_with_objects_from_crops_is_decided_above_the_one_before_it(place: Place) -> None:
    first = record_of("pin")
    again = record_of("pin")
    again.revision = 1
    (before,), (after,) = place.decide(place.log(first)), place.decide(place.log(again))
    assert (before.decision, after.decision) == (1, 65_537)
    assert (before.index_objects, after.index_objects) == (1, 1)


def test_a_batch_may_take_longer_than_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    place = Place(tmp_path / "g1", clock)
    search = IndexReader.search

    def slow(reader: IndexReader, code: bytes, k: int, **asked: Any) -> SearchResult:
        clock.sleep(4.0)  # of a lease of 10
        return search(reader, code, k, **asked)

    monkeypatch.setattr(IndexReader, "search", slow)
    decided = place.decide(*(place.log(record_of(f"pin-{number}")) for number in range(8)))
    assert [record.pin_id for record in decided] == [f"pin-{number}" for number in range(8)]
    place.reader.close()
    place.shard.close()
