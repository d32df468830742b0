"""A committed version of one partition, as queries see it: which segments, how much of them, up to which offset."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.segments import Segment, place_of


@dataclass(frozen=True, slots=True, weakref_slot=True)
class View:
    """One committed version of one partition.

    Attributes:
        partition: of objects.<generation>.
        watermark: the last applied offset, inclusive.
        segments: (segment, committed slots in it), oldest first.
    """

    partition: int
    watermark: int
    segments: tuple[tuple[Segment, int], ...]

    def find(self, slot: int) -> tuple[Segment, int] | None:
        """(segment, index) of a slot by its number, committed or not; None when the view does not have it."""
        number, _ = place_of(slot)
        at = bisect_right(self.segments, number, key=_number) - 1
        if at < 0:
            return None
        segment = self.segments[at][0]
        index = segment.index_of(slot) if number <= segment.name.last else -1
        return (segment, index) if 0 <= index < segment.spec.capacity else None

    def runs_of(self, slots: Sequence[int]) -> list[int]:
        """For each slot the first one of its run, by which the catalogue knows its pin."""
        return [slot if (found := self.find(slot)) is None else slot - int(found[0].nth[found[1]]) for slot in slots]


def _number(part: tuple[Segment, int]) -> int:
    return part[0].number
