"""Local state of a worker for one partition of a topic: RocksDB families, and the offset that they reflect.

Saves, engagements and tags are applied to such states. What a record does to its key's rows is the worker's business;
this is what all of them share: one folder, one writer, content and offset in one atomic batch, group syncs, rebuild
when the log is another. The folder is that of indexer/folder.py; a version folder holds

    LOCK, commit (the commit page), rows/ (RocksDB: the worker's families, and `meta` with `format` and `state`)

The commit protocol for a batch of records:

    0  the worker reads rows and works out a batch; nothing is touched
    1  what other topics must hear of it goes into one Kafka transaction (consumers/state_worker.py)
    2  `commit`: one RocksDB batch with the worker's rows and the applied offset. The commit point
    3  the commit page is published; followers see it from here on
    4  at most every 100 ms, for all commits since: RocksDB's log is synced, and then the durable offset noted; the sync
       may run on another thread, while batches go on being committed

A crash before 2 changes nothing; the records are read again. Between 1 and 2 it repeats the records of 1, so whoever
reads them must be indifferent to repetition. After 2 the next opening publishes the page. A power loss takes 2 back as
far as it was not synced, offset included. In every case reading goes on behind `applied_offset`.

The layout of the state row and the commit page stands in indexer/keyed_layout.py.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from dotstream.clock import Clock
from dotstream.errors import Retryable
from indexer import folder
from indexer.at_once import AT_ONCE
from indexer.database import Batch, Database
from indexer.disk import disk
from indexer.errors import LockHeld, NeedsRebuild, Superseded
from indexer.folder import CURRENT, NEXT, Lock, Place, held
from indexer.keyed_layout import META, Position, Store, check_format, digest, made_for, unpack
from indexer.pages import PageFile
from indexer.steps import Steps, no_steps

SYNC_EVERY_S = 0.1


class KeyedState:
    """The one writer of a partition's state. One thread calls it.

    After any error but `ValueError` it takes no further batch: close it and open it again.

    Attributes:
        database: for reading rows and for making batches.
    """

    def __init__(
        self,
        place: Place,
        lock: Lock,
        database: Database,
        position: Position,
        *,
        clock: Clock,
        syncs: Executor,
        at: Steps,
    ) -> None:
        """Use `KeyedState.open`."""
        self.database = database
        self._place = place
        self._lock = lock
        self._position = position
        self._clock = clock
        self._at = at
        self._page = PageFile(place.version / "commit", writable=True)
        self._unsynced = False
        self._synced_at = clock.monotonic()
        self._syncs = syncs
        self._syncing: Future[int] | None = None
        self._usable = True
        self._closed = False
        self._publish()

    @classmethod
    def open(
        cls,
        home: Path,
        store: Store,
        *,
        partition: int,
        topic_id: str,
        clock: Clock,
        lock_limit_s: float = 10.0,
        rebuild: bool = False,
        syncs: Executor = AT_ONCE,
        at: Steps = no_steps,
    ) -> KeyedState:
        """Opens, or makes, the state in a partition's folder.

        Args:
            home: the partition's folder.
            store: what it holds.
            partition: of the topic.
            topic_id: the topic's id in the cluster; a topic made anew under the same name has another.
            clock: time for syncs and waits.
            lock_limit_s: how long another holder is waited for.
            rebuild: fill a new folder beside the present one, to be put in place by `promote`. A rebuild that was
                broken off is taken up again.
            syncs: where `maybe_sync` has the disk waited for.
            at: called around each durable step with its name; crash tests raise from it.

        Raises:
            LockHeld: another process holds the folder still.
            NeedsRebuild: it reflects another topic; open it with `rebuild`.
            ForeignFormat, Damaged: it cannot be used; nothing was changed.
            DiskFull, Retryable: the disk refuses for now.
        """
        pointer = NEXT if rebuild else CURRENT
        identity = made_for(store, partition, topic_id)

        def make() -> Path:
            return _make(home, pointer, store, identity, at)

        with disk():
            while True:
                version, lock = folder.take_version(home, pointer, make, clock=clock, lock_limit_s=lock_limit_s)
                try:
                    return cls._over(
                        Place(home, pointer, version), lock, store, identity, clock=clock, syncs=syncs, at=at
                    )
                except NeedsRebuild:
                    lock.release()
                    if not rebuild:
                        raise
                    (home / NEXT).unlink()  # it was begun for a topic that is gone
                except BaseException:
                    lock.release()
                    raise

    @classmethod
    def _over(
        cls,
        place: Place,
        lock: Lock,
        store: Store,
        identity: dict[str, object],
        *,
        clock: Clock,
        syncs: Executor,
        at: Steps,
    ) -> KeyedState:
        with ExitStack() as undo:
            database, position = _open_rows(place.version, store, identity)
            undo.callback(database.close)
            state = cls(place, lock, database, position, clock=clock, syncs=syncs, at=at)
            undo.pop_all()
        return state

    @property
    def applied_offset(self) -> int:
        """The last applied offset, inclusive; -1 before the first. Consume from the one behind it."""
        return self._position.applied

    @property
    def durable_offset(self) -> int:
        """The last offset whose effects survive a power loss; -1 for none."""
        return self._position.durable

    @property
    def building(self) -> bool:
        """Whether this is a rebuild that `promote` has not put in place."""
        return self._place.pointer != CURRENT

    def check_log_end(self, end_offset: int) -> None:
        """Holds the state against the log, whose next record will get `end_offset`.

        Raises:
            NeedsRebuild: the state reflects offsets that the log does not have.
        """
        if self.applied_offset >= end_offset:
            raise NeedsRebuild(f"the state reflects offset {self.applied_offset}; the log ends before {end_offset}")

    # -- writing -------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch, offset: int) -> None:
        """Writes a batch of rows together with the offset that it reflects: all of it or nothing.

        Args:
            batch: from `self.database.batch()`; may be empty.
            offset: of the last record in it, inclusive.

        Raises:
            ValueError: the state reflects that offset already.
            Superseded: another writer's folder was put in place.
            DiskFull, Retryable, Damaged: open the state again.
        """
        if offset <= self.applied_offset:
            raise ValueError(f"offset {offset} is applied already; the state stands at {self.applied_offset}")
        with disk():
            self._check_usable()
            self._usable = False
            position = replace(self._position, applied=offset)
            batch.put(META, b"state", position.pack())
            self._at("planned")
            self.database.write(batch)
            self._at("batch written")
            self._position, self._unsynced = position, True
            self._publish()
            self._at("page published")
            self._usable = True

    def advance(self, offset: int) -> None:
        """Moves the applied offset over offsets that hold nothing to apply, such as transaction markers."""
        if offset > self.applied_offset:
            self.commit(self.database.batch(), offset)

    def maybe_sync(self) -> bool:
        """Step 4 when it is due: something was committed and the last sync is 100 ms ago. Call it in every round.

        Returns:
            Whether something became durable; with a pool the call after the one that began the sync tells.
        """
        if self._syncing is None and self._unsynced and self._clock.monotonic() - self._synced_at >= SYNC_EVERY_S:
            self._begin_sync(self._syncs)
        if self._syncing is None or not self._syncing.done():
            return False
        self._end_sync(self._syncing)
        return True

    def sync(self) -> None:
        """Step 4 now: everything committed so far is durable when it returns."""
        if self._syncing is not None:
            self._end_sync(self._syncing)
        self._end_sync(self._begin_sync(AT_ONCE))

    def _begin_sync(self, syncs: Executor) -> Future[int]:
        with disk():
            self._check_usable()
            self._at("syncing")
            self._syncing = syncs.submit(self._synced, self.applied_offset)
            return self._syncing

    def _synced(self, offset: int) -> int:
        self.database.sync()
        return offset

    def _end_sync(self, syncing: Future[int]) -> None:
        """Waits for it, then notes what is durable now."""
        with disk():
            self._check_usable()
            self._usable = False
            offset = syncing.result()
            self._syncing = None
            self._at("log synced")
            self._note(replace(self._position, durable=offset))
            self._at("durable noted")
            self._unsynced = self.applied_offset > offset
            self._synced_at = self._clock.monotonic()
            self._usable = True

    def promote(self) -> None:
        """Puts a caught-up rebuild in the place of the present folder, which readers leave at their next refresh."""
        if not self.building:
            return
        self.sync()
        with disk():
            self._note(replace(self._position, building=False))
            self.database.sync()
            self._at("promoting")
            self._place.promote()
            self._at("promoted")
            with suppress(LockHeld), held(self._place.home, self._clock, 0):
                folder.clear_left_overs(self._place.home)  # else the next opening does it

    def close(self) -> None:
        """Syncs where it can, and lets go of the folder."""
        try:
            if not self._closed and self._usable:
                self.sync()
                with disk():
                    self.database.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Lets go of the folder as a crash would: without a sync."""
        if self._closed:
            return
        self._closed = True
        if self._syncing is not None:
            wait([self._syncing])  # whatever comes of it
        with ExitStack() as last:
            last.callback(self._lock.release)
            last.callback(self._page.close)
            self.database.close()

    def digest(self, families: Iterable[str]) -> str:
        """sha256, as hex, of all rows of these families: what two states of one log have in common."""
        return digest(self.database, families)

    def _note(self, position: Position) -> None:
        batch = self.database.batch()
        batch.put(META, b"state", position.pack())
        self.database.write(batch)
        self._position = position
        self._publish()

    def _publish(self) -> None:
        self._page.write(self._position.pack())

    def _check_usable(self) -> None:
        if self._closed or not self._usable:
            raise Retryable("the state was closed or failed in a commit; open it again")
        try:
            self._place.check()
        except Superseded:
            self._usable = False
            raise


def _make(home: Path, pointer: str, store: Store, identity: dict[str, object], at: Steps) -> Path:
    """A new version folder with its identity and an empty state; then the pointer to it."""
    at("make")
    version = folder.new_version(home)
    position = Position(secrets.token_bytes(16), building=pointer == NEXT)
    database = Database(version / "rows", store.all_families)
    try:
        batch = database.batch()
        batch.put(META, b"format", json.dumps(identity).encode())
        batch.put(META, b"state", position.pack())
        database.write(batch)
        database.sync()
        at("made state")
    finally:
        database.close()
    page = PageFile(version / "commit", writable=True)
    page.write(position.pack())
    page.close()
    folder.point(home, pointer, version)
    at("made pointer")
    return version


def _open_rows(version: Path, store: Store, identity: dict[str, object]) -> tuple[Database, Position]:
    with ExitStack() as undo:
        database = Database(version / "rows", store.all_families)
        undo.callback(database.close)
        found = check_format(database.get(META, b"format"), store, identity["partition"])
        if found["topic_id"] != identity["topic_id"]:
            raise NeedsRebuild(f"the state reflects topic {found['topic_id']}, not {identity['topic_id']}")
        position = unpack(database.get(META, b"state"))
        undo.pop_all()
    return database, position
