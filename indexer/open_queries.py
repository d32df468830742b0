"""Queries on their way to results: those whose nearest pins changed meanwhile stay open and are asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dotstream.errors import Retryable
from indexer.answers import Query, SearchResult


class OpenQueries:
    """Queries, and the results that they have so far. True while one has none."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self._queries = queries
        self._results: list[SearchResult | None] = [None] * len(queries)

    def __bool__(self) -> bool:
        return None in self._results

    def ask(self, answering: Callable[[Sequence[Query]], Sequence[SearchResult | None]]) -> dict[int, SearchResult]:
        """Asks all that are open; `answering` gives None for those that stay so.

        Returns:
            Number -> result of those that have one now.
        """
        numbers = [number for number, result in enumerate(self._results) if result is None]
        found = answering([self._queries[number] for number in numbers]) if numbers else ()
        answered = {number: result for number, result in zip(numbers, found, strict=True) if result is not None}
        for number, result in answered.items():
            self._results[number] = result
        return answered

    def reopen(self, number: int) -> None:
        """The result does not hold any more."""
        self._results[number] = None

    def results(self) -> list[SearchResult]:
        """All results, in the queries' order.

        Raises:
            Retryable: a query is open still.
        """
        results = [result for result in self._results if result is not None]
        if len(results) < len(self._results):
            raise Retryable(
                "pins among the nearest changed faster than they could be answered; ask again, or for fewer"
            )
        return results
