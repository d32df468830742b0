"""A committed version of one partition, as queries see it: which segments, how much of them, up to which offset; and
the records of rows, their codes joined in from there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.entries import Entry, Row
from indexer.errors import NotInView
from indexer.records_pb2 import ObjectRecord
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


def read_codes(row: Row, view: View) -> list[bytes]:
    """The codes of a row, out of its segments.

    Raises:
        NotInView: the row is newer than the view.
    """
    slots = row.slots
    if len(slots) > 2 and slots[-1] - slots[0] == len(slots) - 1:  # as a rule they lie side by side
        (segment, start), (last, stop) = _found(view, slots[0]), _found(view, slots[-1])
        if segment is last and stop - start == len(slots) - 1:
            return [code.tobytes() for code in segment.codes[start : stop + 1]]
    return [segment.codes[at].tobytes() for segment, at in (_found(view, slot) for slot in slots)]


def _found(view: View, slot: int) -> tuple[Segment, int]:
    found = view.find(slot)
    if found is None:
        raise NotInView(f"slot {slot} is not there")
    return found


def read_record(row: Row, view: View) -> ObjectRecord:
    """A row's record, codes joined in."""
    return ObjectRecord.FromString(row.join(read_codes(row, view)))


def read_entry(row: Row, view: View) -> Entry:
    """A row as an entry of the index."""
    return Entry(read_record(row, view), row.offset, row.order, view.partition, row.logged_at)
