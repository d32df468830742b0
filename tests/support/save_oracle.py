"""What boards and pins must hold after a list of saves, in plain lists and dictionaries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Save:
    """A save event, or with `saved` False an unsave; `time` in Unix milliseconds."""

    board: str
    pin: str
    time: int
    saved: bool = True


@dataclass
class Board:
    """A board as a list of [time, unsaved, pin] entries, at most `most` of either kind."""

    most: int
    entries: list[tuple[int, bool, str]] = field(default_factory=list)
    gone: tuple[int, bool] = (-1, False)  # the greatest (time, unsaved) that was pushed out

    def apply(self, save: Save) -> None:
        order = (save.time, not save.saved)
        mine = [entry for entry in self.entries if entry[2] == save.pin]
        if order <= (mine[0][:2] if mine else self.gone):
            return
        self.entries = sorted([*(entry for entry in self.entries if entry not in mine), (*order, save.pin)])
        same = [entry for entry in self.entries if entry[1] != save.saved]
        if len(same) > self.most:
            self.entries.remove(same[0])
            self.gone = max(self.gone, same[0][:2])

    @property
    def pins(self) -> dict[str, int]:
        """Pin -> when it was saved, oldest first."""
        return {pin: time for time, unsaved, pin in self.entries if not unsaved}


class SaveOracle:
    """All boards after some saves; `apply` in the order of each board's log."""

    def __init__(self, board_pins: int = 256) -> None:
        self._most = board_pins
        self._boards: dict[str, Board] = {}

    def apply(self, saves: Iterable[Save]) -> Self:
        for save in saves:
            self._boards.setdefault(save.board, Board(self._most)).apply(save)
        return self

    def boards(self) -> dict[str, list[str]]:
        """Board -> its pins, oldest first; boards without pins left out."""
        return {name: list(board.pins) for name, board in self._boards.items() if board.pins}

    def pins(self) -> dict[str, set[str]]:
        """Pin -> its boards; pins without boards left out."""
        found: dict[str, set[str]] = {}
        for name, board in self._boards.items():
            for pin in board.pins:
                found.setdefault(pin, set()).add(name)
        return found

    def together(self, pin: str, *, now: int, half_life: int) -> dict[str, tuple[float, int, float]]:
        """Other pin -> (co_occurrence, shared, board_overlap) by the formulas of indexer/cooccurrence.py."""
        pins = self.pins()
        found: dict[str, tuple[float, int, float]] = {}
        for other in pins.keys() - {pin}:
            both = pins.get(pin, set()) & pins[other]
            if both:
                held = [self._boards[board].pins for board in both]
                weight = sum(2 ** -(max(0, now - max(on[pin], on[other])) / half_life) for on in held)
                overlap = len(both) / math.sqrt(len(pins[pin]) * len(pins[other]))
                found[other] = (weight, len(both), overlap)
        return found
