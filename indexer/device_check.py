"""A trial before a device is trusted: its answers are held against the CPU's, on a small index of random codes.

Kernels are compiled by this too, so that no search waits for that.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from dotstream.clock import Clock
from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE
from indexer.device import DeviceMemory, Distances
from indexer.device_search import DeviceSearch
from indexer.search import nearest
from indexer.segments import SLOT, Segment, SegmentSpec
from indexer.view import View

_SLOTS = 500
_BATCHES = (1, 3, 40)
_LIMIT = 64 << 20


class _Heard:
    """What a trial's search tells."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.held = self.left = 0

    def fell_back(self, reason: str) -> None:
        self.reasons.append(reason)

    def holds(self, held: int, left: int) -> None:
        self.held, self.left = held, left


def disagreement(device: str, distances: Distances, bits: int, clock: Clock) -> str | None:
    """What is wrong with searches on a device; None when they find what the CPU finds.

    Args:
        device: torch's name for it.
        distances: the kernel.
        bits: width of the codes.
        clock: as `DeviceSearch` takes it.
    """
    heard, random = _Heard(), np.random.default_rng(0)
    search = DeviceSearch(DeviceMemory(device, _LIMIT), distances, clock=clock, observer=heard)
    with tempfile.TemporaryDirectory(prefix="dotstream-") as folder:
        segments = [_segment(Path(folder), number, bits, random) for number in range(2)]
        view = View(0, 6, ((segments[0], _SLOTS), (segments[1], _SLOTS // 3)))
        asks = [
            Ask(code, 7, bits, (Terms(Wanted(label=n % 2 or None), {}),)) for n, code in enumerate(segments[0].codes)
        ]
        for batch in _BATCHES:
            mine, its = (
                [
                    (one.slots.tolist(), one.distances.tolist())
                    for (one,) in find([view], asks[:batch], crew=ALONE, checkpoint=lambda: None)
                ]
                for find in (nearest, search.nearest)
            )
            if heard.reasons or heard.left:
                return "a trial search failed there, as the log says"
            if mine != its:
                return f"a trial of {batch} queries found other codes there than on the CPU"
        for segment in segments:
            segment.close()
    return None


def _segment(folder: Path, number: int, bits: int, random: np.random.Generator) -> Segment:
    """Random codes, a quarter of them dead; most have label 1."""
    segment = Segment.create(folder, SegmentSpec("trial", 0, bits, _SLOTS, bytes(16)), number)
    slots = np.zeros(_SLOTS, SLOT)
    slots["label"] = random.random(_SLOTS) < 0.8
    slots["born"] = random.integers(0, 8, _SLOTS)
    segment.write(0, random.integers(0, 256, (_SLOTS, bits // 8), np.uint8), slots)
    dying = np.flatnonzero(random.random(_SLOTS) < 0.25)
    segment.kill(dying, random.integers(4, 9, len(dying)))
    return segment
