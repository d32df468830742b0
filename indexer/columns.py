"""New codes on their way into a segment: gathered pin by pin, and made into rows of the columns all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexer.records_pb2 import ObjectRecord
from indexer.segment_format import BUYABLE, SLOT, Codes, Slots


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a record's names, 0 for none.

    Attributes:
        labels: of each searched code; 0 for the whole picture.
        category: of the pin's top category.
        board: of its board.
    """

    labels: list[int]
    category: int
    board: int


class Columns:
    """The rows of a batch's new codes."""

    def __init__(self) -> None:
        self._codes: list[bytes] = []
        self._object_index: list[int] = []
        self._labels: list[int] = []
        self._runs: list[tuple[int, int]] = []
        self._pins: list[tuple[int, int, int, int, int]] = []

    def __len__(self) -> int:
        """How many codes were added."""
        return len(self._codes)

    def add(
        self, record: ObjectRecord, codes: list[bytes], born: int, runs: list[tuple[int, int]], numbers: Numbers
    ) -> None:
        """Adds the codes of one live pin.

        Args:
            record: its winning record.
            codes: its searched codes, in their order.
            born: offset of the record.
            runs: (first slot, codes) of where they go.
            numbers: of its names.
        """
        self._codes += codes
        self._object_index.append(-1)
        self._object_index += [item.index for item in record.objects]
        self._labels += numbers.labels
        self._runs += runs
        self._pins.append((len(codes), born, BUYABLE if record.buyable else 0, numbers.category, numbers.board))

    def arrays(self, code_bytes: int) -> tuple[Codes, Slots]:
        """(codes uint8 [n, code_bytes], `SLOT` [n]) in the order in which they were added."""
        codes = np.frombuffer(b"".join(self._codes), np.uint8).reshape(-1, code_bytes)
        slots = np.zeros(len(codes), SLOT)
        first, length = np.array(self._runs, np.int64).T
        ends = np.cumsum(length)
        nth = np.arange(len(codes)) - np.repeat(ends - length, length)
        slots["nth"] = nth
        slots["slot"] = np.repeat(first, length) + nth
        pins = np.array(self._pins, np.int64)
        for at, name in enumerate(("born", "flags", "category", "board"), 1):
            slots[name] = np.repeat(pins[:, at], pins[:, 0])
        slots["object_index"] = self._object_index
        slots["label"] = self._labels
        return codes, slots


def runs_of(slots: Sequence[int]) -> list[tuple[int, int]]:
    """(first, how many) of each stretch of slots that follow one another."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and runs[-1][0] + runs[-1][1] == slot:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((slot, 1))
    return runs
