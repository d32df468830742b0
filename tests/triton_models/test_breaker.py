"""The circuit breaker, on a clock that the tests move."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from dotstream.errors import Misconfigured, Unavailable
from triton_models.breaker import Breaker, BreakerSettings, State
from triton_models.statuses import CircuitOpen

SETTINGS = BreakerSettings(failures=3, open_s=1.0, open_max_s=4.0)


class Bench:
    """A breaker with its clock, the changes it told, and calls that end as wanted."""

    def __init__(self, settings: BreakerSettings = SETTINGS) -> None:
        self.clock = ManualClock()
        self.changes: list[State] = []
        self.breaker = Breaker("model", settings, self.clock, self.changes.append)
        self.sent = 0

    def call(self, error: Exception | None = None) -> None:
        def work() -> None:
            self.sent += 1
            if error is not None:
                raise error

        self.breaker.call(work)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(Unavailable):
                self.call(Unavailable("down"))

    def refused(self) -> float:
        sent = self.sent
        with pytest.raises(CircuitOpen) as caught:
            self.call()
        assert self.sent == sent
        return caught.value.retry_after_s


def test_failures_in_a_row_open_it_and_a_success_between_starts_the_count_again() -> None:
    bench = Bench()
    bench.fail(2)
    bench.call()
    bench.fail(2)
    assert bench.changes == []
    bench.fail()
    assert bench.changes == [State.OPEN]
    assert bench.refused() == pytest.approx(1.0)


def test_a_probe_that_succeeds_closes_it() -> None:
    bench = Bench()
    bench.fail(3)
    bench.clock.sleep(1.0)
    bench.call()
    assert bench.changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    bench.fail(2)
    assert bench.breaker.state is State.CLOSED


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    bench = Bench()
    bench.fail(3)
    for pause in (1.0, 2.0, 4.0, 4.0):
        assert bench.refused() == pytest.approx(pause)
        bench.clock.sleep(pause)
        bench.fail()
    bench.clock.sleep(4.0)
    bench.call()
    bench.fail(3)
    assert bench.refused() == pytest.approx(1.0), "a success starts the pauses again"


def test_one_probe_at_a_time() -> None:
    bench = Bench()
    bench.fail(3)
    bench.clock.sleep(1.0)
    refused: list[float] = []
    bench.breaker.call(lambda: refused.append(bench.refused()))
    assert len(refused) == 1
    assert bench.breaker.state is State.CLOSED


@pytest.mark.parametrize("error", [Misconfigured("bad shape"), KeyboardInterrupt()])
def test_an_error_that_says_nothing_about_the_server_decides_nothing(error: BaseException) -> None:
    bench = Bench()
    bench.fail(2)

    def work() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(type(error)):
            bench.breaker.call(work)
    assert bench.breaker.state is State.CLOSED
    bench.fail()
    bench.clock.sleep(1.0)
    with pytest.raises(type(error)):
        bench.breaker.call(work)
    bench.call()
    assert bench.breaker.state is State.CLOSED, "the undecided probe let the next one pass"


def test_results_of_calls_that_began_in_an_earlier_state_change_nothing() -> None:
    bench = Bench()

    def outer() -> None:
        bench.fail(3)  # opens while this call still runs

    bench.breaker.call(outer)
    assert bench.breaker.state is State.OPEN, "the late success must not close it"

    def late() -> None:
        bench.clock.sleep(1.0)
        bench.fail()
        raise Unavailable("late")

    bench = Bench()
    bench.fail(2)
    with pytest.raises(Unavailable):
        bench.breaker.call(late)
    assert bench.changes == [State.OPEN]


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(["ok", "fail"]), st.floats(0.1, 3.0)), max_size=60))
def test_it_follows_its_model(steps: list[str | float]) -> None:
    bench = Bench()
    model = _Model(bench.clock.monotonic)
    for step in steps:
        if isinstance(step, float):
            bench.clock.sleep(step)
            continue
        sent = bench.sent
        with contextlib.suppress(Unavailable):
            bench.call(Unavailable("down") if step == "fail" else None)
        assert (bench.sent > sent) == model.passes(step == "ok")
        assert bench.breaker.state == model.state


class _Model:
    """The breaker for one thread, in plain words."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.state = State.CLOSED
        self.row = 0
        self.pause = 1.0
        self.until = 0.0

    def passes(self, succeeds: bool) -> bool:
        if self.state is State.OPEN and self.now() < self.until:
            return False
        if succeeds:
            self.state, self.row, self.pause = State.CLOSED, 0, 1.0
            return True
        self.row += 1
        if self.state is State.OPEN or self.row >= 3:
            self.state, self.row, self.until = State.OPEN, 0, self.now() + self.pause
            self.pause = min(4.0, self.pause * 2)
        return True
