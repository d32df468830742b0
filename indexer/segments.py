"""A segment's two files, mapped: the codes as raw rows, and beside them the columns of what each slot is.

The newest segment is the head: preallocated and touched when it is made, appended to in place, its committed length
kept in the catalogue and on the commit page. A full head is sealed: block checksums are written into the footer, both
files and the folder are synced, and the codes are read-only from then on. indexer/segment_format.py has every byte.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from indexer.segment_format import (
    ALIGN,
    BUYABLE,
    CODES_MAGIC,
    COLUMNS_OF_A_SLOT,
    EDITS_AT,
    KINDS,
    LIVE,
    META_MAGIC,
    SLOT,
    Codes,
    SegmentName,
    SegmentSpec,
    Slots,
    check_footer,
    check_header,
    checksums,
    footer,
    header,
    place_of,
    slot_of,
    sync_folder,
)

__all__ = ["ALIGN", "BUYABLE", "LIVE", "SLOT", "Codes", "Segment", "SegmentName", "SegmentSpec", "place_of", "slot_of"]

Mode = Literal["head", "sealed", "read"]
Ints = npt.NDArray[np.int64]
_PIECE = 1 << 18


class Segment:
    """One segment's two files, mapped.

    Attributes:
        name: which it is.
        codes: uint8 [capacity, bits / 8].
        born, died: int64 [capacity], offsets.
        addresses: of codes, born and died in memory: looking them up for each search costs as much as a small one.
        first_slot: the number of the slot at index 0, which those of the others follow; -1 in a compacted segment,
            where they do not.
        object_index: int32 [capacity].
        flags, label, category, board, nth, check: uint32 [capacity].
    """

    def __init__(self, folder: Path, spec: SegmentSpec, name: SegmentName, mode: Mode) -> None:
        """Maps a segment whose headers hold.

        Args:
            folder: where the segments lie.
            spec: what the headers must say.
            name: of the segment.
            mode: `head` maps both files for writing, `sealed` only the columns, `read` neither.

        Raises:
            FileNotFoundError: there is none of this name.
            ForeignFormat: of another version, generation, partition, width or capacity.
            Damaged: a header's checksum does not hold, or a file is too short.
        """
        self.name = name
        self.spec = spec
        self._folder = folder
        self._fds: list[int] = []
        paths = (name.path(folder, ".codes"), name.path(folder, ".meta"))
        check_header(paths[0], spec, name, CODES_MAGIC, spec.codes_bytes)
        check_header(paths[1], spec, name, META_MAGIC, spec.meta_bytes(compacted=name.compacted))
        if mode == "head":
            paths[0].chmod(0o644)  # a crash between seal and commit leaves the head without write permission
        self._codes_map = np.memmap(paths[0], dtype=np.uint8, mode="r+" if mode == "head" else "r")
        self._meta_map = np.memmap(paths[1], dtype=np.uint8, mode="r" if mode == "read" else "r+")
        opened = {"head": paths, "sealed": paths[1:], "read": ()}[mode]
        self._fds = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in opened]
        # Plain arrays over the maps: a memmap's own indexing costs several times as much.
        raw: Codes = np.asarray(self._codes_map)
        self.codes = raw[ALIGN : ALIGN + spec.capacity * spec.code_bytes].reshape(spec.capacity, spec.code_bytes)
        self.born: Ints = self._column("born")
        self.died: Ints = self._column("died")
        self.addresses = (self.codes.ctypes.data, self.born.ctypes.data, self.died.ctypes.data)
        self.object_index: npt.NDArray[np.int32] = self._column("object_index")
        self.flags: npt.NDArray[np.uint32] = self._column("flags")
        self.label: npt.NDArray[np.uint32] = self._column("label")
        self.category: npt.NDArray[np.uint32] = self._column("category")
        self.board: npt.NDArray[np.uint32] = self._column("board")
        self.nth: npt.NDArray[np.uint32] = self._column("nth")
        self.check: npt.NDArray[np.uint32] = self._column("check")
        self._living: tuple[int, int] | None = None
        self._slots: npt.NDArray[np.uint64] | None = self._column("slot") if name.compacted else None
        self.first_slot = slot_of(name.number, 0) if self._slots is None else -1
        self._edits: npt.NDArray[np.uint64] = np.asarray(self._meta_map)[EDITS_AT : EDITS_AT + 16].view("<u8")

    @property
    def number(self) -> int:
        """The first of the segments whose slots it holds."""
        return self.name.number

    @classmethod
    def create(cls, folder: Path, spec: SegmentSpec, number: int) -> Segment:
        """Makes, preallocates and touches a head's files, syncs them and the folder, and maps them for writing.

        Files of this number that a crash left behind before their first commit are taken over.
        """
        name = SegmentName(number, number)
        _lay_out(folder, spec, name)
        _in_large_pages(name.path(folder, ".codes"))
        segment = cls(folder, spec, name, "head")
        segment.died[:] = LIVE
        segment.codes[:: max(1, ALIGN // spec.code_bytes)] = 0
        return segment

    def _column(self, name: str) -> npt.NDArray[Any]:
        at = self.spec.column_at(name)
        kind = np.dtype(KINDS[name])
        column: npt.NDArray[Any] = np.asarray(self._meta_map)[at : at + self.spec.capacity * kind.itemsize].view(kind)
        return column

    @property
    def edits(self) -> int:
        """How often committed slots changed; rises after each change. 0: every slot below the length is as born."""
        return int(self._edits[0])

    @property
    def rewrites(self) -> int:
        """How often a damaged slot's code was put back; rises behind the code."""
        return int(self._edits[1])

    def living(self) -> int:
        """How many slots of a full segment live; counted anew only when some of them changed."""
        edits = self.edits
        if self._living is None or self._living[0] != edits:
            self._living = (edits, int(np.count_nonzero(self.died == LIVE)))
        return self._living[1]

    # -- slots by number -----------------------------------------------------------------------------------------

    def slots_at(self, indices: Ints) -> Ints:
        """The numbers of the slots at these indices, int64 [n]."""
        if self._slots is None:
            return indices + slot_of(self.number, 0)
        return self._slots[indices].astype(np.int64)

    def indices_of(self, slots: Ints) -> Ints:
        """Where slots of these numbers lie, int64 [n]; -1 for one that is not here."""
        if self._slots is None:
            indices = slots - slot_of(self.number, 0)
            return np.where((indices >= 0) & (indices < self.spec.capacity), indices, -1)
        wanted = slots.astype(np.uint64)
        found = np.minimum(np.searchsorted(self._slots, wanted), len(self._slots) - 1)
        return np.where(self._slots[found] == wanted, found, -1)

    def index_of(self, slot: int) -> int:
        """Where the slot of this number lies; -1 when it is not here."""
        if self._slots is None:
            return slot - slot_of(self.number, 0)
        found = int(np.searchsorted(self._slots, np.uint64(slot)))
        return found if found < len(self._slots) and int(self._slots[found]) == slot else -1

    def rows(self, start: int, stop: int) -> Slots:
        """The `SLOT` rows of the slots from start to stop."""
        found = np.zeros(stop - start, SLOT)
        found["slot"] = self.slots_at(np.arange(start, stop, dtype=np.int64))
        for name in COLUMNS_OF_A_SLOT:
            found[name] = getattr(self, name)[start:stop]
        return found

    # -- changing ------------------------------------------------------------------------------------------------

    def write(self, start: int, codes: Codes, slots: Slots) -> None:
        """Puts codes and their columns at `start` and onwards. Nothing reads them before the commit names them.

        Args:
            start: first slot.
            codes: uint8 [n, bits / 8].
            slots: `SLOT` [n]; `slot` is filled in here.
        """
        stop = start + len(codes)
        slots["slot"] = self.slots_at(np.arange(start, stop, dtype=np.int64))
        self.codes[start:stop] = codes
        self.died[start:stop] = LIVE
        for name in COLUMNS_OF_A_SLOT:
            getattr(self, name)[start:stop] = slots[name]
        self.check[start:stop] = checksums(codes, slots)

    def rewrite(self, index: int, code: Codes, slot: Slots) -> None:
        """Puts a damaged slot's code and columns back; the slot lives again."""
        self.write(index, code, slot)
        self._edits[:2] += 1

    def kill(self, indices: Ints, offsets: Ints) -> None:
        """Notes that slots died at these offsets. The edit count rises behind the deaths, which readers rely on."""
        self.died[indices] = offsets
        self._edits[0] += 1

    def damaged(self, start: int, stop: int) -> Ints:
        """The slots in start..stop whose checksum does not hold, as indices."""
        wrong = checksums(self.codes[start:stop], self.rows(start, stop)) != self.check[start:stop]
        return np.flatnonzero(wrong).astype(np.int64) + start

    def seal(self) -> None:
        """Writes the footer over a full segment, syncs both files and takes the write permission off the codes."""
        os.pwrite(self._fds[0], footer(self.codes), self.spec.footer_at)
        self.sync()
        self.name.path(self._folder, ".codes").chmod(0o444)
        sync_folder(self._folder)

    def check_seal(self) -> None:
        """Holds every block of a sealed segment against the footer.

        Raises:
            Damaged: the footer or a block does not hold.
        """
        at = self.spec.footer_at
        check_footer(bytes(self._codes_map[at : at + self.spec.footer_bytes]), self.codes, self.number)

    def files(self) -> tuple[memoryview, memoryview]:
        """The bytes of the codes file and of the column file, as they are now."""
        return memoryview(self._codes_map), memoryview(self._meta_map)  # type: ignore[arg-type]

    def sync(self) -> None:
        """Waits until what was written to both files, through the maps too, is on the disk."""
        for fd in self._fds:
            os.fdatasync(fd)

    def descriptors(self) -> list[int]:
        """Copies of the descriptors of the files that may be written, for the caller to close."""
        return [os.dup(fd) for fd in self._fds]

    def close(self) -> None:
        """Closes descriptors. The maps go when nobody looks at them any more."""
        while self._fds:
            os.close(self._fds.pop())


