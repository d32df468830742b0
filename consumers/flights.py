"""Single flight: of several batches that meet the same picture at once, one computes and the others wait for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Computations in the air, by key. Thread-safe; holds nothing once a flight has landed.

    Who claims a key first owns it and must call `land` or `crash`. An owner never waits for others before it has
    finished its own, so two batches that wait for each other's keys cannot block each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[bytes, Future[T]] = {}

    def claim(self, key: bytes) -> tuple[Future[T], bool]:
        """The flight of `key`, and whether the caller owns it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            return flight, True

    def land(self, key: bytes, result: T) -> None:
        """The owner's result, for everyone who waits."""
        self._take(key).set_result(result)

    def crash(self, key: bytes, error: BaseException) -> None:
        """The owner's error, for everyone who waits; the next claim starts anew."""
        self._take(key).set_exception(error)

    def _take(self, key: bytes) -> Future[T]:
        with self._lock:
            return self._flights.pop(key)
