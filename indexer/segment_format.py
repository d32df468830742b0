r"""Segment files, version 2, byte by byte: what lies on the disk, its checksums, and how another version is refused.

A shard's codes lie in segments. Those numbered 0 to the head were appended to and have the shard's capacity; a
compacted one replaces the segments `number` to `last`, holds what lived in them, and has a capacity of its own
(indexer/compaction.py). Numbers are little endian; bits of a code are packed most significant first.

`NNNNNNNN.codes`, or `NNNNNNNN-LLLLLLLL.codes` for a compacted one of layout L:

    0      magic "DSCODES\x00" | version u32 | bits u32 | capacity u32 | partition u32 | number u64 | last u64
           | layout u64, 0 for one that was appended to | generation 64 bytes UTF-8, zero padded
           | incarnation 16 bytes | crc32 u32 of all before it | zeros to 4096
    4096   codes, capacity x bits / 8 bytes, zeros to a multiple of 4096
    footer magic "DSFOOT\x00\x00" | version u32 | block bytes u32 | blocks u32 | crc32 u32 per block
           | crc32 u32 of the footer before it

`.meta`, under the same name: the same header with magic "DSMETA\x00\x00" and at byte 2048 a u64 `edits`, which rises
after each change of a committed slot, and a u64 `rewrites`, which rises after each of those changes that put a damaged
code back; then one column after the other, each at a multiple of 4096:

    born i64          offset of the record that brought the code
    died i64          offset of the record that took it away; 2**63 - 1 while it lives. An aligned 8-byte store
    object_index i32  -1 for the whole picture
    flags u32         bit 0: buyable
    label u32         number of the label's name in the catalogue; 0: none
    category u32      number of the top category's name in the catalogue; 0: none
    board u32         number of the board's name in the catalogue; 0: none
    nth u32           the code's place in its run: the codes of one pin that lie side by side
    check u32         checksum of the slot, below
    slot u64          in compacted segments only: the slot's number, ascending

A slot's number, segment << 32 | index, is given when its code is written and stays with it when compaction moves it.
The checksum covers, without padding, slot u64, born, object_index, flags, label, category, board, nth and the code,
zeros to a multiple of 8 behind it, as 64-bit words w: the upper half of (k[0] + w[0] k[1] + w[1] k[2] + ...) mod 2**64,
where k is splitmix64 from seed 0 with the lowest bit of each set. That is multilinear hashing (Lemire and Kaser,
"Strongly universal string hashing is fast", 2014), which numpy computes over all rows at once, fifteen times as fast as
a CRC of each: every flip of one bit is found, and of other damage all but one in four thousand million.

`died`, `edits` and `rewrites` are outside the checksums because they change in place; `verify` holds them against the
catalogue.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.errors import Damaged, ForeignFormat

VERSION = 2
ALIGN = 4096
BLOCK_BYTES = 1 << 20
EDITS_AT = 2048
LIVE = 2**63 - 1
BUYABLE = 1
CODES_MAGIC = b"DSCODES\x00"
META_MAGIC = b"DSMETA\x00\x00"
REBUILD = "the log brings everything again: `dotstream index repair` replays it into a new folder beside this one"
_HEADER = struct.Struct("<8sIIIIQQQ64s16s")
_CRC = struct.Struct("<I")
_FOOTER = struct.Struct("<8sIII")
_FOOTER_MAGIC = b"DSFOOT\x00\x00"
_COLUMNS: tuple[tuple[str, str], ...] = (
    ("born", "<i8"),
    ("died", "<i8"),
    ("object_index", "<i4"),
    ("flags", "<u4"),
    ("label", "<u4"),
    ("category", "<u4"),
    ("board", "<u4"),
    ("nth", "<u4"),
    ("check", "<u4"),
    ("slot", "<u8"),
)
KINDS = dict(_COLUMNS)
COLUMNS_OF_A_SLOT = ("born", "object_index", "flags", "label", "category", "board", "nth")
"""The columns that are written with a code and never change."""
SLOT = np.dtype([("slot", "<u8"), *((name, KINDS[name]) for name in COLUMNS_OF_A_SLOT)])
"""What a slot's checksum covers besides its code, in this order and without padding."""

Codes = npt.NDArray[np.uint8]
Slots = npt.NDArray[np.void]


def slot_of(segment: int, index: int) -> int:
    """The number of a slot within its shard."""
    return segment << 32 | index


def place_of(slot: int) -> tuple[int, int]:
    """(segment, index) at which a slot was written."""
    return slot >> 32, slot & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """What a segment's headers say besides its number.

    Attributes:
        generation: name of the generation, at most 64 bytes.
        partition: of objects.<generation>.
        bits: width of a code, a multiple of 8.
        capacity: slots.
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
        return self.footer_at + _aligned(self.footer_bytes)

    @property
    def footer_bytes(self) -> int:
        """Size of the footer."""
        return _FOOTER.size + 4 * self.blocks + _CRC.size

    def column_at(self, name: str) -> int:
        """Where a column of the meta file starts."""
        at = ALIGN
        for column, kind in _COLUMNS:
            if column == name:
                return at
            at += _aligned(self.capacity * np.dtype(kind).itemsize)
        raise KeyError(name)

    def meta_bytes(self, *, compacted: bool) -> int:
        """Size of the meta file."""
        last = "slot" if compacted else "check"
        return self.column_at(last) + _aligned(self.capacity * np.dtype(KINDS[last]).itemsize)


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Which segment it is.

    Attributes:
        number: the first of the segments whose slots it holds.
        last: the last of them; `number` for one that was appended to.
        layout: which layout of the shard brought it; 0 for one that was appended to.
    """

    number: int
    last: int
    layout: int = 0

    @property
    def compacted(self) -> bool:
        """Whether compaction made it."""
        return self.layout > 0

    def path(self, folder: Path, suffix: str) -> Path:
        """Its file with this suffix."""
        return folder / f"{self.number:08d}{f'-{self.layout:08d}' if self.compacted else ''}{suffix}"


