"""What boards and pins held at a past moment: their rows as they are, taken back by the events that the log still has.

A row (indexer/timed_sets.py) keeps the last event of each (board, pin) and so forgets that a pin which was saved again,
taken off or pushed out since was on the board before. Training features need to know: the pins that people save because
of an answer are those that it is asked about. At a moment t, of a (board, pin) counts

    the event of greatest order with event_time <= t, among those of the log and the row's own

and the pin is on the board where that is a save; a set holds its newest, as many as its bound. So it is as it was, but
for what changed after t and whose last event up to t the log has let go: that is taken as not kept. And a board that
had pushed a pin out by t still counts among the boards of that pin where the log has the save.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping

from indexer.timed_sets import EVICTED, SAVED, order_of, rank_of, unpack

Events = Mapping[bytes, list[int]]
"""Name -> the orders of its events, ascending."""


class PastSaves:
    """Save events, to take rows back by; without any a row is taken back as far as it tells itself.

    Args:
        board_pins: bound of a board's pins, as the saves worker has it.
        pin_boards: bound of a pin's boards.
    """

    def __init__(self, board_pins: int = 256, pin_boards: int = 256) -> None:
        self._board_pins = board_pins
        self._pin_boards = pin_boards
        self._of_boards: defaultdict[bytes, dict[bytes, list[int]]] = defaultdict(dict)
        self._of_pins: defaultdict[bytes, dict[bytes, list[int]]] = defaultdict(dict)

    def add(self, board: bytes, pin: bytes, order: int) -> None:
        """Takes an event of the log, in any order and as often as it comes; `order` as in timed_sets.py."""
        orders = self._of_boards[board].setdefault(pin, [])
        self._of_pins[pin][board] = orders
        insort(orders, order)

    def pins_of(self, board: bytes, row: bytes | None, until_ms: int) -> tuple[list[bytes], array[int]]:
        """The pins of a board at a moment and their orders, ascending by order.

        Args:
            board: its id.
            row: its present row.
            until_ms: the moment, Unix ms, inclusive.
        """
        return _at(row, self._of_boards.get(board, {}), until_ms, self._board_pins)

    def boards_of(self, pin: bytes, row: bytes | None, until_ms: int) -> list[bytes]:
        """The boards of a pin at a moment, oldest first; see `pins_of`."""
        return _at(row, self._of_pins.get(pin, {}), until_ms, self._pin_boards)[0]


def _at(row: bytes | None, events: Events, until_ms: int, capacity: int) -> tuple[list[bytes], array[int]]:
    limit = order_of(until_ms, EVICTED)
    present = unpack(row)
    last = {
        name: order
        for name, order in (*present.members.items(), *present.marks.items())
        if order <= limit and rank_of(order) != EVICTED  # when it was evicted is not told: its events say what it was
    }
    for name, orders in events.items():
        count = bisect_right(orders, limit)
        if count:
            last[name] = max(last.get(name, -1), orders[count - 1])
    kept = sorted((order, name) for name, order in last.items() if rank_of(order) == SAVED)[-capacity:]
    return [name for _, name in kept], array("q", [order for order, _ in kept])
