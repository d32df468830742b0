r"""Segment files: the codes of a shard as raw rows, and a column file of what each slot is, beside it.

A segment has `capacity` slots. The newest one is the head: preallocated and touched when it is made, appended to in
place, its committed length kept in the catalogue and on the commit page. A full head is sealed: block checksums are
written into the footer, both files and the folder are synced, and the codes are read-only from then on. Numbers are
little endian; bits of a code are packed most significant first.

`NNNNNNNN.codes`, version 1:

    0      magic "DSCODES\x00" | version u32 | bits u32 | capacity u32 | partition u32 | number u64
           generation 64 bytes UTF-8, zero padded | incarnation 16 bytes | crc32 u32 of all before it | zeros to 4096
    4096   codes, capacity x bits / 8 bytes, zeros to a multiple of 4096
    footer magic "DSFOOT\x00\x00" | version u32 | block bytes u32 | blocks u32 | crc32 u32 per block
           | crc32 u32 of the footer before it

`NNNNNNNN.meta`, version 1: the same header with magic "DSMETA\x00\x00" and at byte 2048 a u64 `edits`, which rises
after each change of a committed slot; then one column after the other, each at a multiple of 4096:

    born i64          offset of the record that brought the code
    died i64          offset of the record that took it away; 2**63 - 1 while it lives. An aligned 8-byte store
    object_index i32  -1 for the whole picture
    flags u32         bit 0: buyable
    label u32         number of the label's name in the catalogue; 0: none
    category u32      number of the top category's name in the catalogue; 0: none
    check u32         crc32 of (index u32, born, object_index, flags, label, category, code) of the slot

`died` and `edits` are outside the checksums because they change in place; `verify` holds them against the catalogue.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from indexer.errors import Damaged, ForeignFormat

VERSION = 1
ALIGN = 4096
BLOCK_BYTES = 1 << 20
EDITS_AT = 2048
LIVE = 2**63 - 1
BUYABLE = 1
_HEADER = struct.Struct("<8sIIIIQ64s16s")
_CRC = struct.Struct("<I")
_FOOTER = struct.Struct("<8sIII")
_CODES_MAGIC = b"DSCODES\x00"
_META_MAGIC = b"DSMETA\x00\x00"
_FOOTER_MAGIC = b"DSFOOT\x00\x00"
_COLUMNS: tuple[tuple[str, str], ...] = (
    ("born", "<i8"),
    ("died", "<i8"),
    ("object_index", "<i4"),
    ("flags", "<u4"),
    ("label", "<u4"),
    ("category", "<u4"),
    ("check", "<u4"),
)
SLOT = np.dtype(
    [
        ("index", "<u4"),
        ("born", "<i8"),
        ("object_index", "<i4"),
        ("flags", "<u4"),
        ("label", "<u4"),
        ("category", "<u4"),
    ]
)
"""What a slot's checksum covers besides its code, in this order and without padding."""

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """What every segment of a shard has in common.

    Attributes:
        generation: name of the generation, at most 64 bytes.
        partition: of objects.<generation>.
        bits: width of a code, a multiple of 8.
        capacity: slots per segment.
        incarnation: 16 bytes, the folder's own.
    """

    generation: str
    partition: int
    bits: int
    capacity: int
    incarnation: bytes

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.bits // 8

    @property
    def footer_at(self) -> int:
        """Where the footer of the codes file starts."""
        return ALIGN + _aligned(self.capacity * self.code_bytes)

    @property
    def blocks(self) -> int:
        """Checksummed blocks of a full segment."""
        return -(-self.capacity * self.code_bytes // BLOCK_BYTES)

    @property
    def codes_bytes(self) -> int:
        """Size of the codes file."""
        return self.footer_at + _aligned(_FOOTER.size + 4 * self.blocks + _CRC.size)

    def column_at(self, name: str) -> int:
        """Where a column of the meta file starts."""
        at = ALIGN
        for column, kind in _COLUMNS:
            if column == name:
                return at
            at += _aligned(self.capacity * np.dtype(kind).itemsize)
        raise KeyError(name)

    @property
    def meta_bytes(self) -> int:
        """Size of the meta file."""
        return self.column_at("check") + _aligned(4 * self.capacity)

    def header(self, magic: bytes, number: int) -> bytes:
        """The header of one of the two files."""
        name = self.generation.encode()
        head = _HEADER.pack(magic, VERSION, self.bits, self.capacity, self.partition, number, name, self.incarnation)
        return head + _CRC.pack(zlib.crc32(head))


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def codes_path(folder: Path, number: int) -> Path:
    """The codes file of a segment."""
    return folder / f"{number:08d}.codes"


def meta_path(folder: Path, number: int) -> Path:
    """The column file of a segment."""
    return folder / f"{number:08d}.meta"


class Segment:
    """One segment's two files, mapped.

    Attributes:
        number: of the segment, from 0.
        codes: uint8 [capacity, bits / 8].
        born, died: int64 [capacity], offsets.
        object_index: int32 [capacity].
        flags, label, category, check: uint32 [capacity].
        known: what searches worked out about the live slots and keep with the segment (indexer/search.py).
    """

    known: object = None

    def __init__(self, folder: Path, spec: SegmentSpec, number: int, mode: Literal["head", "sealed", "read"]) -> None:
        """Maps a segment whose headers hold.

        Args:
            folder: where the segments lie.
            spec: what the headers must say.
            number: of the segment.
            mode: `head` maps both files for writing, `sealed` only the columns, `read` neither.

        Raises:
            FileNotFoundError: there is none of this number.
            ForeignFormat: of another version, generation, partition, width or capacity.
            Damaged: a header's checksum does not hold, or a file is too short.
        """
        self.number = number
        self.spec = spec
        self._folder = folder
        self._fds: list[int] = []
        paths = (codes_path(folder, number), meta_path(folder, number))
        check_header(paths[0], spec, _CODES_MAGIC, number, spec.codes_bytes)
        check_header(paths[1], spec, _META_MAGIC, number, spec.meta_bytes)
        if mode == "head":
            paths[0].chmod(0o644)  # a crash between seal and commit leaves the head without write permission
        self._codes_map = np.memmap(paths[0], dtype=np.uint8, mode="r+" if mode == "head" else "r")
        self._meta_map = np.memmap(paths[1], dtype=np.uint8, mode="r" if mode == "read" else "r+")
        opened = {"head": paths, "sealed": paths[1:], "read": ()}[mode]
        self._fds = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in opened]
        # Plain arrays over the maps: a memmap's own indexing costs several times as much.
        raw: Codes = np.asarray(self._codes_map)
        self.codes = raw[ALIGN : ALIGN + spec.capacity * spec.code_bytes].reshape(spec.capacity, spec.code_bytes)
        self.born: npt.NDArray[np.int64] = self._column("born")
        self.died: npt.NDArray[np.int64] = self._column("died")
        self.object_index: npt.NDArray[np.int32] = self._column("object_index")
        self.flags: npt.NDArray[np.uint32] = self._column("flags")
        self.label: npt.NDArray[np.uint32] = self._column("label")
        self.category: npt.NDArray[np.uint32] = self._column("category")
        self.check: npt.NDArray[np.uint32] = self._column("check")
        self._edits: npt.NDArray[np.uint64] = np.asarray(self._meta_map)[EDITS_AT : EDITS_AT + 8].view("<u8")

    @classmethod
    def create(cls, folder: Path, spec: SegmentSpec, number: int) -> Segment:
        """Makes, preallocates and touches a segment's files, syncs them and the folder, and maps them for writing.

        Files of this number that a crash left behind before their first commit are taken over.
        """
        layout = (
            (codes_path(folder, number), _CODES_MAGIC, spec.codes_bytes),
            (meta_path(folder, number), _META_MAGIC, spec.meta_bytes),
        )
        for path, magic, size in layout:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(fd, 0, size)
                os.pwrite(fd, spec.header(magic, number).ljust(ALIGN, b"\x00"), 0)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        sync_folder(folder)
        segment = cls(folder, spec, number, "head")
        segment.died[:] = LIVE
        segment.codes[:: max(1, ALIGN // spec.code_bytes)] = 0
        return segment

    def _column(self, name: str) -> npt.NDArray[Any]:
        at = self.spec.column_at(name)
        kind = np.dtype(dict(_COLUMNS)[name])
        column: npt.NDArray[Any] = np.asarray(self._meta_map)[at : at + self.spec.capacity * kind.itemsize].view(kind)
        return column

    @property
    def edits(self) -> int:
        """How often committed slots changed; rises after each change. 0: every slot below the length is as born."""
        return int(self._edits[0])

    def write(self, start: int, codes: Codes, slots: npt.NDArray[np.void]) -> None:
        """Puts codes and their columns at `start` and onwards. Nothing reads them before the commit names them.

        Args:
            start: first slot.
            codes: uint8 [n, bits / 8].
            slots: `SLOT` [n]; `index` is filled in here.
        """
        stop = start + len(codes)
        slots["index"] = np.arange(start, stop, dtype=np.uint32)
        self.codes[start:stop] = codes
        self.born[start:stop] = slots["born"]
        self.died[start:stop] = LIVE
        for name in ("object_index", "flags", "label", "category"):
            getattr(self, name)[start:stop] = slots[name]
        self.check[start:stop] = checksums(codes, slots)

    def rewrite(self, index: int, code: Codes, slot: npt.NDArray[np.void]) -> None:
        """Puts a damaged slot's code and columns back; the slot lives again."""
        self.write(index, code, slot)
        self._edits[0] += 1

    def kill(self, indices: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> None:
        """Notes that slots died at these offsets. The edit count rises behind the deaths, which readers rely on."""
        self.died[indices] = offsets
        self._edits[0] += 1

    def damaged(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The slots in start..stop whose checksum does not hold."""
        slots = np.zeros(stop - start, SLOT)
        slots["index"] = np.arange(start, stop, dtype=np.uint32)
        slots["born"] = self.born[start:stop]
        for name in ("object_index", "flags", "label", "category"):
            slots[name] = getattr(self, name)[start:stop]
        wrong = checksums(self.codes[start:stop], slots) != self.check[start:stop]
        return np.flatnonzero(wrong).astype(np.int64) + start

    def seal(self) -> None:
        """Writes the footer over a full segment, syncs both files and takes the write permission off the codes."""
        spec = self.spec
        data = memoryview(self.codes.reshape(-1))  # type: ignore[arg-type]
        crcs = [zlib.crc32(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]
        footer = _FOOTER.pack(_FOOTER_MAGIC, VERSION, BLOCK_BYTES, len(crcs)) + struct.pack(f"<{len(crcs)}I", *crcs)
        os.pwrite(self._fds[0], footer + _CRC.pack(zlib.crc32(footer)), spec.footer_at)
        self.sync()
        codes_path(self._folder, self.number).chmod(0o444)
        sync_folder(self._folder)

    def check_seal(self) -> None:
        """Holds every block of a sealed segment against the footer.

        Raises:
            Damaged: the footer or a block does not hold.
        """
        spec = self.spec
        footer = bytes(self._codes_map[spec.footer_at : spec.footer_at + _FOOTER.size + 4 * spec.blocks + _CRC.size])
        magic, version, block, blocks = _FOOTER.unpack_from(footer)
        whole = _CRC.unpack_from(footer, len(footer) - _CRC.size)[0] == zlib.crc32(footer[: -_CRC.size])
        if not whole or (magic, version, block, blocks) != (_FOOTER_MAGIC, VERSION, BLOCK_BYTES, spec.blocks):
            raise Damaged(f"the footer of segment {self.number} does not hold")
        data = memoryview(self.codes.reshape(-1))  # type: ignore[arg-type]
        for at, crc in enumerate(struct.unpack_from(f"<{blocks}I", footer, _FOOTER.size)):
            if zlib.crc32(data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]) != crc:
                raise Damaged(f"block {at} of segment {self.number} does not hold")

    def sync(self) -> None:
        """Waits until what was written to both files, through the maps too, is on the disk."""
        for fd in self._fds:
            os.fdatasync(fd)

    def close(self) -> None:
        """Closes descriptors. The maps go when nobody looks at them any more."""
        while self._fds:
            os.close(self._fds.pop())


def checksums(codes: Codes, slots: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
    """The slots' checksums, uint32 [n]: crc32 over the `SLOT` row, then over the code."""
    rows = np.ascontiguousarray(slots).tobytes()
    flat = np.ascontiguousarray(codes).tobytes()
    size, width = SLOT.itemsize, codes.shape[1]
    crc = zlib.crc32
    found = [
        crc(flat[at * width : (at + 1) * width], crc(rows[at * size : (at + 1) * size])) for at in range(len(codes))
    ]
    return np.array(found, dtype=np.uint32)


def check_header(path: Path, spec: SegmentSpec, magic: bytes, number: int, size: int) -> None:
    """Holds a file's header against what it must be; raises as `Segment` says."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size + _CRC.size)
        actual = os.fstat(file.fileno()).st_size
    if len(head) < _HEADER.size + _CRC.size:
        raise Damaged(f"{path} is cut off inside its header")
    found = _HEADER.unpack_from(head)
    if found[0] != magic:
        raise ForeignFormat(f"{path} starts with {found[0]!r}, not {magic!r}")
    if _CRC.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
        raise Damaged(f"the header of {path} does not hold")
    if found[1] != VERSION:
        raise ForeignFormat(f"{path} has format {found[1]}; this software reads format {VERSION}")
    if head != spec.header(magic, number):
        raise ForeignFormat(f"{path} belongs to another generation, partition, width, capacity or folder: {found[1:]}")
    if actual < size:
        raise Damaged(f"{path} has {actual} bytes, not {size}")


def sync_folder(folder: Path) -> None:
    """Waits until the folder's own entries are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
