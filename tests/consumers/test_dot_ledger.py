"""The ledger of decisions over a real RocksDB, held against dictionaries: winners, what rests on what, coverage."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.dot_ledger import DotLedger, outcome_of
from dotstream.errors import Misconfigured
from indexer.dot_order import order_of
from indexer.records_pb2 import Dot, DotRecord
from producers.whole_topic import Logged

PINS = ["a", "b", "c", "ab", "ü\0x"]


def partition_of_pin(pin_id: str) -> int:
    return PINS.index(pin_id) % 2


@st.composite
def record(draw: st.DrawFn) -> DotRecord:
    deleted = draw(st.booleans())
    reasons = st.sampled_from([Dot.REASON_SIGNALS, Dot.REASON_LOW_SCORE, Dot.REASON_LOW_CONFORMITY])
    made = [
        Dot(object_index=number, shown=reason == Dot.REASON_SIGNALS, reasons=[reason])
        for number, reason in enumerate(draw(st.lists(reasons, max_size=2)))
    ]
    return DotRecord(
        pin_id=draw(st.sampled_from(PINS)),
        version=draw(st.integers(1, 2)),
        deleted=deleted,
        epoch=draw(st.integers(1, 2)),
        decision=draw(st.integers(1, 2)),
        dots=[] if deleted else made,
        witnesses=[] if deleted else draw(st.lists(st.sampled_from(PINS), unique=True, max_size=3)),
        index_objects=draw(st.integers(0, 300)),
    )


def logged(records: list[DotRecord]) -> list[Logged]:
    return [
        Logged(partition_of_pin(r.pin_id), offset, r.pin_id.encode(), r.SerializeToString(), 0)
        for offset, r in enumerate(records)
    ]


def check(ledger: DotLedger, records: list[DotRecord]) -> None:
    winners: dict[str, DotRecord] = {}
    for each in records:
        if each.pin_id not in winners or order_of(each) > order_of(winners[each.pin_id]):
            winners[each.pin_id] = each
    assert {pin: ledger.get(pin) for pin in PINS if ledger.get(pin)} == winners
    live = {pin: each for pin, each in winners.items() if not each.deleted}
    gone = {pin for pin, each in winners.items() if each.deleted}
    for number in (0, 1):
        own = {pin: each for pin, each in live.items() if partition_of_pin(pin) == number}
        queue = sorted((each.epoch, each.index_objects, pin) for pin, each in own.items())
        assert ledger.standing(number, None, 100) == sorted(queue, key=lambda k: (k[0], k[1], k[2].encode()))
        bereft = sorted((pin for pin, each in own.items() if gone & set(each.witnesses)), key=str.encode)
        assert ledger.bereft(number, None, 100) == bereft
        assert ledger.bereft(number, bereft[0], 100) == bereft[1:] if bereft else True
        assert {k: n for k, n in ledger.coverage(number).items() if n} == Counter(
            outcome_of(each) for each in own.values()
        )


@settings(max_examples=20, deadline=None)
@given(records=st.lists(record(), max_size=14), cut=st.integers(0, 14), again=st.integers(0, 14))
def test_it_holds_what_the_log_says_whatever_the_batches_and_repeats(
    records: list[DotRecord], cut: int, again: int
) -> None:
    log = logged(records)
    with tempfile.TemporaryDirectory() as folder:
        ledger = DotLedger(Path(folder))
        ledger.fold(log[:cut], {0: cut})
        ledger._winners(log[cut:])  # what a crash between the two writes leaves
        ledger.close()
        ledger = DotLedger(Path(folder))
        assert ledger.positions() == {0: cut}
        ledger.fold(log[min(again, cut) :], {0: len(log)})
        check(ledger, records)
        ledger.close()


def test_a_delete_that_is_taken_back_clears_the_marks_though_a_crash_comes_in_between(tmp_path: Path) -> None:
    rests = DotRecord(pin_id="a", version=1, witnesses=["c"])
    gone, back = DotRecord(pin_id="c", version=1, deleted=True), DotRecord(pin_id="c", version=2)
    log = logged([rests, gone, back])
    ledger = DotLedger(tmp_path)
    ledger.fold(log[:2], {0: 2})
    assert ledger.bereft(0, None, 9) == ["a"]
    ledger._winners(log[2:])
    ledger.close()
    ledger = DotLedger(tmp_path)
    ledger.fold(log[2:], {0: 3})
    check(ledger, [rests, gone, back])
    ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DotLedger]:
    made = DotLedger(tmp_path / "ledger")
    yield made
    made.close()


def test_a_null_forgets_and_what_is_no_record_is_left_out(ledger: DotLedger) -> None:
    known = DotRecord(pin_id="a", version=1, epoch=1, decision=1, witnesses=["b"])
    ledger.fold(logged([known]), {0: 1})
    strange = [
        Logged(0, 1, b"a", b"\xff", 0),
        Logged(0, 2, None, b"", 0),
        Logged(0, 3, b"c", known.SerializeToString(), 0),
    ]
    assert ledger.fold([*strange, Logged(0, 4, b"a", None, 0)], {0: 5}) == 3
    assert ledger.get("a") is None
    assert ledger.standing(0, None, 10) == []
    assert ledger.coverage(0) == {"no_objects": 0}


def test_another_topic_begins_anew(ledger: DotLedger) -> None:
    ledger.fold(logged([DotRecord(pin_id="a", version=1)]), {0: 1})
    ledger.restart("topic-b")
    assert (ledger.get("a"), ledger.positions(), ledger.topic_id) == (None, {}, "topic-b")


def test_a_ledger_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DotLedger(tmp_path)
    made.restart("topic-a")
    made.close()
    monkeypatch.setattr("consumers.dot_ledger.FORMAT", 2)
    with pytest.raises(Misconfigured, match="delete the folder"):
        DotLedger(tmp_path)


def test_the_outcome_of_a_pin_is_that_of_its_best_dot() -> None:
    low = Dot(reasons=[Dot.REASON_LOW_SCORE, Dot.REASON_LOW_ANNOTATION])
    nearly = Dot(reasons=[Dot.REASON_LOW_CONFORMITY])
    cold = Dot(shown=True, reasons=[Dot.REASON_COLD_START])
    assert outcome_of(DotRecord()) == "no_objects"
    assert outcome_of(DotRecord(dots=[low])) == "low_score"
    assert outcome_of(DotRecord(dots=[low, nearly])) == "low_conformity"
    assert outcome_of(DotRecord(dots=[low, nearly, cold])) == "cold_start"
