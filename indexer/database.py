"""RocksDB as dotstream uses it: column families of raw bytes, atomic batches, followers in other processes.

This is the one edge to rocksdict. It raises bare `Exception`s, told apart by RocksDB's status words; `_edge` turns
them into the named errors of indexer/errors.py. The index's catalogue (indexer/catalogue.py) and the local states of
workers (indexer/keyed_state.py) are such databases.

Followers are RocksDB's secondary instances, which have a trap: a family that the writer flushed into a table keeps its
old values in the follower's memory, in front of that table, when the follower had not read the log to its end before.
A flush begins a new log first, so a follower is good for as long as the newest log is the one that it was opened with;
`catch_up` says when it is not. Families are flushed together and seldom, to keep that rare.

A LOCK survives `close()` while a column family object is alive, so the database drops all of them itself.
"""

from __future__ import annotations

import gc
import re
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from rocksdict import AccessType, BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from dotstream.errors import DotstreamError, Retryable
from indexer import disk
from indexer.errors import Closed, Damaged, DiskFull, ForeignFormat, LockHeld

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
I64 = struct.Struct(">q")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_MIB = 1 << 20
_WAL_BYTES = 64 * _MIB


@contextmanager
def _edge() -> Iterator[None]:
    """Translates what rocksdict raises."""
    try:
        yield
    except DotstreamError:
        raise
    except Exception as error:
        raise translate(error) from error


@contextmanager
def _whole(*, alone: bool) -> Iterator[None]:
    """While a database is opened: its files cannot be on their way in or out where nobody else may touch them."""
    try:
        yield
    except Exception as error:
        if alone and "no such file or directory" in str(error).lower():
            raise Damaged(f"a file of the database is missing: {error}") from error
        raise


def translate(error: Exception) -> DotstreamError:
    """The named error for one of rocksdict's bare ones: by the system's error number where it writes files of its own,
    else by RocksDB's status words.
    """
    text = str(error)
    refused = _OS_ERROR.search(text)
    return disk.translate(OSError(int(refused[1]), text)) if refused else _by_status(text, type(error).__name__)


def _by_status(text: str, kind: str) -> DotstreamError:
    lowered = text.lower()
    if "lock" in lowered and ("no locks available" in lowered or "resource temporarily unavailable" in lowered):
        return LockHeld(f"the database is open elsewhere: {text}")
    if "no space left" in lowered or "disk quota" in lowered:
        return DiskFull(f"no space for the database: {text}")
    if "corruption" in lowered or "checksum" in lowered:
        return Damaged(f"the database is damaged: {text}")
    if lowered.startswith(("invalid argument", "not implemented", "not supported")):
        return ForeignFormat(f"the database was written otherwise: {text}")
    if lowered.startswith(("io error", "busy", "try again", "timed out", "operation", "shutdown", "incomplete")):
        return Retryable(f"the database could not be read or written: {text}")
    return Damaged(f"the database answered with {kind}: {text}")


