"""Numbers for names: labels, categories and boards stand in the segments' columns by number, which makes filters exact.

Numbers are given from 1 in the order in which names come, for all kinds together, and never change. They are a shard's
own and no part of its content: a replay may give others.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        self._known: dict[bytes, dict[str, int]] = {kind: {"": 0} for kind in (LABEL, CATEGORY, BOARD)}

    def forget(self) -> None:
        """Before a batch is worked out: lets go of what memory keeps beyond its limit. Not within a batch, whose names
        the catalogue does not have yet.
        """
        for kind, known in self._known.items():
            if len(known) > _MOST_KNOWN:
                self._known[kind] = {"": 0}

    def numbers(self, kind: bytes, names: Sequence[str], batch: Batch) -> list[int]:
        """The names' numbers; 0 for an empty one. New names enter the catalogue with the batch."""
        known = self._known[kind]
        for name in dict.fromkeys(names):
            if name not in known:
                number = self._catalogue.number_of(kind, name)
                known[name] = self._give(kind, name, batch) if number is None else number
        return [known[name] for name in names]

    def _give(self, kind: bytes, name: str, batch: Batch) -> int:
        self._last += 1
        batch.put("names", kind + name.encode(), U64.pack(self._last))
        batch.put("meta", b"names", U64.pack(self._last))
        return self._last
