"""How a request is tried: retries with backoff around a circuit breaker, counted once when it ends.

Stands between triton_models/client.py, which says what one attempt does, and the errors of triton_models/statuses.py,
whose class decides what is tried again: TimedOut once, since the work may still be running at the server; CircuitOpen
and Closed never; every other Retryable up to the limit; Misconfigured and defects never.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import stamina

from dotstream.clock import Clock
from dotstream.errors import Retryable
from triton_models.breaker import Breaker, BreakerSettings, State
from triton_models.statuses import CircuitOpen, Closed, TimedOut, outcome_of

T = TypeVar("T")


@dataclass(frozen=True)
class RetrySettings:
    """How often and how long a request is tried before its error reaches the caller.

    Attributes:
        attempts: the first included.
        total_s: no attempt starts later than this after the first.
        wait_initial_s, wait_max_s, wait_jitter_s: the pause doubles from the first to the second, plus 0..jitter.
    """

    attempts: int = 4
    total_s: float = 30.0
    wait_initial_s: float = 0.05
    wait_max_s: float = 1.0
    wait_jitter_s: float = 0.05


class Observer(Protocol):
    """Who counts; called on the thread of the call, so it must be quick and safe to call from several threads."""

    def inferred(self, model: str, *, rows: int, seconds: float, retries: int, outcome: str) -> None:
        """One request ended: its rows, its time with retries and pauses, and one of statuses.OUTCOMES."""
        ...

    def breaker_changed(self, model: str, state: State) -> None:
        """A model's circuit breaker changed."""
        ...


class Unobserved:
    """The observer that counts nothing."""

    def inferred(self, model: str, *, rows: int, seconds: float, retries: int, outcome: str) -> None:
        pass

    def breaker_changed(self, model: str, state: State) -> None:
        pass


class GuardedCalls:
    """The requests to one model. Safe to use from several threads.

    Args:
        model: its name, for messages and the observer.
        retry: how often.
        breaker: when to stop asking.
        clock: monotonic time for the breaker and the observer; the pauses between attempts are real.
        observer: who counts.
    """

    def __init__(
        self, model: str, retry: RetrySettings, breaker: BreakerSettings, clock: Clock, observer: Observer
    ) -> None:
        self._model = model
        self._retry = retry
        self._clock = clock
        self._observer = observer
        self._breaker = Breaker(model, breaker, clock, lambda state: observer.breaker_changed(model, state))

    def run(self, attempt: Callable[[], T], rows: int) -> T:
        """Runs `attempt` until it succeeds or its error is final.

        Args:
            attempt: one try, from the request to the checked values; it must be safe to run again.
            rows: of the request, for the observer.

        Returns: what `attempt` returned.
        Raises: the last error of `attempt`, or CircuitOpen.
        """
        started = self._clock.monotonic()
        tries = itertools.count()
        ended: BaseException | None = None
        try:
            return self._retrying(attempt, tries)
        except BaseException as error:
            ended = error
            raise
        finally:
            seconds = self._clock.monotonic() - started
            retries = max(next(tries) - 1, 0)
            self._observer.inferred(self._model, rows=rows, seconds=seconds, retries=retries, outcome=outcome_of(ended))

    def _retrying(self, attempt: Callable[[], T], tries: itertools.count[int]) -> T:
        timeouts = itertools.count(1)

        def again(error: Exception) -> bool:
            if isinstance(error, TimedOut):
                return next(timeouts) < 2
            return isinstance(error, Retryable) and not isinstance(error, CircuitOpen | Closed)

        def once() -> T:
            next(tries)
            return self._breaker.call(attempt)

        retrying = stamina.RetryingCaller(
            attempts=self._retry.attempts,
            timeout=self._retry.total_s,
            wait_initial=self._retry.wait_initial_s,
            wait_max=self._retry.wait_max_s,
            wait_jitter=self._retry.wait_jitter_s,
        )
        return retrying(again, once)
