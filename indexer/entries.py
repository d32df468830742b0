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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256, shake_128

import numpy as np
from google.protobuf.message import DecodeError

from indexer.errors import Damaged
from indexer.records import Order, encode
from indexer.records_pb2 import Code, ObjectRecord

_HEAD = struct.Struct("<qiBxHqqq32s")
_NEEDLE = 16
_TURNED = bytes(range(255, -1, -1))


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


def cut(record: ObjectRecord, canonical: bytes, codes: Sequence[bytes]) -> tuple[tuple[int, ...], bytes]:
    """Takes the codes out of a record's canonical bytes.

    Args:
        record: a checked one.
        canonical: its bytes.
        codes: its searched codes, all of one width; none for a delete.

    Returns:
        (places of the cuts in the canonical bytes, what is left).
    """
    places = _places_of(record, canonical, codes)
    parts: list[bytes] = []
    at = 0
    for place, code in zip(places, codes, strict=True):
        parts.append(canonical[at:place])
        at = place + len(code)
    parts.append(canonical[at:])
    return places, b"".join(parts)


def _places_of(record: ObjectRecord, canonical: bytes, codes: Sequence[bytes]) -> tuple[int, ...]:
    """Where the codes lie in their record's canonical bytes."""
    places = _only_places(canonical, codes)
    return tuple(_true_places(record, canonical, codes) if places is None else places)


def _only_places(canonical: bytes, codes: Sequence[bytes]) -> list[int] | None:
    """Where the codes lie, if their bytes alone tell it; None where they do not.

    Protobuf writes the codes in their order, each behind the tag and the length of `Code.bits`, so that each is sought
    behind the one before it. Between the first place of one and that of the next there must be no second one, as that
    might be the true one. The start of a code is found many times as fast as the whole of it.
    """
    if not codes:
        return []
    head = _head_of(len(codes[0]))
    places: list[int] = []
    find, before, last = canonical.find, len(head), len(codes[0])
    at, needle = 0, b""
    for code in codes:
        was, needle = needle, head + code[:_NEEDLE]
        found = find(needle, at)
        if found < 0 or (was and find(was, places[-1] - before + 1, found) >= 0):
            return None
        places.append(found + before)
        at = found + before + last
    return None if find(needle, places[-1] - before + 1) >= 0 else places


@lru_cache
def _head_of(code_bytes: int) -> bytes:
    """What protobuf writes before the bytes of a code: the tag of `Code.bits` and the length."""
    return Code(bits=bytes(code_bytes)).SerializeToString()[:-code_bytes]


def _true_places(record: ObjectRecord, canonical: bytes, codes: Sequence[bytes]) -> list[int]:
    """Where the codes lie in any case: where the bytes differ from those of the same record with each bit of the codes
    turned. Takes several times as long.
    """
    turned = ObjectRecord()
    turned.CopyFrom(record)
    for code in (turned.codes[0], *(item.codes[0] for item in turned.objects)):
        code.bits = code.bits.translate(_TURNED)
    was, now = (np.frombuffer(each, np.uint8) for each in (canonical, encode(turned)))
    places: list[int] = np.flatnonzero(was != now)[:: len(codes[0])].tolist()
    return places


def without_codes(row: Row, code_bytes: int, read: Callable[[Row], Sequence[bytes]]) -> ObjectRecord:
    """The row's record for what it says beside its codes, in whose place others stand as a rule, for speed.

    Rows of earlier versions may be cut at an equal run of bytes, in a field before the code or in its length, where
    only the codes themselves fit.

    Args:
        row: of a live pin.
        code_bytes: width of a code.
        read: the row's codes, out of the segments.

    Raises:
        Damaged: it is such a row, and one of its codes is damaged.
    """
    blanks = [_blank(code_bytes)] * len(row.slots)
    joined = row.join(blanks)
    with suppress(DecodeError, IndexError):
        record = ObjectRecord.FromString(joined)
        if [record.codes[0].bits, *[item.codes[0].bits for item in record.objects]] == blanks and (
            joined.count(blanks[0][:_NEEDLE]) == len(blanks)  # then the codes are the cuts, and all else is as it was
            or (encode(record) == joined and _places_of(record, joined, blanks) == row.cuts)
        ):
            return record
    canonical = row.join(read(row))
    if sha256(canonical).digest() != row.order.digest:
        raise Damaged("a record whose codes are damaged cannot be taken out; run `dotstream index repair`")
    return ObjectRecord.FromString(canonical)


@lru_cache
def _blank(code_bytes: int) -> bytes:
    """Bytes of a code's width that hardly ever stand anywhere else."""
    return shake_128(b"blank").digest(code_bytes)


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