def header(spec: SegmentSpec, name: SegmentName, magic: bytes) -> bytes:
    """The header of one of the two files."""
    numbers = (VERSION, spec.bits, spec.capacity, spec.partition, name.number, name.last, name.layout)
    head = _HEADER.pack(magic, *numbers, spec.generation.encode(), spec.incarnation)
    return head + _CRC.pack(zlib.crc32(head))


def check_header(path: Path, spec: SegmentSpec, name: SegmentName, magic: bytes, size: int) -> None:
    """Holds a file's header against what it must be.

    Raises:
        FileNotFoundError: there is none.
        ForeignFormat: of another version, generation, partition, width, capacity or folder.
        Damaged: its checksum does not hold, or the file is too short.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER.size + _CRC.size)
        actual = os.fstat(file.fileno()).st_size
    if len(head) < _HEADER.size + _CRC.size:
        raise Damaged(f"{path} is cut off inside its header")
    if not head.startswith(magic):
        raise ForeignFormat(f"{path} starts with {head[: len(magic)]!r}, not {magic!r}")
    version = int.from_bytes(head[8:12], "little")
    whole = _CRC.unpack_from(head, _HEADER.size)[0] == zlib.crc32(head[: _HEADER.size])
    if version == 1:
        raise ForeignFormat(f"{path} has format 1; this software reads format {VERSION}: {REBUILD}")
    if not whole:
        raise Damaged(f"the header of {path} does not hold")
    if version != VERSION:
        raise ForeignFormat(f"{path} has format {version}; this software reads format {VERSION}")
    if head != header(spec, name, magic):
        found = _HEADER.unpack_from(head)[1:]
        raise ForeignFormat(f"{path} belongs to another generation, partition, width, capacity or folder: {found}")
    if actual < size:
        raise Damaged(f"{path} has {actual} bytes, not {size}")


def footer(codes: Codes) -> bytes:
    """The footer over a segment's codes, uint8 [capacity, bits / 8]."""
    crcs = _block_crcs(codes)
    found = _FOOTER.pack(_FOOTER_MAGIC, VERSION, BLOCK_BYTES, len(crcs)) + struct.pack(f"<{len(crcs)}I", *crcs)
    return found + _CRC.pack(zlib.crc32(found))


def check_footer(found: bytes, codes: Codes, number: int) -> None:
    """Holds every block of a sealed segment's codes against its footer.

    Raises:
        Damaged: the footer or a block does not hold.
    """
    blocks = (len(found) - _FOOTER.size - _CRC.size) // 4
    expected = (_FOOTER_MAGIC, VERSION, BLOCK_BYTES, blocks)
    whole = _CRC.unpack_from(found, len(found) - _CRC.size)[0] == zlib.crc32(found[: -_CRC.size])
    if not whole or _FOOTER.unpack_from(found) != expected:
        raise Damaged(f"the footer of segment {number} does not hold")
    for at, (crc, now) in enumerate(
        zip(struct.unpack_from(f"<{blocks}I", found, _FOOTER.size), _block_crcs(codes), strict=True)
    ):
        if crc != now:
            raise Damaged(f"block {at} of segment {number} does not hold")


def _block_crcs(codes: Codes) -> list[int]:
    data = memoryview(codes.reshape(-1))  # type: ignore[arg-type]
    return [zlib.crc32(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]


def checksums(codes: Codes, slots: Slots) -> npt.NDArray[np.uint32]:
    """The slots' checksums, as the module says.

    Args:
        codes: uint8 [n, bits / 8].
        slots: `SLOT` [n], filled in.

    Returns:
        uint32 [n].
    """
    n, width = codes.shape
    head = SLOT.itemsize
    rows = np.zeros((n, _aligned(head + width, 8)), np.uint8)
    rows[:, :head] = np.ascontiguousarray(slots).view(np.uint8).reshape(n, head)
    rows[:, head : head + width] = codes
    keys = _keys(rows.shape[1] // 8 + 1)
    sums = np.einsum("ij,j->i", rows.view("<u8"), keys[1:]) + keys[0]
    found: npt.NDArray[np.uint32] = (sums >> np.uint64(32)).astype(np.uint32)
    return found


@cache
def _keys(count: int) -> npt.NDArray[np.uint64]:
    """The first so many outputs of splitmix64 from seed 0, each made odd."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (z ^ z >> np.uint64(31)) | np.uint64(1)


def _aligned(size: int, to: int = ALIGN) -> int:
    return -(-size // to) * to


def sync_folder(folder: Path) -> None:
    """Waits until the folder's own entries are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
