"""Random codes in real, mapped segments, for benchmarks of the scan. Good for speed only: nothing is near anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexer.asks import Ask, Terms, Wanted
from indexer.scan import Codes
from indexer.segments import LIVE, Segment, SegmentSpec
from indexer.view import View

SEGMENT_SLOTS = 65_536
DEAD_SHARE = 0.1
LABEL_SHARES = {1: 0.01, 2: 0.1, 3: 0.5}
"""Number of a label -> share of the codes that have it."""
_BEFORE, _BEHIND = 4, 6


class Corpus:
    """Sealed-sized segments full of random codes; a tenth of them died at offset 5.

    Args:
        folder: empty; the segments' files go there.
        bits: width of the codes.
        segments: how many of `SEGMENT_SLOTS` codes.

    Attributes:
        folder, spec: of the segments, which have the numbers from 0 on.
        bits: width of the codes.
        queries: uint8 [256, bits / 8].
    """

    def __init__(self, folder: Path, bits: int, segments: int) -> None:
        random = np.random.default_rng(bits)
        folder.mkdir()
        self.folder = folder
        self.spec = SegmentSpec("bench", 0, bits, SEGMENT_SLOTS, bytes(16))
        self.bits = bits
        self._segments: list[Segment] = []
        for number in range(segments):
            segment = Segment.create(folder, self.spec, number)
            segment.codes[:] = np.frombuffer(random.bytes(segment.codes.size), np.uint8).reshape(segment.codes.shape)
            segment.died[:] = np.where(random.random(SEGMENT_SLOTS) < DEAD_SHARE, 5, LIVE)
            drawn = random.random(SEGMENT_SLOTS)
            edges = np.cumsum(list(LABEL_SHARES.values()))
            segment.label[:] = np.searchsorted(edges, drawn, side="right") + 1
            self._segments.append(segment)
        self.queries: Codes = random.integers(0, 256, (256, bits // 8), np.uint8)

    def view(self, segments: int, *, tombstones: bool = False) -> View:
        """The first segments, before or after a tenth of their codes died."""
        here = tuple((segment, SEGMENT_SLOTS) for segment in self._segments[:segments])
        return View(0, _BEHIND if tombstones else _BEFORE, here)

    def asks(self, queries: int, k: int, label: int | None = None) -> list[Ask]:
        """So many queries, that want any code or those with a label."""
        terms = (Terms(Wanted(label=label), {}),)
        return [Ask(code, k, self.bits, terms) for code in self.queries[:queries]]

    def plain(self, segments: int) -> Codes:
        """A copy of the first segments' codes in one piece, as libraries want them."""
        return np.concatenate([segment.codes for segment in self._segments[:segments]])

    def close(self) -> None:
        """Lets go of the files."""
        for segment in self._segments:
            segment.close()


def read(view: View) -> int:
    """Reads every byte of a view's codes and does nothing with them but or-ing them together."""
    return read_codes([segment.codes for segment, _ in view.segments])


def read_codes(parts: Sequence[Codes]) -> int:
    """The same of plain arrays."""
    total = 0
    for codes in parts:
        total |= int(np.bitwise_or.reduce(codes.reshape(-1).view(np.uint64)))
    return total
