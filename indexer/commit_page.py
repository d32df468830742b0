"""What a shard has committed, as one small value: the state row of the catalogue and the page that followers read.

The writer stores `State` inside the catalogue's atomic batch (step 2 of the commit protocol) and publishes the same
value with `durable_offset` on the commit page (step 4). Layout, little endian, version 2:

    version u32 | building u8 | pad 3 bytes | incarnation 16 bytes
    applied i64 | reached i64 | durable i64
    durable_segment u64 | durable_length u64 | head_segment u64 | head_length u64
    live_pins u64 | deleted_pins u64 | objects u64 | codes u64 | documents u64 | layout u64
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

from indexer.errors import Damaged, ForeignFormat

_LAYOUT = struct.Struct("<IBxxx16sqqqQQQQQQQQQQ")
VERSION = 2


@dataclass(frozen=True, slots=True)
class State:
    """A committed version of a shard.

    Attributes:
        incarnation: 16 random bytes drawn when the folder was made; offsets of two incarnations do not compare.
        applied: the last applied offset, inclusive; -1 before the first. Replay goes on behind it.
        reached: the greatest offset whose effects the catalogue may hold; above `applied` only while a replay puts
            back codes that a power loss took.
        durable: the last offset whose effects are known to survive a power loss.
        durable_segment, durable_length: how far codes are known to be on the disk.
        head_segment, head_length: the segment that is appended to, and the slots in it that are committed.
        live_pins, deleted_pins: rows of the catalogue by kind.
        objects: detected objects of live pins.
        codes: searchable codes: objects and whole pictures.
        documents: live pins with at least one annotation, the N of inverse document frequencies.
        layout: number of the layout (indexer/layout.py), which says which files hold the slots.
        building: a rebuild that was not put in place yet.
    """

    incarnation: bytes
    applied: int = -1
    reached: int = -1
    durable: int = -1
    durable_segment: int = 0
    durable_length: int = 0
    head_segment: int = 0
    head_length: int = 0
    live_pins: int = 0
    deleted_pins: int = 0
    objects: int = 0
    codes: int = 0
    documents: int = 0
    layout: int = 0
    building: bool = False

    def pack(self) -> bytes:
        """The state's bytes."""
        return _LAYOUT.pack(
            VERSION,
            self.building,
            self.incarnation,
            self.applied,
            self.reached,
            self.durable,
            self.durable_segment,
            self.durable_length,
            self.head_segment,
            self.head_length,
            self.live_pins,
            self.deleted_pins,
            self.objects,
            self.codes,
            self.documents,
            self.layout,
        )


def unpack(value: bytes) -> State:
    """The state that these bytes hold.

    Raises:
        ForeignFormat: written by another version of the layout.
        Damaged: too short to be a state.
    """
    version = int.from_bytes(value[:4], "little")
    if len(value) >= 4 and version != VERSION:
        raise ForeignFormat(f"the state has format {version}; this software reads format {VERSION}")
    if len(value) < _LAYOUT.size:
        raise Damaged(f"a state of {len(value)} bytes; {_LAYOUT.size} are expected")
    _, building, incarnation, *rest = _LAYOUT.unpack_from(value)
    names = [field.name for field in fields(State)][1:-1]
    numbers = dict(zip(names, rest, strict=True))
    return State(incarnation, building=bool(building), **numbers)
