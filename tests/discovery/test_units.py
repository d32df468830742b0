"""The small parts: boxes, watermarks, the rate limit, the workroom, the event ring."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery import boxes, watermark
from discovery.boxes import BadBox
from discovery.feed import RESET, Feed
from discovery.rate import RateLimit
from discovery.watermark import Watermark
from discovery.work import Busy, TooSlow, Workroom
from dotstream.clock import ManualClock

unit = st.floats(0, 1, allow_nan=False)


@given(x0=unit, y0=unit, x1=unit, y1=unit)
def test_a_box_is_taken_exactly_when_it_has_an_inside(x0: float, y0: float, x1: float, y1: float) -> None:
    good = x1 - x0 >= boxes.MIN_SIDE and y1 - y0 >= boxes.MIN_SIDE
    if good:
        assert boxes.check([x0, y0, x1, y1]) == (x0, y0, x1, y1)
    else:
        with pytest.raises(BadBox):
            boxes.check([x0, y0, x1, y1])


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ([0.5, 0.1, 0.2, 0.9], "inverted"),
        ([0.1, 0.9, 0.5, 0.2], "inverted"),
        ([-0.1, 0, 0.5, 0.5], "outside"),
        ([0, 0, 1.01, 0.5], "outside"),
        ([0.2, 0.2, 0.2, 0.8], "empty"),
        ([0.1, 0.1, 0.5], "4 numbers"),
        ([0, 0, math.nan, 1], "finite"),
        ([0, 0, math.inf, 1], "finite"),
    ],
)
def test_a_bad_box_is_told_what_is_wrong(box: list[float], word: str) -> None:
    with pytest.raises(BadBox, match=word):
        boxes.check(box)


def test_boxes_are_read_from_text() -> None:
    assert boxes.parse("0.1,0.2,0.3,0.4") == boxes.parse(" [0.1, 0.2, 0.3, 0.4] ") == (0.1, 0.2, 0.3, 0.4)
    for text in ("", "a,b,c,d", "0.1,0.2", "1" * 300):
        with pytest.raises(BadBox):
            boxes.parse(text)


def test_the_dominant_object_is_the_largest_if_large_or_certain() -> None:
    small, large = (0.0, 0.0, 0.3, 0.3), (0.0, 0.0, 0.5, 0.5)
    assert boxes.dominant([]) is None
    assert boxes.dominant([(small, 0.5)]) is None
    assert boxes.dominant([(small, 0.9)]) == 0
    assert boxes.dominant([(small, 0.5), (large, 0.4)]) == 1
    assert boxes.dominant([((0.0, 0.0, 0.1, 0.1), 0.99), (small, 0.5)]) is None


@given(
    generation=st.text(min_size=1, max_size=20),
    offsets=st.dictionaries(st.integers(0, 2**31 - 1), st.integers(-1, 2**63 - 1), max_size=20),
)
def test_a_watermark_comes_back_as_it_was(generation: str, offsets: dict[int, int]) -> None:
    assert watermark.read(watermark.write(Watermark(generation, offsets))) == Watermark(generation, offsets)


@given(st.text(max_size=60))
def test_no_other_word_is_a_watermark(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        watermark.read(word)


def test_a_watermark_is_reached_when_every_partition_is() -> None:
    mark = Watermark("g1", {0: 5, 1: -1})
    assert mark.reached_by({0: 5})
    assert mark.reached_by({0: 9, 1: 2})
    assert not mark.reached_by({0: 4, 1: 2})
    assert not mark.reached_by({})


def test_the_rate_limit_lets_a_burst_pass_and_then_its_rate() -> None:
    clock = ManualClock()
    limit = RateLimit(10, 3, clock)
    assert [limit.wait_s("a") for _ in range(3)] == [0, 0, 0]
    assert limit.wait_s("a") == pytest.approx(0.1)
    assert limit.wait_s("b") == 0
    clock.sleep(0.1)
    assert limit.wait_s("a") == 0
    assert limit.wait_s("a") > 0
    assert RateLimit(0, 1, clock).wait_s("a") == 0


def test_a_full_workroom_says_so_and_a_slow_piece_is_given_up() -> None:
    gate = threading.Event()
    room = Workroom("test", threads=1, waiting=1)

    async def main() -> None:
        slow = asyncio.create_task(room.run(gate.wait, 5))
        await asyncio.sleep(0)
        with pytest.raises(TooSlow):
            await room.run(lambda: 1, 0.01)
        waiting = asyncio.create_task(room.run(lambda: 2, 5))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await room.run(lambda: 3, 5)
        gate.set()
        assert await slow
        assert await waiting == 2

        def failing() -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await room.run(failing, 5)

    try:
        asyncio.run(main())
    finally:
        gate.set()
        room.close()
    assert room.held == 0


def test_what_ends_while_its_time_is_found_to_be_over_is_answered() -> None:
    """A loop that comes late to the limit of a piece of work, which ends before the loop turns to it again."""
    gate, never = threading.Event(), threading.Event()
    room = Workroom("test", threads=1, waiting=0)
    limit_s = 0.01

    def work() -> int:
        gate.wait()
        return 7

    async def main() -> int:
        loop = asyncio.get_running_loop()
        piece = asyncio.create_task(room.run(work, limit_s))
        await asyncio.sleep(0)

        def end() -> None:
            gate.set()
            while room.held:
                never.wait(0.001)

        loop.call_later(2 * limit_s, end)
        late = loop.time() + 3 * limit_s
        while loop.time() < late:
            never.wait(0.001)
        return await piece

    try:
        assert asyncio.run(main()) == 7
    finally:
        gate.set()
        room.close()


def test_readers_get_what_comes_after_them_and_late_ones_are_told_to_load_anew() -> None:
    async def main() -> None:
        feed = Feed("boot", size=3, clients=2)
        feed.publish("dots", "0")
        reader = feed.open(None)
        assert reader is not None
        assert await reader.next(0.001) == []
        feed.publish("dots", "1")
        feed.publish("pin", "2")
        events = await reader.next(5)
        assert [(e.kind, e.data) for e in events] == [("dots", "1"), ("pin", "2")]
        for n in range(3, 8):
            feed.publish("dots", str(n))
        assert [e.kind for e in await reader.next(5)] == [RESET]
        resumed = feed.open("boot-6")
        assert resumed is not None
        assert [e.data for e in await resumed.next(5)] == ["7"]
        assert feed.open(None) is None, "only two clients may listen"
        resumed.close()
        for last in ("other-6", "boot-99", "boot-1", "nonsense", "boot-x"):
            late = feed.open(last)
            assert late is not None
            assert [e.kind for e in await late.next(5)] == [RESET], last
            late.close()
        feed.skip()
        skipped = feed.open("boot-7")
        assert skipped is not None
        assert [e.kind for e in await skipped.next(5)] == [RESET]
        waiting = asyncio.create_task(skipped.next(30))
        await asyncio.sleep(0)
        feed.close()
        assert await waiting == []
        assert feed.open(None) is None

    asyncio.run(main())


def test_publishing_from_another_thread_wakes_a_reader() -> None:
    async def main() -> None:
        feed = Feed("boot")
        reader = feed.open(None)
        assert reader is not None
        waiting = asyncio.create_task(reader.next(30))
        await asyncio.sleep(0)
        thread = threading.Thread(target=feed.publish, args=("pin", "1"))
        thread.start()
        assert [e.data for e in await asyncio.wait_for(waiting, 10)] == ["1"]
        thread.join()
        reader.close()
        assert feed.clients == 0

    asyncio.run(main())
