"""The threads of a search: every unit is done once, errors end the work, helpers are never waited for in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from indexer.crew import ALONE, Crew


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_unit_is_done_once(threads: int) -> None:
    crew = Crew(threads)
    done: list[list[int]] = []

    def join() -> Callable[[int], None]:
        mine: list[int] = []
        done.append(mine)
        return mine.append

    crew.run(range(1000), join)
    assert sorted(unit for mine in done for unit in mine) == list(range(1000))
    assert len(done) <= threads
    crew.run([], join)
    crew.close()


def test_helpers_take_part_and_their_errors_end_the_work() -> None:
    crew = Crew(2)
    both = threading.Barrier(2)

    def join() -> Callable[[int], None]:
        def do(unit: int) -> None:
            both.wait(10)
            if threading.current_thread() is not threading.main_thread():
                raise ValueError(f"unit {unit}")

        return do

    with pytest.raises(ValueError, match="unit"):
        crew.run([0, 1], join)
    crew.close()


def test_the_callers_error_ends_the_work() -> None:
    done: list[int] = []

    def join() -> Callable[[int], None]:
        def do(unit: int) -> None:
            done.append(unit)
            raise KeyError(unit)

        return do

    with pytest.raises(KeyError):
        ALONE.run([3, 4, 5], join)
    assert done == [3]


def test_busy_helpers_are_not_waited_for() -> None:
    crew = Crew(2)
    busy, release = threading.Event(), threading.Event()

    def join_held() -> Callable[[int], None]:
        def do(unit: int) -> None:
            if threading.current_thread() is not other:
                busy.set()
            release.wait(30)

        return do

    other = threading.Thread(target=crew.run, args=([0, 1], join_held))
    other.start()
    assert busy.wait(10)
    done: list[int] = []
    crew.run([1, 2, 3], lambda: done.append)
    assert done == [1, 2, 3]
    release.set()
    other.join()
    crew.close()


def test_a_crew_has_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Crew(0)
