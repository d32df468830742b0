"""Image-board co-occurrence: which pins people keep on the same boards (paper, section 6).

The saves worker (consumers/saves.py) keeps two stores of sets (indexer/timed_sets.py): the pins of each board, found by
board_id in the partition of `saves`, and the boards of each pin, found by pin_id in the partition of `pairs`. A pin's
candidates are read from both: its newest boards, and the newest pins of each of them.

For pins p and q, with B(p) the boards that hold p (the newest `boards_max` of them, each with its newest `members_max`
pins), t(p, b) when p was saved to b, and `now`:

    age(p, q, b)         = now - max(t(p, b), t(q, b)), not below 0: since when the two are together on b
    co_occurrence(p, q)  = sum over b in B(p) that hold q of 2 ^ (-age / half_life), within the window only
    shared(p, q)         = number of those boards
    board_overlap(p, q)  = shared(p, q) / sqrt(|boards of p| * |boards of q|), the cosine of their board sets

A half-life of 0 counts every board as 1, a window of 0 looks back for ever. The candidates of one pin are ranked by
co_occurrence; with a half-life their ranking does not depend on `now`.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
from indexer.past_saves import PastSaves
from indexer.timed_sets import MAX_TIME, members_of, size_of

BOARDS = Store("boards", 1, ("boards",))
"""board_id -> the set of its pins; partitions as topic `saves`."""
PINS = Store("pins", 1, ("pins",))
"""pin_id -> the set of its boards; partitions as topic `pairs`."""
NEVER_MS = MAX_TIME


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as kept together. Times are milliseconds; 0: without end."""

    half_life_ms: int = 0
    window_ms: int = 0
    boards_max: int = 64
    members_max: int = 128


@dataclass(frozen=True, slots=True)
class Together:
    """A pin kept together with another.

    Attributes:
        pin_id: the other pin.
        weight: co_occurrence.
        shared: boards that hold both.
        overlap: board_overlap, 0..1; 0 where `overlaps` was not asked.
    """

    pin_id: str
    weight: float
    shared: int
    overlap: float = 0.0


class CoOccurrence:
    """Reads candidates from the two stores. `refresh` first; may be called from any thread.

    Args:
        boards: BOARDS.
        pins: PINS.
        rules: what counts.
        past: the saves by which `between` takes the stores back; None where nobody asks for the past of what changed.
    """

    def __init__(
        self, boards: KeyedReader, pins: KeyedReader, rules: Rules | None = None, past: PastSaves | None = None
    ) -> None:
        self._boards = boards
        self._pins = pins
        self._rules = rules or Rules()
        self._past = past or PastSaves()

    def refresh(self) -> None:
        """Takes in what the saves worker committed; cheap when nothing changed.

        Raises:
            Retryable: a store is being replaced or its disk refuses.
            Damaged, ForeignFormat: a store cannot be read.
        """
        self._boards.refresh()
        self._pins.refresh()

    def boards_of(self, pin_id: str) -> list[str]:
        """The boards that hold a pin, newest first."""
        return [name.decode() for name in reversed(members_of(self._pins.get("pins", pin_id.encode()))[0])]

    def candidates(self, pin_id: str, now_ms: int, limit: int) -> list[Together]:
        """The pins kept together with this one: greatest weight first, ties by pin_id; overlaps included.

        Args:
            pin_id: the query.
            now_ms: Unix milliseconds, for ages.
            limit: at most so many.
        """
        count, weights, shared = self._counted(pin_id.encode(), now_ms, NEVER_MS)
        best = heapq.nsmallest(limit, [(-weight, name) for name, weight in weights.items()])
        return self._with_overlaps(count, [(name, -weight, shared[name]) for weight, name in best], NEVER_MS)

    def between(self, pin_id: str, others: Sequence[str], until_ms: int) -> dict[str, Together]:
        """What is known of this pin and each of the others from the saves up to a moment; without those never together.

        For features as they were when an answer was given: what was saved because of it must not count.

        Args:
            pin_id: the query.
            others: candidates.
            until_ms: Unix milliseconds; later saves do not count, and ages are as they were then.
        """
        count, weights, shared = self._counted(pin_id.encode(), until_ms, until_ms)
        wanted = [name for name in dict.fromkeys(other.encode() for other in others) if name in weights]
        found = [(name, weights[name], shared[name]) for name in wanted]
        return {one.pin_id: one for one in self._with_overlaps(count, found, until_ms)}

    def _counted(self, query: bytes, now_ms: int, until_ms: int) -> tuple[int, dict[bytes, float], Counter[bytes]]:
        """(boards of the query, weight of each pin kept with it, boards that hold both)."""
        mine = self._boards_at(query, self._pins.get("pins", query), until_ms)
        boards = mine[-self._rules.boards_max :]
        rows = self._boards.get_many("boards", boards)
        weights: defaultdict[bytes, float] = defaultdict(float)
        shared: Counter[bytes] = Counter()
        for board, row in zip(boards, rows, strict=True):
            held = members_of(row) if until_ms >= NEVER_MS else self._past.pins_of(board, row, until_ms)
            names, on_board = self._weighed(*held, query, now_ms)
            shared.update(names)
            for name, weight in zip(names, on_board, strict=True):
                weights[name] += weight
        weights.pop(query, None)
        return len(mine), weights, shared

    def _weighed(
        self, names: list[bytes], orders: array[int], query: bytes, now_ms: int
    ) -> tuple[list[bytes], list[float]]:
        """A board's newest pins, the query among them, and their weights on this board."""
        if query not in names:
            return [], []  # a save or unsave that only one of the two stores has yet
        saved = orders[names.index(query)]
        names, orders = names[-self._rules.members_max :], orders[-self._rules.members_max :]
        times = np.maximum(np.frombuffer(orders, np.int64), saved) >> 2
        ages = np.maximum(now_ms - times, 0)
        half_life = self._rules.half_life_ms
        weights = np.exp2(-ages / half_life) if half_life else np.ones(len(names))
        counts = ages <= (self._rules.window_ms or NEVER_MS)
        if counts.all():
            return names, weights.tolist()
        return list(compress(names, counts)), weights[counts].tolist()

    def _with_overlaps(self, mine: int, found: Sequence[tuple[bytes, float, int]], until_ms: int) -> list[Together]:
        """Of (pin, weight, shared boards)."""
        names = [name for name, _, _ in found]
        rows = zip(names, self._pins.get_many("pins", names), strict=True)
        past = until_ms < NEVER_MS
        sizes = [len(self._boards_at(name, row, until_ms)) if past else size_of(row) for name, row in rows]
        return [
            Together(name.decode(), weight, shared, shared / math.sqrt(mine * max(size, shared)))
            for (name, weight, shared), size in zip(found, sizes, strict=True)
        ]

    def _boards_at(self, pin: bytes, row: bytes | None, until_ms: int) -> list[bytes]:
        """The boards that held a pin at a moment, oldest first."""
        return members_of(row)[0] if until_ms >= NEVER_MS else self._past.boards_of(pin, row, until_ms)

    def close(self) -> None:
        """Lets go of the stores."""
        self._boards.close()
        self._pins.close()
