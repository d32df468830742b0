"""Numbers for names: labels, categories and boards stand in the segments' columns by number, which makes filters exact.

Numbers are given from 1 in the order in which names come, for all kinds together, and never change. They are a shard's
own and no part of its content: a replay may give others.
"""

from __future__ import annotations

from indexer.catalogue import Catalogue
from indexer.database import U64, Batch

LABEL, CATEGORY, BOARD = b"l", b"c", b"b"
_MOST_KNOWN = 100_000


class Names:
    """The numbers of one shard, as its writer gives them.

    Args:
        catalogue: where they are kept; names that were met lately are kept in memory too.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._last: int = U64.unpack(catalogue.get("meta", b"names") or bytes(8))[0]
        self._known: dict[bytes, dict[str, int]] = {kind: {} for kind in (LABEL, CATEGORY, BOARD)}

    def number(self, kind: bytes, name: str | None, batch: Batch) -> int:
        """The name's number; 0 for no name. A new name enters the catalogue with the batch."""
        if not name:
            return 0
        known = self._known[kind]
        number: int | None = known.get(name)
        if number is None:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            number = self._catalogue.number_of(kind, name)
            known[name] = number = self._give(kind, name, batch) if number is None else number
        return number

    def _give(self, kind: bytes, name: str, batch: Batch) -> int:
        self._last += 1
        batch.put("names", kind + name.encode(), U64.pack(self._last))
        batch.put("meta", b"names", U64.pack(self._last))
        return self._last