def _lay_out(folder: Path, spec: SegmentSpec, name: SegmentName) -> None:
    """Makes both files of a segment at their full size with their headers, and syncs them and the folder."""
    for suffix, magic, size in (
        (".codes", CODES_MAGIC, spec.codes_bytes),
        (".meta", META_MAGIC, spec.meta_bytes(compacted=name.compacted)),
    ):
        fd = os.open(name.path(folder, suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(fd, 0, size)
            os.pwrite(fd, header(spec, name, magic).ljust(ALIGN, b"\x00"), 0)
            os.fdatasync(fd)
        finally:
            os.close(fd)
    sync_folder(folder)


def _in_large_pages(path: Path) -> None:
    """Writes zeros over a new file in large pieces, behind its first: the system keeps what is written in one piece in
    one piece of memory, and a scan over its map then waits less for addresses. Pages that are first touched one by one
    through a map lie anywhere.
    """
    zeros = bytes(_PIECE)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        for at in range(_PIECE, size, _PIECE):
            os.pwrite(fd, zeros[: size - at], at)
    finally:
        os.close(fd)


def compact(folder: Path, spec: SegmentSpec, name: SegmentName, parts: list[tuple[Segment, Ints]]) -> Segment:
    """Makes a sealed segment of the slots of others, each with its number, columns and checksum, and syncs it.

    Files of this name that a crash left behind are taken over.

    Args:
        folder: where the segments lie.
        spec: of the shard's segments; the capacity is that of the slots given.
        name: of the new one.
        parts: (segment, ascending indices), by ascending segment; at least one slot in all.
    """
    spec = replace(spec, capacity=sum(len(indices) for _, indices in parts))
    for suffix in (".codes", ".meta"):
        name.path(folder, suffix).unlink(missing_ok=True)
    _lay_out(folder, spec, name)
    _in_large_pages(name.path(folder, ".codes"))
    made = Segment(folder, spec, name, "head")
    at = 0
    for segment, indices in parts:
        stop = at + len(indices)
        made.codes[at:stop] = segment.codes[indices]
        made.died[at:stop] = LIVE
        for column in (*COLUMNS_OF_A_SLOT, "check"):
            getattr(made, column)[at:stop] = getattr(segment, column)[indices]
        made._column("slot")[at:stop] = segment.slots_at(indices)
        at = stop
    made.seal()
    made.close()
    return Segment(folder, spec, name, "sealed")
