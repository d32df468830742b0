"""Bounded sets whose members come and go by timed events: the pins of a board, the boards of a pin.

Of the events of one member the greatest order counts, order = 4 * event_time + rank, with rank 0 saved, 1 unsaved,
2 evicted: the later event wins, at a tie unsaved. So events may arrive twice and late. What bounds a set:

    - at most `capacity` members; beyond it the one with the least (order, name) is evicted;
    - at most `capacity` marks of members that left, which keep late saves out; beyond it the least is forgotten;
    - `floor` is the greatest order that was ever evicted or forgotten: an event at or below it, of a name that the set
      does not know, is ignored, so that no repetition brings back what went.

Within the bound the set depends only on which events there were; beyond it also on their sequence, but never on their
repetition. Row layout, little endian, version 1:

    floor i64 | members u32 | marks u32 | orders i64 each | names, joined by NUL

members first, then marks, each ascending by (order, name). Names hold no NUL (producers/events.py refuses it).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter

from indexer.errors import Damaged

SAVED, UNSAVED, EVICTED = 0, 1, 2
MAX_TIME = 2**60 - 1
_HEAD = struct.Struct("<qII")
_BY_ORDER = itemgetter(1, 0)


def order_of(event_time: int, rank: int) -> int:
    """The order of an event; `event_time` in Unix milliseconds, at most `MAX_TIME`."""
    return event_time * 4 + rank


def time_of(order: int) -> int:
    """The event time of an order."""
    return order >> 2


def rank_of(order: int) -> int:
    """SAVED, UNSAVED or EVICTED."""
    return order & 3


@dataclass(slots=True)
class TimedSet:
    """One set, taken out of its row.

    Attributes:
        members: name -> order, ascending by (order, name).
        marks: names that left -> order, ascending likewise.
        floor: see above; -1 when nothing went yet.
    """

    members: dict[bytes, int] = field(default_factory=dict)
    marks: dict[bytes, int] = field(default_factory=dict)
    floor: int = -1

    def apply(self, name: bytes, order: int, capacity: int) -> list[tuple[bytes, int]]:
        """Applies one event.

        Args:
            name: whom it concerns.
            order: of the event.
            capacity: of the set, at least 1.

        Returns:
            (name, order) of every member that came, stayed with a later order, left or was evicted; empty when the
            event changed nothing.
        """
        return list(self.apply_all([(name, order)], capacity).items())

    def apply_all(self, events: Iterable[tuple[bytes, int]], capacity: int) -> dict[bytes, int]:
        """Applies events one after the other, in less time than one by one.

        Returns:
            Name -> order, the last one of each that `apply` would tell.
        """
        members, marks = _Line(self.members), _Line(self.marks)
        changes: dict[bytes, int] = {}
        for name, order in events:
            known = members.kept.get(name)
            if known is None:
                known = marks.kept.get(name)
            if order <= (self.floor if known is None else known):
                continue
            if known is not None and members.kept.pop(name, None) is None:
                del marks.kept[name]
            changes[name] = order
            if rank_of(order) == SAVED:
                members.put(name, order)
                while len(members.kept) > capacity:  # more than one above when the capacity was lowered
                    evicted, its = members.drop()
                    changes[evicted] = order_of(time_of(its), EVICTED)
                    self.floor = max(self.floor, its)
            else:
                marks.put(name, order)
                while len(marks.kept) > capacity:
                    self.floor = max(self.floor, marks.drop()[1])
        self.members, self.marks = members.sorted(), marks.sorted()
        return changes

    def pack(self) -> bytes:
        """The row."""
        orders = array("q", self.members.values())
        orders.extend(self.marks.values())
        names = b"\0".join((*self.members, *self.marks))
        return _HEAD.pack(self.floor, len(self.members), len(self.marks)) + orders.tobytes() + names


class _Line:
    """Names with their orders, ascending by (order, name) whenever that is looked at.

    Most events are the newest of their set and go to the end; others leave the line to be sorted once, when somebody
    wants its start or all of it.
    """

    __slots__ = ("_is_sorted", "_last", "kept")

    def __init__(self, kept: dict[bytes, int]) -> None:
        self.kept = kept
        self._is_sorted = True
        self._last = kept[next(reversed(kept))] if kept else -1

    def put(self, name: bytes, order: int) -> None:
        """Adds a name that is not there."""
        self.kept[name] = order
        if order > self._last:
            self._last = order
        else:
            self._is_sorted = False

    def drop(self) -> tuple[bytes, int]:
        """Takes the first one out."""
        name = next(iter(self.sorted()))
        return name, self.kept.pop(name)

    def sorted(self) -> dict[bytes, int]:
        """All of it."""
        if not self._is_sorted:
            self.kept = dict(sorted(self.kept.items(), key=_BY_ORDER))
            self._is_sorted = True
        return self.kept


def unpack(row: bytes | None) -> TimedSet:
    """The set in a row; an empty one for None.

    Raises:
        Damaged: the row is not laid out as above.
    """
    if row is None:
        return TimedSet()
    floor, names, orders, members = _read(row)
    if members == len(names):
        return TimedSet(dict(zip(names, orders, strict=True)), {}, floor)
    pairs = list(zip(names, orders, strict=True))
    return TimedSet(dict(pairs[:members]), dict(pairs[members:]), floor)


def members_of(row: bytes | None) -> tuple[list[bytes], array[int]]:
    """(names, orders) of the members in a row, ascending by order; quicker than `unpack` where nothing is changed."""
    if row is None:
        return [], array("q")
    _, names, orders, members = _read(row)
    return names[:members], orders[:members]


def size_of(row: bytes | None) -> int:
    """How many members a row has.

    Raises:
        Damaged: the row is too short.
    """
    if row is None:
        return 0
    if len(row) < _HEAD.size:
        raise Damaged(f"a set's row of {len(row)} bytes")
    members: int = _HEAD.unpack_from(row)[1]
    return members


def _read(row: bytes) -> tuple[int, list[bytes], array[int], int]:
    if len(row) < _HEAD.size:
        raise Damaged(f"a set's row of {len(row)} bytes")
    floor, members, marks = _HEAD.unpack_from(row)
    end = _HEAD.size + 8 * (members + marks)
    orders = array("q", row[_HEAD.size : end])
    names = row[end:].split(b"\0") if members + marks else []
    if not len(names) == len(orders) == members + marks:
        raise Damaged(f"a set's row with {len(names)} names and {len(orders)} orders for {members + marks} entries")
    return floor, names, orders, members
