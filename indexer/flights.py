"""What a shard's owner still has to write into the log: winners of stale pins, and nulls for deletes past retention.

Marks lie in the catalogue; which of them are on their way is known in memory only. A restart forgets that, and what
was on its way is read back before the owner has caught up and is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from indexer.arbitration import Outcome
from indexer.catalogue import Catalogue
from indexer.database import I64
from indexer.entries import Row
from indexer.records import Order


class Flights:
    """Pending marks, due nulls, and at most one record of a pin in flight."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._in_flight: dict[str, Order | None] = {}
        with catalogue.scan("pending") as found:
            self._any_pending = next(found, None) is not None

    def pending_among(self, pins: Sequence[str]) -> frozenset[str]:
        """Which of these pins carry a mark."""
        if not self._any_pending:
            return frozenset()
        marks = self._catalogue.get_many("pending", [pin_id.encode() for pin_id in pins])
        return frozenset(pin_id for pin_id, mark in zip(pins, marks, strict=True) if mark is not None)

    def pending(self, limit: int, damaged: frozenset[int]) -> list[tuple[str, Row]]:
        """Marked pins with their winners' rows; not those in flight, nor those whose codes wait for a replay."""
        found: list[tuple[str, Row]] = []
        with self._catalogue.scan("pending") as marks:
            for key, _ in marks:
                pin_id = key.decode()
                row = None if pin_id in self._in_flight else self._catalogue.rows([pin_id])[0]
                if row is not None and damaged.isdisjoint(row.slots):
                    found.append((pin_id, row))
                if len(found) == limit:
                    break
        return found

    def due_nulls(self, before_ms: int, limit: int) -> list[str]:
        """Deleted pins logged before that time; not those in flight, nor those that are pending."""
        due: list[str] = []
        with self._catalogue.scan("deletes", b"", I64.pack(max(0, before_ms))) as found:
            for key, _ in found:
                pin_id = key[I64.size :].decode()
                if pin_id not in self._in_flight and not self.pending_among([pin_id]):
                    due.append(pin_id)
                if len(due) == limit:
                    break
        return due

    def took_off(self, pin_id: str, order: Order | None) -> None:
        """A record of this order, or for None a null, is on its way into the log."""
        self._in_flight[pin_id] = order

    def fell(self, pin_id: str) -> None:
        """What was on its way never came."""
        self._in_flight.pop(pin_id, None)

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Takes note of what was read."""
        for outcome in outcomes:
            self._any_pending |= outcome.pending is not None
            if outcome.pin_id in self._in_flight and self._in_flight[outcome.pin_id] in outcome.read:
                del self._in_flight[outcome.pin_id]
