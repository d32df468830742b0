"""One look into inverted lists: which codes an approximate search ranks.

Of the lists whose centres are nearest to the query, as many as hold a share of the living codes, the sketches are
scanned, and the codes whose sketches are nearest are ranked as an exact search ranks all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from indexer.asks import Ask
from indexer.lists import Lists
from indexer.scan import ALL, Codes, Ints, Mask, Nearest, Stored, Sweep, distances_to, merged
from indexer.sweeps import SHIFT, Job, Part

_FEWEST = 128
_CODES_PER_K = 4
_WIDER = 4
_RANKED, _RANKED_SHARE, _RANKED_PER_K = 400, 64, 8
_MOST_WITHIN = 16_384
_ROW = (1 << SHIFT) - 1
_MASKED = 3
"""So many times as many sketches where a filter takes some away; one that leaves below two fifths needs no lists."""


class Probe:
    """The lists of some parts.

    Args:
        parts: what is searched.
        lists: lists that hold some of it.
        share: of the living codes, in the lists that a query looks into.

    Attributes:
        missing: how many codes stand in no list; all of them are ranked.
    """

    def __init__(self, parts: Sequence[Part], lists: Lists, share: float) -> None:
        self._parts = parts
        self._lists = lists
        listed = [lists.of(part) for part in parts]
        ends = [0 if one is None else min(len(one.of), part.length) for part, one in zip(parts, listed, strict=True)]
        self._tails = [np.arange(end, part.length) for part, end in zip(parts, ends, strict=True)]
        self.missing = sum(map(len, self._tails))
        self._bases = np.array([0 if one is None else one.number << SHIFT for one in listed], np.int64)
        self._ends = self._bases + ends
        self._share = share * int(lists.living.sum())

    @property
    def chosen_by(self) -> int:
        """How many codes there were when the centres were chosen."""
        return self._lists.centres.chosen_by

    def nearest(
        self, ask: Ask, number: int, masks: Sequence[Mask | None], find: Callable[[Job], list[Nearest]]
    ) -> Nearest:
        """What is found in the nearest lists, and in more of them where these hold too few that pass.

        Args:
            ask: the query.
            number: of it.
            masks: which rows of each part pass.
            find: ranks what a job lists.
        """
        lists = self._lists
        order = np.argsort(distances_to(lists.centres.codes, ask.code), kind="stable")
        reached = np.cumsum(lists.living[order])
        wanted = ask.k + ask.left_out
        read = max(self._share, _FEWEST, _CODES_PER_K * wanted)
        ranked = max(_RANKED, int(read) // _RANKED_SHARE, _RANKED_PER_K * wanted)
        masked = any(mask is not None for mask in masks)
        by_sketch = True
        while True:
            near = order[: int(np.searchsorted(reached, read, side="right")) + 1]
            if len(near) == len(order):
                return find(Job([number], [list(masks)]))[0]
            stretches = lists.starts[near], lists.starts[near + 1]
            if by_sketch:
                places = self._nearest_sketches(ask.code, ranked * (_MASKED if masked else 1), *stretches)
            else:
                places = _all_of(*stretches)
            rows, living = self._rows(places, masks)
            if living >= (max(wanted, ranked // 2) if by_sketch else wanted):
                return find(Job([number], rows=rows))[0]
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
        sweep.stretches(Stored(lists.sketches), lists.starts[near].tolist(), lists.starts[near + 1].tolist())
        found = merged([sweep], 0, ALL, min(ask.within, sketch.size * 8))
        if found.total > len(found.slots):
            return None
        return find(Job([number], rows=self._rows(found.slots, masks)[0]))[0]

    def _nearest_sketches(self, code: Codes, k: int, starts: Ints, stops: Ints) -> Ints:
        """The places with the nearest sketches, in these stretches and as far as the groups at their ends go."""
        sketch = code[self._lists.centres.places]
        bits = sketch.size * 8
        sweep = Sweep(sketch[None], np.array([k]), np.array([bits]))
        sweep.stretches(Stored(self._lists.sketches), starts.tolist(), stops.tolist())
        near = merged([sweep], 0, k, bits)
        return near.slots if near.total == len(near.slots) else _all_of(starts, stops)  # very many are equally near

    def _rows(self, places: Ints, masks: Sequence[Mask | None]) -> tuple[list[Ints], int]:
        """The rows to rank, by part: those at these places that live and pass, and all that stand in no list and pass;
        and how many the former are.
        """
        found = np.sort(self._lists.where[places])
        found = found[np.flatnonzero(np.diff(found, prepend=-1))]  # groups at the ends of lists may overlap
        starts = np.searchsorted(found, self._bases).tolist()
        stops = np.searchsorted(found, self._ends).tolist()
        rows, living = [], 0
        for at, (part, mask, tail) in enumerate(zip(self._parts, masks, self._tails, strict=True)):
            here = found[starts[at] : stops[at]] & _ROW
            if part.segment.edits:
                here = here[part.segment.died[here] > part.stored.watermark]
            if mask is not None:
                here, tail = here[mask[here]], tail[mask[tail]]  # noqa: PLW2901
            living += len(here)
            rows.append(np.concatenate([here, tail]) if len(tail) else here)
        return rows, living


def _all_of(starts: Ints, stops: Ints) -> Ints:
    """The places of whole stretches."""
    return np.concatenate([np.arange(*each) for each in zip(starts, stops, strict=True)])
