"""A circuit breaker: after repeated failures of a model, calls fail at once instead of waiting and piling up.

Stands in front of each model's calls in triton_models/client.py, inside the retries. The states (Nygard, Release It!):

    closed     calls pass; `failures` Retryable errors in a row open it
    open       calls raise CircuitOpen at once, for `open_s`; each opening in a row doubles that, up to `open_max_s`
    half_open  one call passes as a probe, others raise CircuitOpen; its success closes, its failure opens again

An answer that belongs to an earlier state (a call that began before the breaker opened) changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from dotstream.clock import Clock
from dotstream.errors import Retryable
from triton_models.statuses import CircuitOpen

T = TypeVar("T")


class State(StrEnum):
    """The three states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class BreakerSettings:
    """When a breaker opens and for how long.

    Attributes:
        failures: Retryable errors in a row that open it.
        open_s: seconds that the first opening lasts.
        open_max_s: the longest opening. Small, so that a server that came back is used again soon.
    """

    failures: int = 5
    open_s: float = 0.5
    open_max_s: float = 4.0


class Breaker:
    """One breaker, safe to share between threads.

    Args:
        name: what it guards, for messages.
        settings: when it opens.
        clock: monotonic time; nothing here sleeps.
        changed: called with the new state after each change, outside of the lock, on the thread that caused it.
    """

    def __init__(
        self, name: str, settings: BreakerSettings, clock: Clock, changed: Callable[[State], None] | None = None
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()
        self._state = State.CLOSED
        self._epoch = 0  # rises with each change of state, so that late results are known as such
        self._failed_in_a_row = 0
        self._opened_in_a_row = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """The present state; open turns to half open only when a call asks."""
        with self._lock:
            return self._state

    def call(self, work: Callable[[], T]) -> T:
        """Runs `work` if the breaker lets it pass, and takes note of how it ended.

        Returns: what `work` returned.
        Raises: CircuitOpen when it does not pass; whatever `work` raises. Only Retryable errors count as failures: any
            other error says that the server answered, and changes nothing.
        """
        epoch = self._enter()
        try:
            result = work()
        except Retryable:
            self._failed(epoch)
            raise
        except BaseException:
            self._undecided(epoch)
            raise
        self._succeeded(epoch)
        return result

    def _enter(self) -> int:
        with self._lock:
            change = self._half_open_when_due()
            if self._state is State.OPEN:
                raise CircuitOpen(self._name, self._open_until - self._clock.monotonic())
            if self._state is State.HALF_OPEN:
                if self._probing:
                    raise CircuitOpen(self._name, self._settings.open_s)
                self._probing = True
            epoch = self._epoch
        self._tell(change)
        return epoch

    def _half_open_when_due(self) -> State | None:
        if self._state is State.OPEN and self._clock.monotonic() >= self._open_until:
            return self._move(State.HALF_OPEN)
        return None

    def _failed(self, epoch: int) -> None:
        change = None
        with self._lock:
            if epoch == self._epoch:
                self._failed_in_a_row += 1
                if self._state is State.HALF_OPEN or self._failed_in_a_row >= self._settings.failures:
                    change = self._open()
        self._tell(change)

    def _succeeded(self, epoch: int) -> None:
        change = None
        with self._lock:
            if epoch == self._epoch:
                self._failed_in_a_row = 0
                self._opened_in_a_row = 0
                if self._state is State.HALF_OPEN:
                    change = self._move(State.CLOSED)
        self._tell(change)

    def _undecided(self, epoch: int) -> None:
        with self._lock:
            if epoch == self._epoch:
                self._probing = False

    def _open(self) -> State:
        longest = self._settings.open_max_s
        self._open_until = self._clock.monotonic() + min(longest, self._settings.open_s * 2.0**self._opened_in_a_row)
        self._opened_in_a_row = min(self._opened_in_a_row + 1, 32)  # 2**32 periods are past any longest opening
        return self._move(State.OPEN)

    def _move(self, state: State) -> State:
        self._state = state
        self._epoch += 1
        self._failed_in_a_row = 0
        self._probing = False
        return state

    def _tell(self, change: State | None) -> None:
        if change is not None and self._changed is not None:
            self._changed(change)
