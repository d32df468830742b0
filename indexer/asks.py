"""What a query asks of the slots of an index: which may be found, which not, how many, how near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from indexer.scan import Codes, Mask
from indexer.segments import BUYABLE, Segment

Scope = Literal["all", "objects", "images"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which slots may be found; label, category and board by their numbers in the shard.

    `unknown` means that the shard has never seen the wanted label, category or board: nothing in it passes.
    """

    scope: Scope = "all"
    label: int | None = None
    category: int | None = None
    board: int | None = None
    buyable: bool | None = None
    unknown: bool = False

    @property
    def everything(self) -> bool:
        """Whether every live slot passes."""
        return self == _EVERYTHING

    def mask(self, segment: Segment, length: int) -> Mask | None:
        """Which of the first `length` slots pass, dead or not; None when all do."""
        if self.everything:
            return None
        mask = np.full(length, not self.unknown)
        if self.scope != "all":
            mask &= (segment.object_index[:length] >= 0) == (self.scope == "objects")
        if self.label is not None:
            mask &= segment.label[:length] == self.label
        if self.category is not None:
            mask &= segment.category[:length] == self.category
        if self.board is not None:
            mask &= segment.board[:length] == self.board
        if self.buyable is not None:
            mask &= (segment.flags[:length] & BUYABLE != 0) == self.buyable
        return mask


_EVERYTHING = Wanted()
Places = Mapping[int, Sequence[int]]
"""Slots by where they lie: number of the segment -> indices in it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a query asks of one view.

    Attributes:
        wanted: the filter.
        excluded: slots left out.
        only: the only slots that may be found, ascending in each segment; None: any.
    """

    wanted: Wanted
    excluded: Places
    only: Places | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One query as the scan sees it.

    Attributes:
        code: uint8 [bits / 8].
        k: at least 1.
        within: the largest distance wanted.
        terms: one for each view.
    """

    code: Codes
    k: int
    within: int
    terms: tuple[Terms, ...]

    @property
    def left_out(self) -> int:
        """How many slots are left out."""
        return sum(len(indices) for terms in self.terms for indices in terms.excluded.values())
