"""One look into inverted lists: which codes an approximate search ranks.

Of the lists whose centres are nearest to the query, as many as hold a share of the living codes, the sketches are
scanned, and the codes whose sketches are nearest are ranked as an exact search ranks all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from indexer.asks import Ask
from indexer.kernel import ROW, SHIFT
from indexer.lists import Lists
from indexer.scan import ALL, Codes, Ints, Mask, Nearest, Stored, Sweep, distances_to, merged, standing
from indexer.sweeps import Job, Parts

_FEWEST = 128
_CODES_PER_K = 4
_WIDER = 4
_RANKED, _RANKED_SHARE, _RANKED_PER_K = 400, 64, 8
_MOST_WITHIN = 16_384
_MASKED = 3
"""So many times as many sketches where a filter takes some away; one that leaves below two fifths needs no lists."""
_SPARE_LISTS = 8
"""More lists are ordered than hold the share as a rule, and twice as many: they differ in length."""


class Probe:
    """The lists of some parts.

    Args:
        parts: what is searched.
        lists: lists that hold some of it.

    Attributes:
        missing: how many codes stand in no list; all of them are ranked.
    """

    def __init__(self, parts: Parts, lists: Lists) -> None:
        self._parts = parts
        self._lists = lists
        self._ends, self._moved = np.zeros_like(lists.ends), np.zeros_like(lists.ends)
        tails = []
        for part in parts:
            listed, end = lists.of(part), 0
            if listed is not None:
                end = min(len(listed.of), part.length)
                self._ends[listed.number], self._moved[listed.number] = end, part.base - (listed.number << SHIFT)
            if end < part.length:
                tails.append(np.arange(part.base + end, part.base + part.length))
        self._tail = np.concatenate([np.empty(0, np.int64), *tails])
        self.missing = len(self._tail)
        self._as_made = bool((self._ends == lists.ends).all()) and not self._moved.any()

    @property
    def chosen_by(self) -> int:
        """How many codes there were when the centres were chosen."""
        return self._lists.centres.chosen_by

    def nearest(
        self, ask: Ask, number: int, masks: Sequence[Mask | None], share: float, find: Callable[[Job], list[Nearest]]
    ) -> Nearest:
        """What is found in the nearest lists, and in more of them where these hold too few that pass.

        Args:
            ask: the query.
            number: of it.
            masks: which rows of each part pass.
            share: of the living codes, in the lists that are looked into.
            find: ranks what a job lists.
        """
        lists = self._lists
        wanted = ask.k + ask.left_out
        read = max(share * lists.total, _FEWEST, _CODES_PER_K * wanted)
        ranked = max(_RANKED, int(read) // _RANKED_SHARE, _RANKED_PER_K * wanted)
        masked = any(mask is not None for mask in masks)
        by_sketch = True
        while True:
            near = self._nearest_lists(ask.code, read)
            if len(near) == len(lists.living):
                return find(Job([number], [list(masks)]))[0]
            stretches = lists.starts[near], lists.starts[near + 1]
            if by_sketch:
                places = self._nearest_sketches(ask.code, ranked * (_MASKED if masked else 1), *stretches)
            else:
                places = _all_of(*stretches)
            living = self._standing(places, masks)
            if len(living) >= (max(wanted, ranked // 2) if by_sketch else wanted):
                return find(self._job(number, living, masks))[0]
            if not by_sketch:
                read *= _WIDER
            by_sketch = False

    def within(
        self, ask: Ask, number: int, masks: Sequence[Mask | None], find: Callable[[Job], list[Nearest]]
    ) -> Nearest | None:
        """What is found within a distance, exactly. Lists whose codes are all too far away are left out by the triangle
        inequality, and codes whose sketches are.

        Returns:
            None where so much looks near that all codes are as well read.
        """
        lists = self._lists
        centred = distances_to(lists.centres.codes, ask.code)
        near = np.flatnonzero(centred <= ask.within + lists.reach)
        sketch = ask.code[lists.centres.places]
        sweep = Sweep(sketch[None], np.array([ALL]), np.array([min(ask.within, sketch.size * 8)]), _MOST_WITHIN)
        sweep.stretches(Stored(lists.sketches), lists.starts[near], lists.starts[near + 1])
        found = merged([sweep], 0, ALL, min(ask.within, sketch.size * 8))
        if found.total > len(found.slots):
            return None
        return find(self._job(number, self._standing(found.slots, masks), masks))[0]

    def _nearest_lists(self, code: Codes, read: float) -> Ints:
        """The nearest lists, nearest first, as many as hold more than so many living codes; all where none do."""
        lists = self._lists
        count = len(lists.living)
        enough = min(count, 2 * int(count * read / max(1, lists.total)) + _SPARE_LISTS)
        for k in (enough, ALL):
            sweep = Sweep(code[None], np.array([k]), np.array([code.size * 8]), count)
            sweep.scan(Stored(lists.centres.codes), 0, count)
            found = merged([sweep], 0, k, code.size * 8)
            order = np.sort(found.distances * count + found.slots) % count
            reached = np.cumsum(lists.living[order])
            if reached[-1] > read:
                return order[: int(np.searchsorted(reached, read, side="right")) + 1]
        return order

    def _nearest_sketches(self, code: Codes, k: int, starts: Ints, stops: Ints) -> Ints:
        """The places with the nearest sketches in these stretches."""
        sketch = code[self._lists.centres.places]
        bits = sketch.size * 8
        sweep = Sweep(sketch[None], np.array([k]), np.array([bits]))
        sweep.stretches(Stored(self._lists.sketches), starts, stops)
        near = merged([sweep], 0, k, bits)
        return near.slots if near.total == len(near.slots) else _all_of(starts, stops)  # very many are equally near

    def _standing(self, places: Ints, masks: Sequence[Mask | None]) -> Ints:
        """What is at these places, as `Job.rows` has it, as far as it lives and passes."""
        found = self._lists.where[places]
        if not self._as_made:
            numbers = found >> SHIFT
            here = (found & ROW) < self._ends[numbers]
            found = found[here] + self._moved[numbers[here]]
        return standing(self._parts[0].stored.codes.shape[1], self._parts.table, np.sort(found), masks)

    def _job(self, number: int, living: Ints, masks: Sequence[Mask | None]) -> Job:
        """Ranks these, and all that stand in no list and pass."""
        tail = self._tail
        if len(tail) and any(mask is not None for mask in masks):
            tail = standing(self._parts[0].stored.codes.shape[1], self._parts.table, tail.copy(), masks)
        return Job([number], rows=[living, tail])


def _all_of(starts: Ints, stops: Ints) -> Ints:
    """The places of whole stretches."""
    return np.concatenate([np.arange(*each) for each in zip(starts.tolist(), stops.tolist(), strict=True)])
