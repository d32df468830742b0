"""Exact search over mapped segments at committed versions: k nearest codes by Hamming distance, many queries at once.

Writer and followers search by the same code. A `View` is a version of one partition: its segments, how much of the
head is committed, and the watermark W. A slot belongs to it when born <= W < died, which the kernel checks for the few
codes that are near enough. What a query asks stands in asks.py, how it is swept for in sweeps.py; list_search.py
has the same search approximately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from indexer.asks import Ask, Scope, Terms, Wanted
from indexer.crew import Crew
from indexer.kernel import ROW, SHIFT, kernel
from indexer.scan import Ints, Nearest
from indexer.sweeps import Parts, jobs, parts_of, sweep
from indexer.view import View

__all__ = ["Ask", "Candidates", "Scope", "Terms", "Wanted", "nearest", "warm"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a search found in one view, ascending by (distance, slot).

    Attributes:
        slots: int64 [m].
        distances: int64 [m], bits that differ.
    """

    slots: Ints
    distances: Ints


def nearest(
    views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
) -> list[list[Candidates]]:
    """The k nearest slots that pass, over all views together, and every further slot at the k-th distance.

    Args:
        views: the versions to search, of codes of one width.
        asks: the queries.
        crew: threads to use.
        checkpoint: called between runs, by several threads; raises when the time is up.

    Returns:
        For each query what lies in each view.
    """
    checkpoint()
    parts = parts_of(views)
    found: list[list[Candidates]] = [[]] * len(asks)
    for job in jobs(parts, asks):
        for number, one in zip(job.asks, sweep(parts, asks, job, crew, checkpoint), strict=True):
            found[number] = by_view(parts, len(views), asks[number], one)
    return found


def by_view(parts: Parts, views: int, ask: Ask, found: Nearest) -> list[Candidates]:
    """What was found, without what is left out, cut at the k-th distance again, by view."""
    ranked = np.lexsort((found.slots, found.distances))
    slots, distances = found.slots[ranked], found.distances[ranked]
    if ask.left_out:
        stays = ~np.isin(slots, _left_out(parts, ask))
        slots, distances = slots[stays], distances[stays]
    if len(distances) > ask.k:
        near = int(np.searchsorted(distances, distances[ask.k - 1], side="right"))
        slots, distances = slots[:near], distances[:near]
    numbers = slots >> SHIFT
    first = parts.slots[numbers]
    names = first + (slots & ROW)
    for number in set(numbers[first < 0].tolist()):
        here = numbers == number
        names[here] = parts[number].segment.slots_at(slots[here] & ROW)
    if views == 1:
        return [Candidates(names, distances)]
    in_view = parts.views[numbers]
    return [Candidates(names[in_view == view], distances[in_view == view]) for view in range(views)]


def _left_out(parts: Parts, ask: Ask) -> list[int]:
    return [
        part.base + index
        for part in parts
        if (indices := ask.terms[part.view].excluded.get(part.segment.number))
        for index in indices
    ]


def warm(bits: int) -> None:
    """Compiles the kernel for codes of this width now instead of at the first query."""
    kernel(bits // 8)
