"""How a reader searches faster than exactly: by sketches, and with an eye on what they miss.

Opt-in (settings `index.sketch_bits` and `index.approximate`). Every so often an approximate answer is held against the
exact one at the same version, so that recall is known on the queries that people really ask.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from indexer.answers import Changed, Find, Query, SearchResult
from indexer.errors import SearchTimeout
from indexer.search import nearest
from indexer.sketch_search import SketchSearch

Ask = Callable[[Sequence[Query], Find], list[SearchResult]]
"""Answers queries by a search, always from the same version."""


class RecallObserver(Protocol):
    """Who counts what checks of approximate answers find."""

    def checked(self, found: int, expected: int) -> None:
        """Of `expected` true nearest neighbours `found` were in the approximate answer."""
        ...


class Faster:
    """A reader's searches by sketches.

    Args:
        sketches: this reader's own.
        approximate: whether k nearest are searched for approximately; ranges stay exact in any case.
        check_every: every so many approximate queries one is answered exactly too.
        observer: told what that showed.
    """

    def __init__(
        self,
        sketches: SketchSearch,
        *,
        approximate: bool,
        check_every: int = 100,
        observer: RecallObserver | None = None,
    ) -> None:
        if check_every < 1:
            raise ValueError(f"every {check_every} queries one is checked; at least 1")
        self._sketches = sketches
        self._approximate = approximate
        self._every = check_every
        self._observer = observer
        self._asked = itertools.count()

    def search(self, queries: Sequence[Query], ask: Ask) -> list[SearchResult]:
        """Answers queries; see `indexer.answers.answer` for what it raises."""
        if not self._approximate:
            return ask(queries, self._sketches.exactly)
        results = ask(queries, self._sketches.nearest)
        due = [n for n, _ in enumerate(queries) if next(self._asked) % self._every == 0]
        if due and self._observer is not None:
            # A check is of no use to who asks: what it meets is not their error.
            with suppress(SearchTimeout, Changed):
                exact = ask([queries[n] for n in due], nearest)
                for n, truth in zip(due, exact, strict=True):
                    places = {(hit.pin_id, hit.object_index) for hit in results[n].hits}
                    found = sum((hit.pin_id, hit.object_index) in places for hit in truth.hits)
                    self._observer.checked(found, len(truth.hits))
        return results
