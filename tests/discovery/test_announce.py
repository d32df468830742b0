"""What the event stream is told: nobody misses a pin by when it comes, or by when they do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from discovery.announce import Announcer
from discovery.feed import RESET, Feed, Reader
from discovery.metrics import ApiMetrics
from discovery.ports import Index
from dotstream.clock import Clock, ManualClock
from indexer.records_pb2 import DotRecord
from tests.discovery.stage import Stage, patch


class Interrupted:
    """The stage's index; `meanwhile` runs once, before the newest are looked at."""

    def __init__(self, stage: Stage, meanwhile: Callable[[], None]) -> None:
        self._index: Index = stage.reader
        self._meanwhile: Callable[[], None] | None = meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    def newest_places(self, n: int) -> Sequence[tuple[int, str]]:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self._index.newest_places(n)


def announcer(stage: Stage, feed: Feed, index: Index | None = None, clock: Clock | None = None) -> Announcer:
    metrics = ApiMetrics(CollectorRegistry())
    return Announcer(index or stage.reader, stage.services.dots, feed, metrics, clock or ManualClock(), refresh_s=1.0)


def listening(feed: Feed) -> Reader:
    reader = feed.open(None)
    assert reader is not None
    return reader


async def heard(reader: Reader) -> list[str]:
    return [event.kind for event in await reader.next(0.001)]


async def told(reader: Reader) -> list[tuple[str, str]]:
    """Kinds, and the pins that they are about; of a size the number."""
    events = [(event.kind, json.loads(event.data)) for event in await reader.next(0.001)]
    return [
        (kind, data.get("pin_id") or data.get("pin", {}).get("pin_id") or str(data.get("pins")))
        for kind, data in events
    ]


def decided(stage: Stage) -> None:
    """Takes in what was decided, as the dot view's thread does."""
    stage.services.dots.step(0.001)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_pins_are_announced_to_those_who_listen(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        watch = announcer(stage, feed)
        watch.look()
        reader = listening(feed)
        stage.pin("one", patch("red"))
        watch.look()
        watch.look()
        assert await heard(reader) == ["pin"]

    asyncio.run(main())
    stage.close()


def test_a_client_that_comes_before_the_first_look_loads_anew(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        watch = announcer(stage, feed)
        reader = listening(feed)
        stage.pin("one", patch("red"))
        watch.look()
        assert await heard(reader) == [RESET]
        stage.pin("two", patch("red"))
        watch.look()
        assert await heard(reader) == ["pin"]

    asyncio.run(main())
    stage.close()


def test_a_client_that_comes_during_a_look_for_nobody_loads_anew_when_a_pin_comes_with_it(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        readers: list[Reader] = []

        def meanwhile() -> None:
            readers.append(listening(feed))
            stage.pin("two", patch("red"))
            stage.reader.refresh()

        stage.pin("zero", patch("red"))
        index = Interrupted(stage, lambda: None)
        watch = announcer(stage, feed, cast(Index, index))
        watch.look()
        stage.pin("one", patch("red"))
        index._meanwhile = meanwhile
        watch.look()
        watch.look()
        assert await heard(readers[0]) == [RESET]

    asyncio.run(main())
    stage.close()


def test_a_decision_about_an_old_pin_is_no_arrival(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        watch = announcer(stage, feed)
        old = stage.pin("old", patch("red"))
        decided(stage)
        watch.look()
        reader = listening(feed)
        stage.dots(old)
        decided(stage)
        watch.look()
        assert await told(reader) == [("dots", "old")]

    asyncio.run(main())
    stage.close()


def test_all_deletes_are_told_once_the_index_has_them_and_nothing_that_they_bring_up(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        clock = ManualClock()
        watch = announcer(stage, feed, clock=clock)
        names = [f"pin-{n:03}" for n in range(300)]
        stage.pins(names, patch("red"))
        watch.look()
        reader = listening(feed)
        gone = names[120:]
        for name in gone:
            stage.log.put(DotRecord(pin_id=name, version=2, generation="g1", deleted=True))
        for _ in range(20):
            decided(stage)
        watch.look()
        assert await told(reader) == [], "the index, and what it answers, still have them"
        for name in gone[:50]:
            stage.delete(name)
        watch.look()
        assert sorted(await told(reader)) == [("deleted", name) for name in gone[:50]]
        for name in gone[50:]:
            stage.delete(name)
        watch.look()
        assert sorted(await told(reader)) == [("deleted", name) for name in gone[50:]]
        clock.sleep(1.0)
        watch.look()
        assert await told(reader) == [("size", "120")]

    asyncio.run(main())
    stage.close()


def test_more_pins_at_once_than_are_told_of_are_loaded_anew_and_that_not_all_the_time(stage: Stage) -> None:
    async def main() -> None:
        feed = Feed("boot")
        clock = ManualClock()
        watch = announcer(stage, feed, clock=clock)
        watch.look()
        reader = listening(feed)
        clock.sleep(0.5)
        for part in range(2):
            stage.pins([f"pin-{part}-{n:03}" for n in range(150)], patch("red"))
            watch.look()
            assert await heard(reader) == ["pin"] * 100
        for event in ((RESET, "None"), ("size", "300")):
            clock.sleep(1.0)
            watch.look()
            assert await told(reader) == [event]

    asyncio.run(main())
    stage.close()
