"""The states of a worker (indexer/keyed_state.py) as other processes read them: all partitions, without a lock.

A follower looks at the commit page, and only when that moved does it let RocksDB's secondary instance catch up. Each
row that it gives is whole and committed; rows of two calls may be of different versions.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from dotstream.errors import DotstreamError, Retryable
from indexer import folder
from indexer.database import Database
from indexer.disk import disk
from indexer.errors import Damaged
from indexer.folder import CURRENT
from indexer.keyed_layout import META, Position, Store, check_format, unpack
from indexer.pages import PageFile
from indexer.partition import partition_of
from indexer.scratch import Scratch

_CACHE_BYTES = 8 << 20
_TRIES = 8


class KeyedFollower:
    """Follows one partition's state. `refresh` and the readings may be called from any thread.

    Args:
        home: the partition's folder; it need not exist yet.
        store: what it holds.
        partition: of the topic.
        scratch: a folder for RocksDB's log files of this follower.
    """

    def __init__(self, home: Path, store: Store, partition: int, scratch: Path) -> None:
        self._home = home
        self._store = store
        self._partition = partition
        self._scratch = scratch
        self._mutex = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._version: Path | None = None
        self._page: PageFile | None = None
        self._sequence = -1
        self._opened = 0
        self.database: Database | None = None
        self.applied = -1

    def refresh(self) -> int:
        """Takes in what the writer committed since.

        Returns:
            The last applied offset that readings from now on reflect; -1 without a state.

        Raises:
            Retryable: the folder is being replaced, is gone, or its disk refuses; try again.
            Damaged, ForeignFormat: it cannot be read.
        """
        with self._mutex, disk():
            found = folder.stamp(self._home / CURRENT)
            if found is None and self._version is not None:
                raise Retryable(f"{self._home} is gone")  # which is not an empty state
            try:
                if found != self._stamp:
                    self._reopen()
                    self._stamp = found
                self._catch_up()
            except FileNotFoundError as error:
                self._stamp = None
                raise Retryable(f"{self._home} is being replaced: {error}") from error
            except DotstreamError:
                self._stamp = None  # opened anew by the next refresh
                raise
            return self.applied

    def durable(self) -> int:
        """The writer's durable offset, as the commit page says now; -1 without a state."""
        with self._mutex:
            return -1 if self._page is None else self._read_page()[1].durable

    def close(self) -> None:
        """Lets go of the files."""
        with self._mutex:
            self._let_go()

    def _let_go(self) -> None:
        if self._page is not None:
            self._page.close()
        self._page = self._version = self.database = None  # readings in progress keep the database that they have
        self._sequence = self.applied = -1

    def _reopen(self) -> None:
        self._let_go()
        self._version = folder.named(self._home, CURRENT)
        if self._version is not None:
            self._page = PageFile(self._version / "commit", writable=False)

    def _catch_up(self) -> None:
        """Moves the database to the newest commit; the applied offset is what its own row says then."""
        if self._page is None:
            return
        sequence, _ = self._read_page()
        if self.database is not None and sequence == self._sequence:
            return
        database = self.database
        for _ in range(_TRIES):
            if database is not None and database.catch_up():
                break
            database = self._open()  # new, or the writer has begun a new log
        else:
            raise Retryable(f"the writer of {self._home} begins new logs faster than they can be followed")
        self.applied = unpack(database.get(META, b"state")).applied
        self.database, self._sequence = database, sequence

    def _open(self) -> Database:
        if self._version is None:
            raise Retryable(f"{self._home} has no state")
        self._opened += 1
        self._scratch.mkdir(exist_ok=True)
        scratch = self._scratch / f"{self._home.name}-{self._opened}"
        database = Database(self._version / "rows", self._store.all_families, follow=scratch, cache_bytes=_CACHE_BYTES)
        shutil.rmtree(self._scratch / f"{self._home.name}-{self._opened - 1}", ignore_errors=True)
        check_format(database.get(META, b"format"), self._store, self._partition)
        return database

    def _read_page(self) -> tuple[int, Position]:
        newest = None if self._page is None else self._page.read()
        if newest is None:
            raise Damaged(f"{self._version} holds no whole commit page")
        return newest[0], unpack(newest[1])


class KeyedReader:
    """All partitions of a store. Rows are found by their key's partition, as Kafka's Java clients choose it.

    Args:
        home: the store's folder, which holds one folder for each partition; it need not exist yet.
        store: what the states hold.
        partitions: of the topic.

    Attributes:
        followers: one for each partition, in their order.
    """

    def __init__(self, home: Path, store: Store, partitions: int) -> None:
        with disk():
            self._scratch = Scratch()
        scratch = self._scratch.path
        self.followers = [KeyedFollower(home / str(number), store, number, scratch) for number in range(partitions)]

    def refresh(self) -> dict[int, int]:
        """Takes in what the writers committed. Cheap when nothing changed; raises as `KeyedFollower.refresh`.

        Returns:
            Partition -> last applied offset, inclusive; -1 where there is no state.
        """
        return {number: follower.refresh() for number, follower in enumerate(self.followers)}

    def get(self, family: str, key: bytes) -> bytes | None:
        """The row of one key; None when there is none."""
        return self.get_many(family, [key])[0]

    def get_many(self, family: str, keys: Sequence[bytes], owners: Sequence[bytes] | None = None) -> list[bytes | None]:
        """The rows of many keys, in their order; None where there is none.

        `owners`: the topic's key for each row, where rows have keys of their own.
        """
        found: dict[bytes, bytes | None] = {}
        for number, owned in self._by_partition(keys, owners or keys).items():
            database = self.followers[number].database
            if database is not None:
                found.update(zip(owned, database.get_many(family, owned), strict=True))
        return [found.get(key) for key in keys]

    def durable(self) -> dict[int, int]:
        """Partition -> the writer's durable offset."""
        return {number: follower.durable() for number, follower in enumerate(self.followers)}

    def close(self) -> None:
        """Lets go of the files."""
        for follower in self.followers:
            follower.close()
        self._scratch.close()

    def _by_partition(self, keys: Sequence[bytes], owners: Sequence[bytes]) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for key, owner in zip(keys, owners, strict=True):
            found.setdefault(partition_of(owner, len(self.followers)), []).append(key)
        return found
