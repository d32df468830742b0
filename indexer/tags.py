"""Expert tags for Shop-the-Look: which products experts attached to which part of a pin (paper section 7).

Kept by the tags worker (consumers/tags.py) from topic `tags`, one set for each scene (indexer/timed_sets.py): of the
events of one (part, product) the later counts, at a tie untagged, so that repetition changes nothing. A set's names are

    part, US (0x1f), product_pin_id

    part: "" the whole picture | "o" and the object's index | "b" and x0, y0, x1, y1 as little-endian float32 in hex

Ids hold no control characters (producers/events.py refuses them).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.errors import Damaged
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
from indexer.timed_sets import members_of, time_of

TAGS = Store("tags", 1, ("tags",))
"""pin_id -> the set of its tags; partitions as topic `tags`."""
CAPACITY = 256
"""Tags that a pin keeps, its newest."""
_SEPARATOR = b"\x1f"
_BOX = struct.Struct("<ffff")

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Tagged:
    """A product that an expert attached to a pin.

    Attributes:
        object_index: of the pin's object; None with a box, or for the whole picture.
        box: where no object is named.
        product_pin_id: the product's pin.
        event_time: Unix milliseconds.
    """

    object_index: int | None
    box: Box | None
    product_pin_id: str
    event_time: int


def name_of(object_index: int | None, box: Box | None, product_pin_id: str) -> bytes:
    """The name of a tag in its pin's set."""
    if object_index is not None:
        part = b"o%d" % object_index
    else:
        part = b"" if box is None else b"b" + _BOX.pack(*box).hex().encode()
    return part + _SEPARATOR + product_pin_id.encode()


def tag_of(name: bytes, event_time: int) -> Tagged:
    """The tag of a name.

    Raises:
        Damaged: it is no name of a tag.
    """
    part, _, product = name.partition(_SEPARATOR)
    try:
        index = int(part[1:]) if part[:1] == b"o" else None
        box = _BOX.unpack(bytes.fromhex(part[1:].decode())) if part[:1] == b"b" else None
        return Tagged(index, box, product.decode(), event_time)
    except (ValueError, struct.error) as error:
        raise Damaged(f"{name!r} is no tag: {error}") from None


class TagReader:
    """Reads the tags of pins in another process; `reader` follows the store `TAGS`. Thread-safe."""

    def __init__(self, reader: KeyedReader) -> None:
        self._reader = reader

    def of(self, pin_id: str) -> Sequence[Tagged]:
        """The products attached to a pin, latest first.

        Raises:
            Retryable: the store is being replaced or its disk refuses.
        """
        self._reader.refresh()
        names, orders = members_of(self._reader.get("tags", pin_id.encode()))
        found = [tag_of(name, time_of(order)) for name, order in zip(names, orders, strict=True)]
        return found[::-1]

    def close(self) -> None:
        """Lets go of the files."""
        self._reader.close()
