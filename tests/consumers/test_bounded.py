"""The limit in time for calls that may not come back."""

from __future__ import annotations

import threading

import pytest

from consumers.bounded import BoundedCaller, Overdue
from dotstream.errors import Retryable


def test_a_call_returns_or_raises_what_the_work_does() -> None:
    caller = BoundedCaller()
    assert caller.call(lambda: 7, 10.0) == 7
    with pytest.raises(ZeroDivisionError):
        caller.call(lambda: 1 // 0, 10.0)
    with pytest.raises(TimeoutError, match="its own"):
        caller.call(_raises_a_timeout, 10.0)
    assert caller.call(lambda: 8, 10.0) == 8
    caller.close()


def _raises_a_timeout() -> None:
    raise TimeoutError("its own")


def test_a_call_that_does_not_come_back_is_left_behind() -> None:
    caller, gate, ended = BoundedCaller(), threading.Event(), threading.Event()

    def hangs() -> None:
        gate.wait(60.0)
        ended.set()

    with pytest.raises(Overdue) as caught:
        caller.call(hangs, 0.05)
    assert isinstance(caught.value, Retryable)
    assert caller.call(lambda: 9, 10.0) == 9, "the next call has a helper of its own"
    caller.close()
    gate.set()
    assert ended.wait(10.0)


def test_helpers_end_when_they_are_not_needed() -> None:
    caller, gate = BoundedCaller(), threading.Event()
    assert caller.call(lambda: threading.current_thread().name, 10.0) == "bounded"
    with pytest.raises(Overdue):
        caller.call(lambda: gate.wait(60.0), 0.05)
    caller.call(int, 10.0)
    helpers = [thread for thread in threading.enumerate() if thread.name == "bounded"]
    assert len(helpers) >= 2
    caller.close()
    gate.set()
    for helper in helpers:
        helper.join(10.0)
    assert not any(helper.is_alive() for helper in helpers)
