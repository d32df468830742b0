"""Calls beside the thread that begins them."""

from __future__ import annotations

import threading

import pytest

from indexer.background import Background


def test_one_call_runs_at_a_time() -> None:
    background, go = Background("test"), threading.Event()
    done: list[int] = []

    def call() -> None:
        assert go.wait(60)
        done.append(1)

    assert background.begin(call)
    assert not background.begin(call)
    go.set()
    while not background.begin(lambda: None):
        pass
    assert done == [1]


def test_what_a_call_raised_is_raised_once_by_the_next_to_begin() -> None:
    background = Background("test")

    def fail() -> None:
        raise ValueError

    assert background.begin(fail)
    with pytest.raises(ValueError):
        while not background.begin(lambda: None):
            pass
    assert background.begin(lambda: None)
