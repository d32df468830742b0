"""Sketches of codes, in memory: a sample of each code's bytes, for every segment that is searched.

Sampled are the bytes whose bits differ most among the codes at hand. Sketches lie sliced (kernel_ir.py) and grow with
the committed length. One leaves bits out, so that its distance is at most the code's own; sketch_search.py searches by
them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from indexer.kernel import kernel
from indexer.scan import Stored
from indexer.segments import Segment
from indexer.sweeps import Part

ENOUGH_ROWS = 8192
"""The bytes to sample are chosen by about so many codes."""
_CHUNK_ROWS = 65_536


@dataclass(slots=True)
class _Sketch:
    """Of one segment: sliced words uint64 [groups, words, lanes], how many rows of them are filled in, and after how
    many rewrites of damaged codes.
    """

    words: npt.NDArray[np.uint64]
    rows: int
    rewrites: int


class Sample:
    """Which bytes are sampled, and the sketches of segments that came of it.

    Args:
        parts: what to choose by; at least one.
        code_bytes: of a sketch, a multiple of 8.

    Attributes:
        places: int64 [code_bytes], ascending: the bytes of a code that are sampled.
        rows: how many codes there were when they were chosen.
    """

    def __init__(self, parts: Sequence[Part], code_bytes: int) -> None:
        self.rows = rows_of(parts)
        share = -(-self.rows // ENOUGH_ROWS)
        codes = np.concatenate([part.segment.codes[: part.length : share] for part in parts])
        ones = np.unpackbits(codes, axis=1).mean(axis=0)
        spread = (ones * (1 - ones)).reshape(-1, 8).sum(axis=1)
        self.places = np.sort(np.argsort(-spread, kind="stable")[:code_bytes])
        self._made: WeakKeyDictionary[Segment, _Sketch] = WeakKeyDictionary()
        self._mutex = threading.Lock()

    def of(self, part: Part) -> Part:
        """The part with its sketches in place of its codes. They are of any version: whoever reads the codes of what
        looks near looks at births and deaths too, which lie far apart in memory and cost more than a sketch does.
        """
        with self._mutex:
            sketch, rewrites = self._made.get(part.segment), part.segment.rewrites
            if sketch is None or sketch.rewrites != rewrites:
                lanes = kernel(len(self.places), sliced=True).lanes
                groups = -(-part.segment.spec.capacity // lanes)
                sketch = _Sketch(np.zeros((groups, len(self.places) // 8, lanes), np.uint64), 0, rewrites)
                self._made[part.segment] = sketch
            while sketch.rows < part.length:
                self._fill(sketch, part.segment, min(part.length, sketch.rows + _CHUNK_ROWS))
        return Part(part.number, part.view, part.segment, part.length, Stored(sketch.words, part.base))

    def _fill(self, sketch: _Sketch, segment: Segment, stop: int) -> None:
        """Fills in the rows up to `stop`. Committed codes change by rewrites only, so that each is sampled once."""
        rows = np.arange(sketch.rows, stop)
        lanes = sketch.words.shape[2]
        sampled = np.ascontiguousarray(segment.codes[sketch.rows : stop, self.places])
        sketch.words[rows // lanes, :, rows % lanes] = sampled.view(np.uint64)
        sketch.rows = stop


def rows_of(parts: Sequence[Part]) -> int:
    """Committed codes in all parts."""
    return sum(part.length for part in parts)