def _options(memory_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_max_open_files(-1)  # followers keep reading tables that the writer's compaction has replaced
    options.set_db_write_buffer_size(memory_bytes)
    options.set_atomic_flush(True)
    options.set_max_total_wal_size(_WAL_BYTES)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    options.set_max_background_jobs(2)
    options.set_max_file_opening_threads(1)  # each catch-up of a follower would start 15 threads per family
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _family_options(cache: Cache, memory_bytes: int) -> Options:
    options = Options(raw_mode=True)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(cache)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(memory_bytes)
    return options


class Database:
    """A RocksDB folder, opened by its one writer or followed by a reader.

    Args:
        path: the database's folder.
        families: its column families; all of them, the same for writer and followers.
        follow: None opens it for writing; a folder for RocksDB's own log files opens it as a follower that sees
            what the writer has written up to the last `catch_up`.
        cache_bytes: block cache.
        memory_bytes: what the writer keeps in memory before it flushes all families into tables.

    Raises:
        LockHeld, DiskFull, Damaged, ForeignFormat, Retryable: as `translate` tells them apart; of each method too.
        Closed: of each method after `close`.
    """

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        *,
        follow: Path | None = None,
        cache_bytes: int = 32 * _MIB,
        memory_bytes: int = 32 * _MIB,
    ) -> None:
        cache = Cache(cache_bytes)
        access = AccessType.read_write() if follow is None else AccessType.secondary(str(follow))
        options = {name: _family_options(cache, memory_bytes) for name in families}
        self._path = path
        self._log = newest_log(path)
        with _edge(), _whole(alone=follow is None):
            self._db = Rdict(str(path), _options(memory_bytes), options, access)
            self._of: dict[str, Rdict] = {name: self._db.get_column_family(name) for name in families}
            self._handles: dict[str, Any] = {name: self._db.get_column_family_handle(name) for name in families}
        self._unsynced = WriteOptions()

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, family: str, key: bytes) -> bytes | None:
        """One value."""
        with _edge():
            value: bytes | None = self._opened(family).get(key)
        return value

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys, in their order."""
        if not keys:
            return []
        with _edge():
            values: Any = self._opened(family).get(list(keys))
        return list(values)

    def numbers(self, family: str, keys: Sequence[bytes]) -> list[int]:
        """u64 counters; 0 where there is none."""
        return [0 if value is None else U64.unpack(value)[0] for value in self.get_many(family, keys)]

    @contextmanager
    def scan(
        self, family: str, start: bytes = b"", stop: bytes | None = None, *, back: bool = False
    ) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        """Keys and values of a family in start <= key < stop, ascending, or descending when `back`.

        The iterator is let go at the end of the `with`, as one that stays alive keeps the LOCK.
        """
        walk = self._back(family, start, stop) if back else self._forth(family, start, stop)
        try:
            yield walk
        finally:
            walk.close()

    def _forth(self, family: str, start: bytes, stop: bytes | None) -> Generator[tuple[bytes, bytes], None, None]:
        with _edge():
            cursor = self._opened(family).iter()
            cursor.seek(start)
            while cursor.valid() and (stop is None or cursor.key() < stop):
                yield cursor.key(), cursor.value()
                cursor.next()
            cursor.status()

    def _back(self, family: str, start: bytes, stop: bytes | None) -> Generator[tuple[bytes, bytes], None, None]:
        with _edge():
            cursor = self._opened(family).iter()
            if stop is None:
                cursor.seek_to_last()
            else:
                cursor.seek_for_prev(stop)
                if cursor.valid() and cursor.key() == stop:
                    cursor.prev()
            while cursor.valid() and cursor.key() >= start:
                yield cursor.key(), cursor.value()
                cursor.prev()
            cursor.status()

    # -- writing -------------------------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """An empty atomic batch over the families."""
        self._check_open()
        return Batch(self._handles)

    def write(self, batch: Batch) -> None:
        """Writes a batch: all of it or nothing, in the operating system's hands, not yet on the disk."""
        self._check_open()
        with _edge():
            self._db.write(batch.raw, self._unsynced)

    def sync(self) -> None:
        """Waits until every batch written so far is on the disk."""
        self._check_open()
        with _edge():
            self._db.flush_wal(True)

    def catch_up(self) -> bool:
        """Followers: takes in what the writer has written since.

        Returns:
            False when the writer has begun a new log since: open a new follower, this one may answer from the past.
        """
        self._check_open()
        with _edge():
            self._db.try_catch_up_with_primary()
        return newest_log(self._path) == self._log

    def _opened(self, family: str) -> Rdict:
        self._check_open()
        return self._of[family]

    def _check_open(self) -> None:
        if not self._of:
            raise Closed

    def close(self) -> None:
        """Closes the database and lets go of its lock."""
        self._handles.clear()
        self._of.clear()
        with _edge():
            self._db.close()
        del self._db
        gc.collect(0)


class Batch:
    """One atomic write over the families."""

    def __init__(self, handles: dict[str, Any]) -> None:
        self.raw = WriteBatch(raw_mode=True)
        self._handles = handles

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Sets a value."""
        self.raw.put(key, value, self._handles[family])

    def put_many(self, family: str, keys: Iterable[bytes], values: Iterable[bytes]) -> None:
        """Sets each key's value; ends with the shorter of the two, so that one value may be repeated for ever."""
        deque(map(self.raw.put, keys, values, repeat(self._handles[family])), 0)  # a loop without Python in it

    def delete(self, family: str, key: bytes) -> None:
        """Takes a key out."""
        self.raw.delete(key, self._handles[family])


def newest_log(path: Path) -> int:
    """The number of RocksDB's newest write-ahead log in a database's folder; 0 without one."""
    return max((int(log.stem) for log in path.glob("*.log") if log.stem.isdigit()), default=0)


def after(prefix: bytes) -> bytes | None:
    """The first key behind all keys with this prefix; None when there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else None
