"""The catalogue of a shard in RocksDB: what each pin's winning record is, and the counts and lists kept over them.

A database (indexer/database.py) with these column families, all with raw bytes (numbers big endian in keys):

    pins       pin_id -> row (indexer/entries.py); deletes too, also of pins never seen
    slots      first slot of a run u64 -> codes of the run u32, pin_id; live runs only. A run is what one pin has side
               by side in a segment
    sha256     image sha256 32 bytes + pin_id -> b""; live pins only
    df         annotation -> u64, live pins that carry it
    newest     recorded_at u64 + pin_id -> b""; live pins only
    deletes    logged_at u64 + pin_id -> b""; deleted pins, by when their retention began
    pending    pin_id -> i64, offset of the last logged record, which is not the winner
    deaths     slot u64 -> i64 offset; deaths that a power loss may take out of the columns
    damaged    slot u64 -> b""; slots that failed their checksum in a recovery and wait for their record
    words      the inverted index of annotation search (indexer/words.py)
    names      b"l" | b"c" | b"b" + name -> u64, numbers of labels, categories and boards in the segments' columns
    meta       b"format" -> JSON identity; b"state" -> indexer/commit_page.py; b"layout" -> indexer/layout.py;
               b"names" -> u64, the greatest number given in names; b"level" -> i64, Unix ms at which the log was last
               seen read to its end, else the folder was made
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from indexer import entries
from indexer.database import U32, U64, Batch, Database, after
from indexer.entries import Row

FAMILIES = (
    *("pins", "slots", "sha256", "df", "words", "newest"),
    *("deletes", "pending", "deaths", "damaged", "names", "meta"),
)
_MIB = 1 << 20
_MEMORY_BYTES = 16 * _MIB
"""Whenever so much is flushed, followers open anew and read the log of it, in 50 ms: twice as much takes twice as long,
half as much is flushed ten times as often, as each family takes its memory in large pieces."""


class Catalogue(Database):
    """A shard's RocksDB, opened by its one writer or followed by a reader; the arguments are those of `Database`."""

    def __init__(
        self,
        path: Path,
        *,
        follow: Path | None = None,
        cache_bytes: int = 32 * _MIB,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        super().__init__(path, FAMILIES, follow=follow, cache_bytes=cache_bytes, memory_bytes=memory_bytes)

    def rows(self, pin_ids: Sequence[str]) -> list[Row | None]:
        """The catalogue's rows of these pins, in their order."""
        found = self.get_many("pins", [pin_id.encode() for pin_id in pin_ids])
        return [None if value is None else entries.unpack(value) for value in found]

    def owners(self, runs: Sequence[int]) -> list[str | None]:
        """The pins of these runs, each by its first slot; None for one that is dead or not there yet."""
        found = self.get_many("slots", [U64.pack(run) for run in runs])
        return [None if value is None else value[U32.size :].decode() for value in found]

    def runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """(first slot, codes) of the live runs in start <= first slot < stop, ascending."""
        with self.scan("slots", U64.pack(start), U64.pack(stop)) as found:
            return [(U64.unpack(key)[0], U32.unpack_from(value)[0]) for key, value in found]

    def count(self, family: str, come: Sequence[str], gone: Sequence[str], batch: Batch) -> None:
        """Lets the batch move u64 counters up for each name that came and down for each that went; those that reach 0
        go out of the family.
        """
        moves = Counter(come)
        moves.subtract(gone)
        changed = [(name.encode(), n) for name, n in moves.items() if n]
        standing = self.numbers(family, [key for key, _ in changed])
        for (key, n), before in zip(changed, standing, strict=True):
            if before + n > 0:
                batch.put(family, key, U64.pack(before + n))
            else:
                batch.delete(family, key)

    def number_of(self, kind: bytes, name: str) -> int | None:
        """The column number of a label (b"l"), category (b"c") or board (b"b"); None when no slot ever had it."""
        value = self.get("names", kind + name.encode())
        return None if value is None else int(U64.unpack(value)[0])

    def pins_with(self, image_sha256: bytes) -> list[str]:
        """The live pins whose picture has this sha256."""
        width = len(image_sha256)
        with self.scan("sha256", image_sha256, after(image_sha256)) as found:
            return [key[width:].decode() for key, _ in found]
