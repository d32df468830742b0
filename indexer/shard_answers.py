"""What a shard answers in the process of its writer: where it stands, what it owes the log, and every question.

The writing half is indexer/shard.py, what goes on beside the writer indexer/shard_upkeep.py. Questions may come from
any thread while one thread writes; they look at the newest view, which each commit replaces as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dotstream.clock import Clock
from indexer import arguments
from indexer.answers import Query, SearchResult, answer
from indexer.catalogue import Catalogue
from indexer.commit_page import State
from indexer.crew import ALONE, Crew
from indexer.entries import Entry
from indexer.errors import Closed, NeedsRebuild
from indexer.flights import Flights
from indexer.folder import CURRENT
from indexer.open_queries import OpenQueries
from indexer.records import Order
from indexer.records_pb2 import ObjectRecord
from indexer.recovery import Opened
from indexer.verify import digest, verify
from indexer.view import View, read_entry, read_record

_TRIES = 8


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One version, held still for a query."""

    view: View
    catalogue: Catalogue


class ShardAnswers:
    """The reading half of a `Shard`, which sets and replaces what is named here."""

    _opened: Opened
    _catalogue: Catalogue
    _clock: Clock
    _mutex: threading.RLock
    _state: State
    _view: View
    _damaged: frozenset[int]
    _flights: Flights
    _compactions: int
    _closed: bool

    # -- what it stands at ---------------------------------------------------------------------------------------

    @property
    def applied_offset(self) -> int:
        """The last applied offset, inclusive; -1 before the first. Consume from the one behind it."""
        return self._state.applied

    @property
    def durable_offset(self) -> int:
        """The last offset whose effects survive a power loss; -1 for none."""
        return self._state.durable

    @property
    def building(self) -> bool:
        """Whether this is a rebuild that `promote` has not put in place."""
        return self._opened.place.pointer != CURRENT

    @property
    def closed(self) -> bool:
        """Whether it was closed or let go of."""
        return self._closed

    @property
    def damaged_slots(self) -> int:
        """Codes that a power loss took and that replay has not brought again yet."""
        return len(self._damaged)

    def counts(self) -> dict[str, int]:
        """live_pins, deleted_pins, objects, codes, documents (live pins with annotations); segments, dead_slots, and
        compactions since it was opened.
        """
        state, segments = self._state, self._view.segments
        names = ("live_pins", "deleted_pins", "objects", "codes", "documents")
        found: dict[str, int] = {name: getattr(state, name) for name in names}
        dead = sum(length for _, length in segments) - state.codes
        return found | {"segments": len(segments), "dead_slots": dead, "compactions": self._compactions}

    def check_log_end(self, end_offset: int) -> None:
        """Holds the state against the log.

        Args:
            end_offset: the offset that the partition's next record will get.

        Raises:
            NeedsRebuild: the state reflects offsets that the log does not have.
        """
        if self._state.reached >= end_offset:
            raise NeedsRebuild(f"the shard reflects offset {self._state.reached}; the log ends before {end_offset}")

    # -- arbitration ---------------------------------------------------------------------------------------------

    def pending(self, limit: int = 500) -> list[tuple[str, ObjectRecord]]:
        """Pins whose last logged record is not their winner, with the winner that is to be published again.

        Ask once the partition is caught up. Pins in flight are left out, and pins whose codes wait for a replay.
        """
        with self._mutex:
            rows = self._flights.pending(limit, self._damaged)
            return [(pin_id, read_record(row, self._view)) for pin_id, row in rows]

    def published(self, pin_id: str, order: Order | None) -> None:
        """The winner, or for None a null, is on its way into the log; reading it back ends the flight."""
        with self._mutex:
            self._flights.took_off(pin_id, order)

    def not_published(self, pin_id: str) -> None:
        """What was on its way was aborted; it is due again."""
        with self._mutex:
            self._flights.fell(pin_id)

    def due_nulls(self, now_ms: int, retention_ms: int, limit: int = 500) -> list[str]:
        """Deleted pins whose retention ran out: the owner publishes a null for each, so that compaction forgets them.

        Args:
            now_ms: wall time, Unix ms.
            retention_ms: the longest retention of any topic that could still hold the pin, and its dead letters.
            limit: at most so many.
        """
        with self._mutex:
            return self._flights.due_nulls(now_ms - retention_ms, limit)

    # -- asking --------------------------------------------------------------------------------------------------

    def search(self, query: Query) -> SearchResult:
        """The exact k nearest at the newest version; see `indexer.answers.Query`.

        Raises:
            BadArgument: it is no query, or of another width.
            SearchTimeout: its limit passed.
            Closed: the shard was closed.
            Superseded: another writer's folder was put in place.
        """
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query], crew: Crew = ALONE) -> list[SearchResult]:
        """Answers many queries together, those again whose nearest pins changed meanwhile; raises as `search` does."""
        arguments.all_of("queries", queries, Query)
        self._check_usable_for_queries()
        started = self._clock.monotonic()
        asked = OpenQueries(queries)

        def ask(*, held: bool) -> None:
            source, bits = _Snapshot(self._view, self._catalogue), self._opened.identity.bits
            asked.ask(lambda some: answer([source], some, bits, elapsed, held=held, crew=crew))

        def elapsed() -> float:
            return self._clock.monotonic() - started

        for _ in range(_TRIES):
            if asked:
                ask(held=False)
        if asked:
            with self._mutex:  # nothing changes; codes that wait for a replay belong to no pin
                ask(held=True)
        return asked.results()

    def pin(self, pin_id: str) -> Entry | None:
        """The pin's winning record, deletes included; None when the shard never heard of it."""
        row = self._catalogue.rows([arguments.text("pin_id", pin_id)])[0]
        return None if row is None else read_entry(row, self._view)

    def pins_with(self, image_sha256: bytes) -> list[str]:
        """The live pins whose picture has this sha256."""
        return self._catalogue.pins_with(arguments.sha256("image_sha256", image_sha256))

    def document_frequency(self, annotations: Sequence[str]) -> tuple[int, dict[str, int]]:
        """(live pins with annotations, annotation -> how many of them carry it)."""
        annotations = arguments.texts("annotations", annotations)
        numbers = self._catalogue.numbers("df", [annotation.encode() for annotation in annotations])
        return self._state.documents, dict(zip(annotations, numbers, strict=True))

    def digest(self) -> str:
        """sha256, as hex, of the logical content: see indexer/verify.py."""
        with self._mutex:
            return digest(self._catalogue, self._view)

    def verify(self) -> list[str]:
        """Everything that does not hold, in words; empty when all is well. Reads the whole shard."""
        with self._mutex:
            return verify(self._catalogue, self._view, self._state, self._damaged)

    def _check_usable_for_queries(self) -> None:
        if self._closed:
            raise Closed
        self._opened.place.check()
