"""The tags and engagements workers over a log in memory and real states, held to plain dictionaries."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumers.engagements import EngagementsJob
from consumers.metrics import WorkerMetrics
from consumers.ports import Output, Partition
from consumers.state_worker import Job, StateWorker, StateWorkerSettings
from consumers.tags import TagsJob
from consumers.window import Backoff
from dotstream.clock import ManualClock
from indexer.engagement import DAY_MS, ENGAGEMENT, HALF_LIFE_DAYS, LATE_DAYS, WINDOW_DAYS, EngagementReader
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
from indexer.keyed_state import KeyedState
from indexer.tags import TAGS, Tagged, TagReader
from producers.events_pb2 import EngagementEvent, EventBox, TagEvent
from tests.support.memory_log import MemoryCluster, MemoryLog

PARTITIONS = 2
TODAY = 20_000
Maker = Callable[[Callable[[Partition, int], KeyedState], ManualClock, WorkerMetrics], Job[KeyedState]]


class Crash(BaseException):
    """The process ends here, without closing anything."""


class Place:
    """A worker of one topic on a cluster, its states in a folder."""

    def __init__(self, folder: Path, topic: str, store: Store, make: Maker) -> None:
        self.cluster = MemoryCluster(partitions=PARTITIONS, now_ms=TODAY * DAY_MS + 5)
        self.folder, self.topic, self.store, self.make = folder, topic, store, make
        self.clock = ManualClock()
        self.opened: list[KeyedState] = []
        self.crash_at: str | None = None

    def add(self, *events: TagEvent | EngagementEvent | bytes) -> None:
        for event in events:
            key = b"p" if isinstance(event, bytes) else event.pin_id.encode()
            value = event if isinstance(event, bytes) else event.SerializeToString()
            self.cluster.append(Output(self.topic, key, value))

    def _open(self, source: Partition, end: int) -> KeyedState:
        def at(step: str) -> None:
            if step == self.crash_at:
                self.crash_at = None
                raise Crash

        home = self.folder / str(source[1])
        state = KeyedState.open(
            home, self.store, partition=source[1], topic_id="t", clock=self.clock, lock_limit_s=0, at=at
        )
        self.opened.append(state)
        return state

    def run(self) -> None:
        """Steps until everything is read; or crashes."""
        metrics = WorkerMetrics(self.topic, CollectorRegistry())
        limits = StateWorkerSettings(batch_max=3, backoff=Backoff(0.1, 0.2), upkeep_every_s=0.0)
        log = MemoryLog(self.cluster, [self.topic], self.topic)
        worker = StateWorker(log, self.make(self._open, self.clock, metrics), self.clock, metrics, settings=limits)
        quiet = 0

        def stop() -> bool:
            nonlocal quiet
            quiet = quiet + 1 if worker.ready and not any(log.lag().values()) else 0
            return quiet > 4

        try:
            worker.run(stop)
        except Crash:
            for state in self.opened:
                state.abandon()

    def keys(self, family: str) -> list[bytes]:
        """All keys of a family, in all partitions."""
        found: list[bytes] = []
        for number in range(PARTITIONS):
            state = self._open((self.topic, number), 0)
            with state.database.scan(family) as rows:
                found += [key for key, _ in rows]
            state.close()
        return found

    def reader(self) -> KeyedReader:
        return KeyedReader(self.folder, self.store, PARTITIONS)

    def tags(self, pin_id: str) -> Sequence[Tagged]:
        reader = TagReader(self.reader())
        found = reader.of(pin_id)
        reader.close()
        return found

    def engaged(self, query: str, index: int | None, results: Sequence[str], today: int = TODAY) -> dict[str, float]:
        reader = EngagementReader(self.reader(), lambda: today * DAY_MS)
        found = dict(reader.of(query, index, results))
        reader.close()
        return found


@pytest.fixture
def experts(tmp_path: Path) -> Place:
    return Place(tmp_path / "states", "tags", TAGS, TagsJob)


@pytest.fixture
def people(tmp_path: Path) -> Place:
    return Place(tmp_path / "states", "engagements", ENGAGEMENT, EngagementsJob)


def tag(pin: str, product: str, at: int, *, gone: bool = False, **part: Any) -> TagEvent:
    kind = TagEvent.KIND_UNTAGGED if gone else TagEvent.KIND_TAGGED
    return TagEvent(pin_id=pin, product_pin_id=product, kind=kind, event_time=at, expert_id="e", **part)


def act(result: str, kind: str = "CLICK", *, day: int = TODAY, query: str = "q", user: str = "", **more: Any) -> Any:
    return EngagementEvent(
        pin_id=result,
        kind=f"KIND_{kind}",
        query_pin_id=query,
        user_id=user,
        event_time=day * DAY_MS + 1,
        **more,
    )


def test_the_latest_word_on_a_product_counts(experts: Place) -> None:
    box = EventBox(x0=0.125, y0=0.25, x1=0.5, y1=0.75)
    experts.add(
        tag("p", "lamp", 10, object_index=0),
        tag("p", "sofa", 11, object_index=1),
        tag("p", "sofa", 12, object_index=1, gone=True),
        tag("p", "rug", 14),
        tag("p", "vase", 13, box=box),
        tag("p", "lamp", 9, object_index=0, gone=True),
        tag("other", "lamp", 10),
        b"\xff\xff",
    )
    experts.run()
    assert list(experts.tags("p")) == [
        Tagged(None, None, "rug", 14),
        Tagged(None, (0.125, 0.25, 0.5, 0.75), "vase", 13),
        Tagged(0, None, "lamp", 10),
    ]
    assert [one.product_pin_id for one in experts.tags("other")] == ["lamp"]
    assert experts.tags("nobody") == []
    assert [m.topic for m in experts.cluster.all("tags.dead")] == ["tags.dead"]


def test_a_tag_of_a_clock_that_is_ahead_can_be_taken_back(experts: Place) -> None:
    logged = experts.cluster.now_ms
    experts.add(tag("p", "lamp", 9_999_999_999_999), tag("p", "rug", 9_999_999_999_999))
    experts.cluster.now_ms += 10
    experts.add(tag("p", "lamp", logged + 5, gone=True))
    experts.run()
    assert list(experts.tags("p")) == [Tagged(None, None, "rug", logged)]


def test_engagement_is_kept_for_each_query_object(people: Place) -> None:
    people.add(
        act("a", user="u1"),
        act("a", "LONG_CLICK", user="u1"),
        act("a", "SAVE", user="u2"),
        act("a", "IMPRESSION", user="u3"),
        act("b", "CLOSEUP", user="u1"),
        act("a", user="u1", query_object_index=3),
        act("a", user="u9", query=""),
        act("a", user="u1", query_object_index=3, box=EventBox(x1=0.5, y1=0.5), request_id="drawn on object 3"),
        act("a", user="u8", box=EventBox(x1=0.5, y1=0.5)),
    )
    people.run()
    assert people.engaged("q", None, ["a", "b", "c"]) == {"a": 6.0, "b": 0.25}
    assert people.engaged("q", 3, ["a", "b"]) == {"a": 2.0}
    assert people.engaged("other", None, ["a"]) == {}


def test_engagement_fades_and_ends(people: Place) -> None:
    people.add(act("a", user="u1"))
    people.run()
    later = people.engaged("q", None, ["a"], TODAY + 30)
    assert later["a"] == pytest.approx(0.5 ** (30 / HALF_LIFE_DAYS))
    assert people.engaged("q", None, ["a"], TODAY + WINDOW_DAYS) == {}
    people.cluster.now_ms += (WINDOW_DAYS + 1) * DAY_MS
    people.add(*(act("a", day=TODAY + WINDOW_DAYS + 1, query="new", user=str(n)) for n in range(4)))
    people.run()
    assert {key.split(b"\0")[1] for key in people.keys("counts")} == {b"new"}, "rows behind the window are let go"


def test_what_comes_twice_or_too_late_counts_once_or_never(people: Place) -> None:
    clicks = [act("a", user=f"u{n % 3}", request_id="r") for n in range(9)]
    unnamed = [act("a", position=2), act("a", position=2), act("a", position=3)]
    people.add(*clicks, *unnamed, act("a", day=TODAY - LATE_DAYS, user="u7"), act("a", day=TODAY + 50_000, user="u8"))
    people.run()
    assert people.engaged("q", None, ["a"]) == {"a": pytest.approx(3 + 2 + 1)}
    people.add(*clicks, act("a", user="late", day=TODAY - 2))
    people.run()
    expected = 6 + 0.5 ** (2 / HALF_LIFE_DAYS)
    assert people.engaged("q", None, ["a"])["a"] == pytest.approx(expected), "one clock ahead makes no other late"


@pytest.mark.parametrize("step", ["planned", "batch written", "page published", "log synced"])
def test_a_crash_changes_nothing(tmp_path: Path, step: str) -> None:
    random = Random(step)
    events = [
        act(
            random.choice("abc"),
            random.choice(["CLICK", "LONG_CLICK", "SAVE", "CLOSEUP"]),
            day=TODAY - random.randrange(5),
            user=f"u{random.randrange(4)}",
            request_id=f"r{random.randrange(3)}",
        )
        for _ in range(40)
    ]
    whole = Place(tmp_path / "whole", "engagements", ENGAGEMENT, EngagementsJob)
    whole.add(*events)
    whole.run()
    broken = Place(tmp_path / "broken", "engagements", ENGAGEMENT, EngagementsJob)
    broken.add(*events)
    broken.crash_at = step
    broken.run()
    broken.run()
    counted: dict[str, float] = {}
    weights = {"CLICK": 1.0, "LONG_CLICK": 2.0, "SAVE": 3.0, "CLOSEUP": 0.25}
    for kind, pin, _, _, day in {
        (EngagementEvent.Kind.Name(e.kind)[5:], e.pin_id, e.user_id, e.request_id, e.event_time // DAY_MS)
        for e in events
    }:
        counted[pin] = counted.get(pin, 0.0) + weights[kind] * 0.5 ** ((TODAY - day) / HALF_LIFE_DAYS)
    assert whole.engaged("q", None, list("abc")) == pytest.approx(counted)
    assert broken.engaged("q", None, list("abc")) == whole.engaged("q", None, list("abc"))


def test_layouts(people: Place) -> None:
    people.add(act("a", user="u1"))
    people.run()
    reader = people.reader()
    reader.refresh()
    row = reader.get_many("counts", [b"a\0q\0w"], owners=[b"a"])[0]
    assert row == struct.pack("<II", TODAY, 1_000)
    reader.close()
