"""Inverted lists, in memory: every code stands in the list of the centre that is nearest to it.

The codes stay where they are: a list holds their places, and beside these, in one stretch of memory, a sketch of each:
the bytes whose bits differ most. Lists never change; when enough codes have come in, new ones are made, and only what
is new is compared with the centres. centres.py chooses these, list_search.py searches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from indexer.centres import Centres, nearest_centres
from indexer.kernel import SHIFT, kernel
from indexer.scan import Ints
from indexer.segments import LIVE, Segment
from indexer.sweeps import Part

SPARE = 64
"""Rows behind the last list: the memory of a stretch is read on to the end of a group."""
_PIECE = 8192


@dataclass(frozen=True, slots=True)
class Listed:
    """Which of a segment's first rows stands in which list.

    Attributes:
        number: of the segment, as `Lists.where` has it.
        of: uint16 [n], the list of each row.
        rewrites: how many of the segment's codes had been put back before its rows were looked at.
    """

    number: int
    of: npt.NDArray[np.uint16]
    rewrites: int


class Lists:
    """The lists of some parts.

    Args:
        centres: what they are about.
        parts: what they shall hold, at least one code.
        before: lists about the same centres.
        checkpoint: called between pieces of some milliseconds.

    Attributes:
        centres: as given.
        sketches: uint8 [n + SPARE, sketch bytes], by list.
        where: int64 [n + SPARE], the segment's number above `SHIFT`, the row below; -1 behind the last list.
        starts: int64 [lists + 1], where each list starts in both.
        living: int64 [lists], how many codes of each lived when they were made.
        total: how many lived in all.
        ends: int64 [segments], how many of each one's first rows stand in lists.
        reach: int64 [lists], no code is farther from its centre than this.
    """

    def __init__(
        self, centres: Centres, parts: Sequence[Part], before: Lists | None, checkpoint: Callable[[], None]
    ) -> None:
        self.centres = centres
        self.reach: Ints = np.zeros(len(centres.codes), np.int64) if before is None else before.reach.copy()
        self._listed: WeakKeyDictionary[Segment, Listed] = WeakKeyDictionary()
        for number, part in enumerate(parts):
            known = None if before is None else before.of(part)
            rewrites = part.segment.rewrites if known is None else known.rewrites
            of = np.empty(0, np.uint16) if known is None else known.of[: part.length]
            new, distances = nearest_centres(part.segment.codes[len(of) : part.length], centres.codes, checkpoint)
            np.maximum.at(self.reach, new, distances)
            self._listed[part.segment] = Listed(number, np.concatenate([of, new.astype(np.uint16)]), rewrites)
        kernel(len(centres.places))  # compiled here, no search waits for it
        lists = len(centres.codes)
        of = np.concatenate([self._listed[part.segment].of for part in parts])
        alive = np.concatenate([part.segment.died[: part.length] == LIVE for part in parts])
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=lists))])
        self.living = np.bincount(of[alive], minlength=lists)
        self.total = int(self.living.sum())
        self.ends = np.array([part.length for part in parts], np.int64)
        order = np.argsort(of, kind="stable")
        rows = np.concatenate([(n << SHIFT) + np.arange(part.length) for n, part in enumerate(parts)])
        self.where = np.full(len(of) + SPARE, -1, np.int64)
        self.where[: len(of)] = rows[order]
        places = rows  # of the same size; not needed any more
        places[order] = np.arange(len(of))
        self.sketches = np.zeros((len(of) + SPARE, len(centres.places)), np.uint8)
        at = 0
        for part in parts:
            for start in range(0, part.length, _PIECE):
                checkpoint()
                piece = part.segment.codes[start : min(start + _PIECE, part.length), centres.places]
                self.sketches[places[at : at + len(piece)]] = piece
                at += len(piece)

    def of(self, part: Part) -> Listed | None:
        """What stands in lists of a part; None: nothing, or a damaged code of its segment was put back since."""
        listed = self._listed.get(part.segment)
        return None if listed is None or listed.rewrites != part.segment.rewrites else listed
