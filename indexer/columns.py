"""New codes on their way into a segment: the columns of a batch's pins, made all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from indexer.arbitration import Winner
from indexer.database import Batch
from indexer.names import BOARD, CATEGORY, LABEL, Names
from indexer.records import top_category
from indexer.segment_format import BUYABLE, SLOT, Codes, Slots


@dataclass(slots=True)
class Placed:
    """Live pins whose codes get slots, each in the place of the others' lists.

    Attributes:
        pins: what won.
        born: offsets at which their codes come.
        runs: (first slot, codes) of where the codes go, of all pins one after the other.
    """

    pins: list[Winner] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)

    def arrays(self, code_bytes: int, names: Names, batch: Batch) -> tuple[Codes, Slots]:
        """(codes uint8 [n, code_bytes], `SLOT` [n]) of at least one pin; new names join the batch."""
        records = [pin.record for pin in self.pins]
        counts = [len(pin.codes) for pin in self.pins]
        codes = b"".join(chain.from_iterable(pin.codes for pin in self.pins))
        slots = np.zeros(sum(counts), SLOT)
        first, length = np.array(self.runs, np.int64).T
        ends = np.cumsum(length)
        nth = np.arange(len(slots)) - np.repeat(ends - length, length)
        slots["nth"] = nth
        slots["slot"] = np.repeat(first, length) + nth
        slots["born"] = np.repeat(self.born, counts)
        slots["flags"] = np.repeat([BUYABLE if record.buyable else 0 for record in records], counts)
        tops = [top_category(record) or "" for record in records]
        slots["category"] = np.repeat(names.numbers(CATEGORY, tops, batch), counts)
        slots["board"] = np.repeat(names.numbers(BOARD, [record.board_id for record in records], batch), counts)
        objects = np.ones(len(slots), np.bool_)
        objects[np.cumsum(counts) - counts] = False  # a pin's first code is that of the whole picture
        items = list(chain.from_iterable(pin.objects for pin in self.pins))
        slots["object_index"] = -1
        slots["object_index"][objects] = [item.index for item in items]
        slots["label"][objects] = names.numbers(LABEL, [item.label for item in items], batch)
        return np.frombuffer(codes, np.uint8).reshape(-1, code_bytes), slots


def runs_of(slots: Sequence[int]) -> list[tuple[int, int]]:
    """(first, how many) of each stretch of slots that follow one another."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and runs[-1][0] + runs[-1][1] == slot:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((slot, 1))
    return runs
