"""What lies in the folder of a keyed state (indexer/keyed_state.py) beside the worker's own rows.

The row `format` of family `meta` says what a folder was made for, as JSON. State row and commit
page, little endian, version 1:

    version u32 | building u8 | pad 3 bytes | incarnation 16 bytes | applied i64 | durable i64
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from indexer.database import Database
from indexer.errors import Damaged, ForeignFormat

FORMAT = 1
META = "meta"
_LAYOUT = struct.Struct("<IBxxx16sqq")
_FRAME = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of state, of which each partition of a topic has one.

    Attributes:
        name: as "boards".
        layout: version of the rows' layout, the worker's own count.
        families: the worker's column families.
    """

    name: str
    layout: int
    families: tuple[str, ...]

    @property
    def all_families(self) -> tuple[str, ...]:
        return (*self.families, META)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a state is. `applied` and `durable` are offsets, inclusive, -1 before the first."""

    incarnation: bytes
    applied: int = -1
    durable: int = -1
    building: bool = False

    def pack(self) -> bytes:
        """The layout of the module's docstring."""
        return _LAYOUT.pack(FORMAT, self.building, self.incarnation, self.applied, self.durable)


def unpack(value: bytes | None) -> Position:
    """The position that these bytes hold.

    Raises:
        ForeignFormat: written by another version of the layout.
        Damaged: too short to be one.
    """
    if value is None or len(value) < _LAYOUT.size:
        raise Damaged(f"a state row of {len(value or b'')} bytes; {_LAYOUT.size} are expected")
    version, building, incarnation, applied, durable = _LAYOUT.unpack_from(value)
    if version != FORMAT:
        raise ForeignFormat(f"the state has layout {version}; this software reads layout {FORMAT}")
    return Position(incarnation, applied, durable, bool(building))


def made_for(store: Store, partition: int, topic_id: str) -> dict[str, object]:
    """What a folder is made for; the row `format` holds it as JSON."""
    return {
        "format": FORMAT,
        "store": store.name,
        "layout": store.layout,
        "families": list(store.families),
        "partition": partition,
        "topic_id": topic_id,
    }


def check_format(value: bytes | None, store: Store, partition: object) -> dict[str, object]:
    """Holds what a folder was made for (the row `format`) against what is wanted of it, and returns it.

    Raises:
        ForeignFormat: of another store, layout or partition, or unreadable.
    """
    try:
        found: dict[str, object] = dict(json.loads(value or b""))
    except (ValueError, TypeError) as error:
        raise ForeignFormat(f"the state does not say what it was made for: {error}") from None
    wanted = made_for(store, 0, "") | {"partition": partition}
    for name in ("format", "store", "layout", "families", "partition"):
        if found.get(name) != wanted[name]:
            raise ForeignFormat(f"the state has {name} {found.get(name)!r}; wanted is {wanted[name]!r}")
    return {"topic_id": None} | found


def digest(database: Database, families: Iterable[str]) -> str:
    """sha256, as hex, of all rows of these families in the order of their keys."""
    seen = hashlib.sha256()
    for family in families:
        seen.update(_FRAME.pack(len(family), 0) + family.encode())
        with database.scan(family) as rows:
            for key, value in rows:
                seen.update(_FRAME.pack(len(key), len(value)) + key + value)
    return seen.hexdigest()
