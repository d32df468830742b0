"""How a reader searches faster than exactly: by inverted lists, and with an eye on what they miss.

Opt-in (setting `index.approximate`). Every so often an approximate answer is held against the exact one at the same
version, so that recall is known on the queries that people really ask.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from indexer import arguments
from indexer.answers import Find, Query, SearchResult
from indexer.asks import Ask
from indexer.crew import Crew
from indexer.errors import SearchTimeout
from indexer.list_search import ListSearch
from indexer.search import Candidates, nearest
from indexer.view import View

Answering = Callable[[Sequence[Query], Find], list[SearchResult | None]]
"""Answers queries by a search, always from the same version; None where pins among the nearest changed since."""


class RecallObserver(Protocol):
    """Who counts what checks of approximate answers find."""

    def checked(self, found: int, expected: int) -> None:
        """Of `expected` true nearest neighbours `found` were in the approximate answer."""
        ...


class Faster:
    """A reader's approximate searches.

    Args:
        lists: this reader's own; closed with it.
        check_every: every so many approximate queries one is answered exactly too.
        observer: told what that showed.

    Raises:
        BadArgument: `check_every` is not positive.
    """

    def __init__(
        self,
        lists: ListSearch,
        *,
        check_every: int = 100,
        observer: RecallObserver | None = None,
    ) -> None:
        self._lists = lists
        self._every = arguments.whole("check_every", check_every, 1)
        self._observer = observer
        self._asked = itertools.count()

    def search(self, queries: Sequence[Query], ask: Answering) -> list[SearchResult | None]:
        """Answers queries; see `indexer.answers.answer` for what it raises."""
        looked: set[int] = set()

        def find(
            views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
        ) -> list[list[Candidates]]:
            whole = len(asks) == len(queries)  # else numbers are not those of the queries
            told = looked.add if whole else None
            return self._lists.nearest(views, asks, crew=crew, checkpoint=checkpoint, looked=told)

        results = ask(queries, find)
        answered = [n for n in sorted(looked) if results[n] is not None]
        due = [n for n in answered if next(self._asked) % self._every == 0]
        if due and self._observer is not None:
            # A check is of no use to who asks: what it meets is not their error.
            with suppress(SearchTimeout):
                exact = ask([queries[n] for n in due], nearest)
                for result, truth in zip((results[n] for n in due), exact, strict=True):
                    if result is None or truth is None:
                        continue
                    places = {(hit.pin_id, hit.object_index) for hit in result.hits}
                    found = sum((hit.pin_id, hit.object_index) in places for hit in truth.hits)
                    self._observer.checked(found, len(truth.hits))
        return results

    def close(self) -> None:
        """Ends what makes the lists. Not while a search is in progress."""
        self._lists.close()
