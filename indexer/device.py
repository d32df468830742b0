"""A shard's codes in the memory of a GPU: uploaded once, added to as the head grows, deaths brought up to date.

Written against torch, whose `cpu` device runs the same code in tests. What a search asks of it stands in
device_search.py, the kernels in device_kernels.py. Only the processes that were told to use a GPU import this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from indexer.segments import Segment
from indexer.sweeps import Part

FAR = 2**31 - 1
"""Distance of a row that does not count."""
_CHUNK_ROWS = 65_536
_OFFSET_BYTES = 8
_WORKING_SHARE = 16


@dataclass(slots=True)
class Held:
    """A segment's copy on the device.

    Attributes:
        codes: uint8 [capacity, code bytes].
        born, died: int64 [capacity].
        rows: how many are filled in.
        edits, rewrites: the segment's counts when deaths and codes were copied.
    """

    codes: torch.Tensor
    born: torch.Tensor
    died: torch.Tensor
    rows: int
    edits: int
    rewrites: int


@dataclass(frozen=True, slots=True)
class Place:
    """A part on the device, for one search.

    Attributes:
        part: the part.
        held: its segment's copy.
        column: where its rows begin in the table of distances.
    """

    part: Part
    held: Held
    column: int


Distances = Callable[[Sequence[Place], torch.Tensor, torch.Tensor], None]
"""Fills in int32 [nq, columns] for the queries uint8 [nq, code bytes]: the distances, and `FAR` where a row does not
belong to the part's version.
"""


class DeviceMemory:
    """What lies on the device; for one thread at a time.

    Args:
        device: torch's name for it, such as `cuda`.
        limit: bytes that may be used, the tables of a search included.

    Attributes:
        cells: the most distances that a search may keep at once.
    """

    def __init__(self, device: str, limit: int) -> None:
        self.device = torch.device(device)
        self.cells = limit // _WORKING_SHARE // 4
        self._for_codes = limit - 3 * limit // _WORKING_SHARE  # distances, what is near, and what was found
        self._held: WeakKeyDictionary[Segment, Held] = WeakKeyDictionary()

    @property
    def bytes_held(self) -> int:
        """Bytes of codes, births and deaths."""
        return sum(_bytes(segment) for segment in list(self._held.keys()))

    def hold(self, part: Part) -> Held | None:
        """The copy of a part's segment, brought up to date; None when it does not fit.

        Copies go with their segment, which compaction replaces.
        """
        segment = part.segment
        held = self._held.get(segment)
        if held is None:
            capacity, code_bytes = segment.codes.shape
            if capacity > self.cells or self.bytes_held + _bytes(segment) > self._for_codes:
                return None
            held = Held(
                torch.empty((capacity, code_bytes), dtype=torch.uint8, device=self.device),
                torch.empty(capacity, dtype=torch.int64, device=self.device),
                torch.empty(capacity, dtype=torch.int64, device=self.device),
                0,
                segment.edits,
                segment.rewrites,
            )
            self._held[segment] = held
        _bring_up_to_date(held, segment, part.length)
        return held

    def clear(self) -> None:
        """Lets go of everything."""
        self._held.clear()

    def tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """A copy of an array on the device."""
        return torch.tensor(array, device=self.device)


def _bring_up_to_date(held: Held, segment: Segment, length: int) -> None:
    """Copies rows that are new and deaths that changed. Counts are read first: they rise behind what they count."""
    edits, rewrites = segment.edits, segment.rewrites
    if rewrites != held.rewrites:
        held.rows, held.rewrites = 0, rewrites
    if edits != held.edits:
        held.died[: held.rows].copy_(_readable(segment.died[: held.rows]))
        held.edits = edits
    while held.rows < length:
        rows = slice(held.rows, min(length, held.rows + _CHUNK_ROWS))
        held.codes[rows].copy_(_readable(segment.codes[rows]))
        held.born[rows].copy_(_readable(segment.born[rows]))
        held.died[rows].copy_(_readable(segment.died[rows]))
        held.rows = rows.stop


def _readable(mapped: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor over a copy: torch takes no arrays that cannot be written to, as mapped files are."""
    return torch.from_numpy(np.array(mapped))


def _bytes(segment: Segment) -> int:
    return segment.codes.size + 2 * _OFFSET_BYTES * len(segment.codes)


_ONES = torch.tensor([number.bit_count() for number in range(256)], dtype=torch.int32)


def plain_distances(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor) -> None:
    """`Distances` in torch's own operations, on any device; slow, the reference that kernels are held against."""
    ones = _ONES.to(out.device)
    for place in places:
        length, watermark = place.part.length, place.part.stored.watermark
        held = place.held
        belongs = (held.born[:length] <= watermark) & (watermark < held.died[:length])
        for number, query in enumerate(queries):
            bits = ones[(held.codes[:length] ^ query).long()].sum(dim=1, dtype=torch.int32)
            out[number, place.column : place.column + length] = bits.masked_fill(~belongs, FAR)
