"""The dot view over a real RocksDB, driven by a log of plain values: order, restart, rebuild, readiness, bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery import dot_view
from discovery.dot_store import DotStore
from discovery.dot_view import DotView
from dotstream.errors import Misconfigured, Retryable, Unavailable
from indexer.dot_order import order_of
from indexer.errors import LockHeld
from indexer.records_pb2 import Dot, DotRecord
from producers.whole_topic import Extent, Logged


class ListLog:
    """Topic `dots` as lists in memory; readers see what was put, in order."""

    def __init__(self, partitions: int = 2, topic_id: str = "topic-a") -> None:
        self.topic_id = topic_id
        self.parts: dict[int, list[tuple[bytes | None, bytes | None]]] = {p: [] for p in range(partitions)}
        self.at: dict[int, int] = {}
        self.away = False
        self.opened = 0
        self.told_end: set[int] = set()

    def put(self, partition: int, record: DotRecord | None, key: bytes | None = None) -> None:
        own = record.pin_id.encode() if record is not None and key is None else key
        self.parts[partition].append((own, None if record is None else record.SerializeToString()))

    def open(self) -> Extent:
        if self.away:
            raise Unavailable("the broker is away")
        self.opened += 1
        return Extent(self.topic_id, dict.fromkeys(self.parts, 0), {p: len(r) for p, r in self.parts.items()})

    def start(self, positions: Mapping[int, int]) -> None:
        self.at = dict(positions)

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Logged], Mapping[int, int]]:
        if self.away:
            raise Unavailable("the broker is away")
        found: list[Logged] = []
        moved: dict[int, int] = {}
        for partition, start in self.at.items():
            for offset, (key, value) in enumerate(self.parts[partition][start:], start):
                if len(found) == limit:
                    break
                found.append(Logged(partition, offset, key, value, 0))
                moved[partition] = offset + 1
        self.at.update(moved)
        return found, moved

    def end(self, partition: int) -> int:
        return len(self.parts[partition])

    def close(self) -> None:
        self.at = {}


def dots(pin_id: str, version: int = 1, *, epoch: int = 1, decision: int = 1, deleted: bool = False) -> DotRecord:
    own = [] if deleted else [Dot(object_index=0, x=0.5, y=0.5, label="Chair", shown=True)]
    return DotRecord(
        pin_id=pin_id, version=version, epoch=epoch, decision=decision, deleted=deleted, generation="g1", dots=own
    )


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def view(tmp_path: Path, log: ListLog) -> Iterator[DotView]:
    view = DotView(DotStore(tmp_path / "dots"), log)
    yield view
    view.close()


def test_it_answers_what_the_topic_says(view: DotView, log: ListLog) -> None:
    log.put(0, dots("a"))
    log.put(1, dots("b"))
    view.step(0)
    assert view.get("a") == dots("a")
    assert view.get("b") == dots("b")
    assert view.get("c") is None


def test_a_delete_stays_as_a_mark_that_older_dots_do_not_pass(view: DotView, log: ListLog) -> None:
    log.put(0, dots("a", 3))
    log.put(0, dots("a", 5, deleted=True))
    log.put(0, dots("a", 4))
    log.put(0, dots("a", 5, decision=9))
    view.step(0)
    found = view.get("a")
    assert found is not None
    assert found.deleted
    assert found.version == 5
    log.put(0, dots("a", 6))
    view.step(0)
    assert view.get("a") == dots("a", 6)


def test_a_null_forgets_the_pin(view: DotView, log: ListLog) -> None:
    log.put(0, dots("a", deleted=True))
    log.put(0, None, b"a")
    view.step(0)
    assert view.get("a") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=12
    ),
    batch=st.integers(1, 5),
)
def test_whatever_the_order_the_greatest_wins(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    records: list[tuple[int, bool, int, int]],
    batch: int,
) -> None:
    log = ListLog(partitions=1)
    every = [dots("a", v, epoch=e, decision=d, deleted=gone) for v, gone, e, d in records]
    for record in every:
        log.put(0, record)
    with monkeypatch.context() as patched:
        patched.setattr(dot_view, "BATCH", batch)
        view = DotView(DotStore(tmp_path_factory.mktemp("dots") / "dots"), log)
        try:
            for _ in range(len(every) // batch + 1):
                view.step(0)
            assert view.get("a") == max(every, key=lambda r: (r.version, r.deleted, r.epoch, r.decision))
        finally:
            view.close()


def test_order_is_version_then_deleted_then_epoch_then_decision() -> None:
    rising = [
        dots("a", 1, epoch=9, decision=9),
        dots("a", 2, epoch=1, decision=9),
        dots("a", 2, epoch=2, decision=1),
        dots("a", 2, epoch=2, decision=2),
        dots("a", 2, epoch=1, decision=1, deleted=True),
        dots("a", 3, epoch=1, decision=1),
    ]
    assert all(order_of(a) < order_of(b) for a, b in itertools.pairwise(rising))


def test_a_restart_resumes_from_the_stored_offsets(tmp_path: Path, log: ListLog) -> None:
    log.put(0, dots("a"))
    first = DotView(DotStore(tmp_path / "dots"), log)
    first.step(0)
    first.close()
    log.put(0, dots("b"))
    second = DotView(DotStore(tmp_path / "dots"), log)
    second.step(0)
    assert second.applied == 1
    assert second.rebuilds == 0
    assert second.get("a") == dots("a")
    assert second.get("b") == dots("b")
    second.close()


@pytest.mark.parametrize("what", ["another topic", "offsets past the end", "a partition is gone"])
def test_another_log_forces_a_rebuild(tmp_path: Path, what: str) -> None:
    old = ListLog(partitions=2)
    for n in range(5):
        old.put(n % 2, dots(f"old-{n}"))
    first = DotView(DotStore(tmp_path / "dots"), old)
    first.step(0)
    first.close()
    new = ListLog(partitions=1 if what == "a partition is gone" else 2)
    new.topic_id = "topic-b" if what == "another topic" else "topic-a"
    rows = 5 if what != "offsets past the end" else 1
    for n in range(rows):
        new.put(0, dots(f"new-{n}"))
    second = DotView(DotStore(tmp_path / "dots"), new)
    second.step(0)
    assert second.rebuilds == 1
    assert second.get("old-0") is None
    assert second.get("new-0") == dots("new-0")
    second.close()


def test_it_is_ready_once_it_has_what_was_there_at_the_start(
    view: DotView, log: ListLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot_view, "BATCH", 2)
    for n in range(5):
        log.put(0, dots(f"p{n}"))
    view.step(0)
    assert not view.ready
    assert view.behind == 3
    view.step(0)
    log.put(0, dots("later"))
    view.step(0)
    assert view.ready
    assert view.behind == 0


def test_an_empty_topic_is_ready_at_once(view: DotView) -> None:
    view.step(0)
    assert view.ready


def test_strangers_records_are_counted_and_left_out(view: DotView, log: ListLog) -> None:
    log.parts[0] += [(b"x", b"\xff\xff garbage"), (None, b""), (b"\xff", b""), (b"y", dots("z").SerializeToString())]
    log.put(0, dots("good"))
    view.step(0)
    assert view.undecodable == 4
    assert view.get("good") == dots("good")
    assert view.get("z") is None


def test_a_broker_that_goes_away_is_asked_again(view: DotView, log: ListLog) -> None:
    log.put(0, dots("a"))
    view.step(0)
    log.away = True
    with pytest.raises(Retryable):
        view.step(0)
    assert view.get("a") == dots("a")
    log.away = False
    log.put(0, dots("b"))
    view.step(0)
    assert view.get("b") == dots("b")
    assert log.opened == 2


def test_changes_are_offered_once_and_bounded(view: DotView, log: ListLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_view, "PENDING_LIMIT", 3)
    woken: list[bool] = []
    view.wake = lambda: woken.append(True)
    for n in range(5):
        log.put(0, dots(f"p{n}"))
    log.put(0, dots("p2", 2))
    view.step(0)
    assert view.changed() == ["p3", "p4", "p2"]
    assert view.changed() == []
    assert view.unnoticed == 2
    assert woken


def test_equal_records_are_no_news(view: DotView, log: ListLog) -> None:
    log.put(0, dots("a"))
    view.step(0)
    view.changed()
    log.put(0, dots("a"))
    view.step(0)
    assert view.changed() == []


def test_the_thread_follows_and_ends(tmp_path: Path, log: ListLog) -> None:
    view = DotView(DotStore(tmp_path / "dots"), log)
    log.put(0, dots("a"))
    view.start()
    assert view.wait_ready(10)
    view.close()
    reopened = DotStore(tmp_path / "dots")
    assert reopened.get("a") == dots("a")
    assert reopened.live() == 1
    assert reopened.positions() == {0: 1}
    reopened.close()


def test_two_processes_cannot_hold_one_folder(tmp_path: Path) -> None:
    store = DotStore(tmp_path / "dots")
    with pytest.raises(LockHeld):
        DotStore(tmp_path / "dots")
    store.close()


def test_another_format_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("discovery.dot_store.FORMAT", 2)
        store = DotStore(tmp_path / "dots")
        store.restart("topic-a")
        store.commit([("a", dots("a"))], {0: 1})
        store.close()
    with pytest.raises(Misconfigured, match="format 2"):
        DotStore(tmp_path / "dots")
    monkeypatch.setattr("discovery.dot_store.FORMAT", 2)
    again = DotStore(tmp_path / "dots")
    assert again.get("a") == dots("a")
    again.close()
