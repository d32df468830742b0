"""The catalogue's row of one pin: its winning record without the searched codes, and where those codes lie.

The searched codes live in segments only. A row keeps the record's canonical bytes with those codes cut out and the
places of the cuts, so that joining row and segment gives back the exact bytes that were logged, unknown fields
included. Row layout (little endian), version 1:

    version i64 | revision i32 | deleted u8 | pad u8 | codes u16 | offset i64 | logged_at i64 | recorded_at i64
    digest 32 bytes | slots u64 x codes | cuts u32 x codes | body

`slots` name the codes as segment << 32 | index; `cuts` are positions in the joined bytes, ascending.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from indexer.errors import Damaged
from indexer.records import Order
from indexer.records_pb2 import ObjectRecord

_HEAD = struct.Struct("<qiBxHqqq32s")
_NEEDLE = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One pin in the catalogue.

    Attributes:
        order: of the winning record.
        offset: at which the winning record was first applied.
        logged_at: the log's timestamp of that offset, Unix ms; deletes are kept for their retention from here.
        recorded_at: the record's own `recorded_at`, Unix ms.
        slots: where its codes lie, in the order of `searched_codes`; empty for a delete.
        cuts: where they belong in the joined bytes.
        body: the record's canonical bytes without them.
    """

    order: Order
    offset: int
    logged_at: int
    recorded_at: int
    slots: tuple[int, ...]
    cuts: tuple[int, ...]
    body: bytes

    def pack(self) -> bytes:
        """The row's bytes."""
        times = (self.offset, self.logged_at, self.recorded_at)
        return pack(self.order, times, self.slots, self.cuts) + self.body

    def join(self, codes: Sequence[bytes]) -> bytes:
        """The record's canonical bytes, given its codes in slot order."""
        parts: list[bytes] = []
        at = joined = 0
        for place, code in zip(self.cuts, codes, strict=True):
            gap = place - joined
            parts += (self.body[at : at + gap], code)
            at += gap
            joined = place + len(code)
        parts.append(self.body[at:])
        return b"".join(parts)


def pack(order: Order, times: tuple[int, int, int], slots: Sequence[int], cuts: Sequence[int]) -> bytes:
    """The bytes of a row before its body.

    Args:
        order: of the winning record.
        times: offset, logged_at, recorded_at.
        slots: where its codes lie.
        cuts: where they belong in the joined bytes, as many.
    """
    n = len(slots)
    version, deleted, revision, digest = order
    return _layout(n).pack(version, revision, deleted, n, *times, digest, *slots, *cuts)


@lru_cache(maxsize=4096)
def _layout(codes: int) -> struct.Struct:
    """The layout of what comes before the body, with so many codes."""
    return struct.Struct(f"{_HEAD.format}{codes}Q{codes}I")


def unpack(value: bytes) -> Row:
    """The row that these bytes hold.

    Raises:
        Damaged: the bytes are no row of this version.
    """
    try:
        n = _HEAD.unpack_from(value)[3]
        version, revision, deleted, _, offset, logged_at, recorded_at, digest, *numbers = _layout(n).unpack_from(value)
    except struct.error as error:
        raise Damaged(f"a catalogue row of {len(value)} bytes does not unpack: {error}") from None
    return Row(
        Order(version, bool(deleted), revision, digest),
        offset,
        logged_at,
        recorded_at,
        tuple(numbers[:n]),
        tuple(numbers[n:]),
        value[_HEAD.size + 12 * n :],
    )


def cut(canonical: bytes, codes: Sequence[bytes]) -> tuple[tuple[int, ...], bytes]:
    """Takes the codes out of a record's canonical bytes.

    Protobuf writes them in the order of `searched_codes`, so that each is sought behind the one before it. An equal
    run of bytes found earlier than the code's own place serves as well: joining puts the same bytes back.

    Returns:
        (places of the cuts in the canonical bytes, what is left).
    """
    places: list[int] = []
    parts: list[bytes] = []
    at = 0
    for code in codes:
        # The start of a code is found many times as fast as the whole of it, and is hardly ever found elsewhere.
        place = canonical.find(code[:_NEEDLE], at)
        if not canonical.startswith(code, place):
            place = canonical.index(code, at)
        places.append(place)
        parts.append(canonical[at:place])
        at = place + len(code)
    parts.append(canonical[at:])
    return tuple(places), b"".join(parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One pin as the index answers it.

    Attributes:
        record: the winning record, codes included.
        offset: at which it was applied, in its partition of objects.<generation>.
        order: its place among the pin's records.
        partition: of objects.<generation>.
        logged_at: the log's timestamp of that offset, Unix ms.
    """

    record: ObjectRecord
    offset: int
    order: Order
    partition: int
    logged_at: int
