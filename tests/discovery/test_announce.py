"""What the event stream is told: nobody misses a pin by when it comes, or by when they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from discovery.announce import Announcer
from discovery.feed import RESET, Feed, Reader
from discovery.metrics import ApiMetrics
from discovery.ports import Found, Index
from tests.discovery.stage import Stage, patch


class Interrupted:
    """The stage's index; `meanwhile` runs once, before `newest` looks."""

    def __init__(self, stage: Stage, meanwhile: Callable[[], None]) -> None:
        self._index: Index = stage.reader
        self._meanwhile: Callable[[], None] | None = meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    def newest(self, n: int) -> Sequence[Found]:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self._index.newest(n)


def announcer(stage: Stage, feed: Feed, index: Index | None = None) -> Announcer:
    metrics = ApiMetrics(CollectorRegistry())
    return Announcer(index or stage.reader, stage.services.dots, feed, metrics, refresh_s=1.0)


def listening(feed: Feed) -> Reader:
    reader = feed.open(None)
    assert reader is not None
    return reader


async def heard(reader: Reader) -> list[str]:
    return [event.kind for event in await reader.next(0.001)]


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
