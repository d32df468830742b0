"""Which files hold a shard's slots: one segment for each number up to the head, but for what compaction replaced.

A slot keeps its number for ever; where its code lies follows from the layout. Kept in the catalogue under meta `layout`
and written in the batch that changes it, together with the state that carries its number. Little endian, version 1:

    version u32 | ranges u32 | number u64 | ranges x (number u64 | last u64 | layout u64 | slots u64)

Ranges ascend and do not meet. A range of no slots has no file: all that was in it is dead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from indexer.errors import Damaged, ForeignFormat
from indexer.segment_format import SegmentName, SegmentSpec

VERSION = 1
_HEAD = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class Range:
    """The segments that one compaction replaced.

    Attributes:
        name: of the compacted segment.
        slots: in it; 0 when there is none.
    """

    name: SegmentName
    slots: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Attributes:
    number: rises with each compaction; 0 before the first.
    ranges: what compaction replaced, ascending.
    """

    number: int = 0
    ranges: tuple[Range, ...] = ()

    def files(self, spec: SegmentSpec, head_segment: int) -> Iterator[tuple[SegmentName, SegmentSpec]]:
        """Every segment that there is, ascending, with what its headers must say."""
        number = 0
        for each in self.ranges:
            for plain in range(number, each.name.number):
                yield SegmentName(plain, plain), spec
            if each.slots:
                yield each.name, replace(spec, capacity=each.slots)
            number = each.name.last + 1
        for plain in range(number, head_segment + 1):
            yield SegmentName(plain, plain), spec

    def replaced(self, name: SegmentName, slots: int) -> Layout:
        """The next layout, in which `name` with so many slots stands for the segments from its number to its last."""
        kept = [each for each in self.ranges if each.name.last < name.number or each.name.number > name.last]
        ranges = sorted([*kept, Range(name, slots)], key=lambda each: each.name.number)
        return Layout(name.layout, tuple(ranges))

    def pack(self) -> bytes:
        """The layout's bytes."""
        head = _HEAD.pack(VERSION, len(self.ranges), self.number)
        names = (_RANGE.pack(each.name.number, each.name.last, each.name.layout, each.slots) for each in self.ranges)
        return b"".join((head, *names))


def unpack(value: bytes | None) -> Layout:
    """The layout that these bytes hold; the first one when there are none.

    Raises:
        ForeignFormat: of another version.
        Damaged: the bytes are no layout.
    """
    if value is None:
        return Layout()
    try:
        version, count, number = _HEAD.unpack_from(value)
        if version != VERSION:
            raise ForeignFormat(f"the layout has format {version}; this software reads format {VERSION}")
        rows = [_RANGE.unpack_from(value, _HEAD.size + at * _RANGE.size) for at in range(count)]
    except struct.error as error:
        raise Damaged(f"a layout of {len(value)} bytes does not unpack: {error}") from None
    return Layout(number, tuple(Range(SegmentName(*row[:3]), row[3]) for row in rows))
