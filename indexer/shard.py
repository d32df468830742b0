"""A Hamming shard and its catalogue: the one writer of a partition of objects.<generation>.

The index worker hands over batches of logged records; each becomes one atomic commit that carries the log's offset
with it, so that state and offset move, and rewind, together. The commit protocol:

    0  work out which records win and what changes (arbitration.py, staging.py); no file is touched
    1  put the new codes and their columns into the mapped head, behind its committed length. A head that is full is
       sealed and synced, and the next one made, before anything names it
    2  write one RocksDB batch: rows, counts, deaths, pending marks, head length, applied offset. The commit point
    3  store the deaths in the columns of the segments, `died` first and the segment's edit count behind it
    4  publish the commit page; followers see the version from here on
    5  at most every 100 ms, for all commits since: sync codes and columns, then RocksDB's log, and only then note the
       durable offset and forget the recorded deaths. Further commits go on meanwhile and wait for the next one

Step 5 and compaction are in indexer/shard_upkeep.py.

A crash before 2 leaves codes that nothing names and that the next commit overwrites; after 2 recovery.py repeats 3
and 4. A power loss takes back 2 as far as it was not synced, offset included, and recovery.py finds by checksum what
else is missing; the log is replayed from `applied_offset` in every case.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dotstream.clock import Clock
from indexer import arguments, folder, recovery
from indexer.arbitration import Counts, Logged, Outcome, Winner, arbitrate, check_logged, read_batch
from indexer.background import Background
from indexer.commit_page import State
from indexer.database import I64, U64
from indexer.disk import disk
from indexer.errors import LockHeld
from indexer.flights import Flights
from indexer.folder import Identity, held
from indexer.generations import check_name
from indexer.names import Names
from indexer.recovery import open_shard
from indexer.shard_upkeep import ShardUpkeep
from indexer.staging import Staged, Stager
from indexer.steps import Steps, no_steps
from indexer.view import read_codes

DEFAULT_SEGMENT_SLOTS = 65_536
LEVEL_EVERY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did.

    Attributes:
        offset: the shard's applied offset now.
        live, deleted: records that won and were stored, by kind.
        stale: records and nulls that did not win; their pins are pending.
        repeated: records equal to the standing winner.
        forgotten: deletes that a null let go.
        skipped: records at or below the applied offset, which the state reflects already.
    """

    offset: int
    live: int
    deleted: int
    stale: int
    repeated: int
    forgotten: int
    skipped: int


class Shard(ShardUpkeep):
    """The writer of one partition. One thread applies; queries may come from others meanwhile.

    After any error but `Poison` and `BadArgument` the shard takes no further batch: close it and open it again.
    """

    def __init__(self, opened: recovery.Opened, *, clock: Clock, null_retention_ms: int, at: Steps) -> None:
        """Use `Shard.open`."""
        self._opened = opened
        self._catalogue = opened.catalogue
        self._state = opened.state
        self._clock = clock
        self._null_retention_ms = null_retention_ms
        self._level_ms: int | None = None
        self._at = at
        self._syncing = threading.RLock()  # taken before the mutex where both are
        self._background = Background("sync")
        self._mutex = threading.RLock()
        self._compacting = threading.Lock()
        self._durable_layout = opened.state.layout
        self._compactions = 0
        self._names = Names(opened.catalogue)
        self._damaged = opened.damaged
        self._flights = Flights(opened.catalogue)
        with opened.catalogue.scan("deaths") as found:
            self._recent = [key for key, _ in found]
        self._unsynced = False
        self._synced_at = clock.monotonic()
        self._usable = True
        self._closed = False
        self._publish()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        generation: str,
        partition: int,
        topic_id: str,
        feature: str,
        bits: int,
        clock: Clock,
        lock_limit_s: float = 10.0,
        segment_slots: int = DEFAULT_SEGMENT_SLOTS,
        null_retention_ms: int = 0,
        rebuild: bool = False,
        at: Steps = no_steps,
    ) -> Shard:
        """Opens, or makes, the shard in a partition's folder, and recovers it.

        Args:
            folder: `<data>/index/<generation>/<partition>`.
            generation: its name (indexer/generations.py).
            partition: of objects.<generation>.
            topic_id: the id that the cluster gave the topic.
            feature: name of the searched codes.
            bits: their width, a multiple of 8.
            clock: time for syncs and waits.
            lock_limit_s: how long another holder is waited for.
            segment_slots: codes per segment of a new folder, a multiple of 8; an old one keeps its own.
            null_retention_ms: a logged null lets go of a delete only so long after the delete, and a shard that was
                away for longer is rebuilt; 0: deletes are remembered for ever.
            rebuild: fill a new folder beside the present one, to be put in place by `promote`. A rebuild that was
                broken off is taken up again.
            at: called around each durable step with its name; crash tests raise from it.

        Raises:
            BadArgument: an argument cannot be taken.
            LockHeld: another process holds the folder still.
            NeedsRebuild: it reflects another topic, or was away for too long; open it with `rebuild`.
            ForeignFormat, Damaged: it cannot be used; nothing was changed.
            DiskFull, Retryable: the disk refuses for now.
        """
        arguments.folder("folder", folder)
        check_name(generation)
        partition = arguments.whole("partition", partition, 0)
        bits, segment_slots = arguments.eights("bits", bits), arguments.eights("segment_slots", segment_slots)
        lock_limit_s = arguments.seconds("lock_limit_s", lock_limit_s, zero=True)
        null_retention_ms = arguments.whole("null_retention_ms", null_retention_ms, 0)
        wanted = Identity(generation, partition, topic_id, feature, bits, segment_slots, secrets.token_hex(16))
        with disk():
            opened = open_shard(
                folder,
                wanted,
                clock=clock,
                lock_limit_s=lock_limit_s,
                rebuild=rebuild,
                null_retention_ms=null_retention_ms,
                at=at,
            )
            try:
                return cls(opened, clock=clock, null_retention_ms=null_retention_ms, at=at)
            except BaseException:
                opened.close()
                raise

    # -- writing -------------------------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Logged]) -> Applied:
        """Applies logged records in one atomic commit.

        Records at or below the applied offset are skipped: the state reflects them.

        Args:
            batch: ascending by offset, decoded by `indexer.records.decode`.

        Raises:
            BadArgument: it is no list of `Logged`, or its offsets do not ascend.
            Poison: a record does not belong here; nothing was applied.
            Superseded: another writer's folder was put in place.
            DiskFull, Retryable, Damaged: open the shard again.
        """
        check_logged(batch)
        with self._mutex, disk():
            self._check_usable()
            fresh = [logged for logged in batch if logged.offset > self._state.applied]
            identity = self._opened.identity
            read = read_batch(fresh, self._state.applied, identity.generation, identity.bits)
            counts = Counts()
            if read:
                self._usable = False
                counts = self._commit(read)
                self._usable = True
            return Applied(
                self._state.applied,
                counts.live,
                counts.deleted,
                counts.stale,
                counts.repeated,
                counts.forgotten,
                len(batch) - len(fresh),
            )

    def advance(self, offset: int) -> None:
        """Moves the applied offset over offsets that hold nothing to apply, such as transaction markers."""
        offset = arguments.whole("offset", offset, -1)
        with self._mutex, disk():
            self._check_usable()
            if offset > self._state.applied:
                self._usable = False
                state = replace(self._state, applied=offset, reached=max(offset, self._state.reached))
                self._write_state(state)
                self._usable = True

    def note_level(self) -> None:
        """Notes, at most every hour, that the log was read to its end: from now on it counts as away."""
        with self._mutex, disk():
            now_ms = self._clock.now_ms()
            if self._level_ms is not None and 0 <= now_ms - self._level_ms < LEVEL_EVERY_MS:
                return
            self._check_usable()
            self._usable = False
            batch = self._catalogue.batch()
            batch.put("meta", recovery.LEVEL, I64.pack(now_ms))
            self._catalogue.write(batch)
            self._level_ms, self._unsynced = now_ms, True
            self._usable = True

    def _commit(self, read: Sequence[tuple[str, Logged, Winner | None]]) -> Counts:
        pins = list(dict.fromkeys(pin_id for pin_id, _, _ in read))
        rows = dict(zip(pins, self._catalogue.rows(pins), strict=True))
        outcomes, counts = arbitrate(read, rows, self._null_retention_ms)
        stager = Stager(
            catalogue=self._catalogue,
            spec=self._opened.files.spec,
            state=self._state,
            names=self._names,
            damaged=self._damaged,
            pending=self._flights.pending_among(pins),
            codes_of=lambda row: read_codes(row, self._view),
        )
        staged = stager.stage(outcomes.values(), read[-1][1].offset)
        staged.catalogue.put("meta", b"state", staged.state.pack())
        self._at("staged")
        self._opened.files.write(staged, self._state, self._at)
        self._at("codes written")
        self._catalogue.write(staged.catalogue)
        self._at("batch written")
        self._opened.files.kill(staged.deaths)
        self._at("deaths stored")
        self._settle(staged, outcomes.values())
        self._publish()
        self._at("page published")
        return counts

    def _settle(self, staged: Staged, outcomes: Iterable[Outcome]) -> None:
        """What memory has to know once the batch is committed."""
        self._opened.files.settle(self._state, staged.state)
        self._state = staged.state
        self._unsynced = True
        self._recent.extend(U64.pack(slot) for slot in staged.deaths)
        if self._damaged:
            self._damaged -= {slot for slot, _, _ in staged.rewrites} | set(staged.deaths)
        self._flights.settle(outcomes)

    def _write_state(self, state: State) -> None:
        batch = self._catalogue.batch()
        batch.put("meta", b"state", state.pack())
        self._catalogue.write(batch)
        self._state = state
        self._unsynced = True
        self._publish()

    # -- taking over and letting go ------------------------------------------------------------------------------

    def promote(self) -> None:
        """Puts a caught-up rebuild in the place of the present folder, which readers leave at their next refresh."""
        with self._syncing, self._mutex, disk():
            if not self.building:
                return
            self.sync()
            self._write_state(replace(self._state, building=False))
            self._catalogue.sync()
            self._at("promoting")
            place = self._opened.place
            place.promote()
            self._at("promoted")
            with suppress(LockHeld), held(place.home, self._clock, 0):
                folder.clear_left_overs(place.home)  # else the next opening does it

    def close(self) -> None:
        """Syncs where it can, and lets go of the folder."""
        with self._syncing, self._mutex, disk():
            if self._closed:
                return
            try:
                if self._usable:
                    self.sync()
                    self._catalogue.sync()
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Lets go of the folder as a crash would: without a sync."""
        with self._syncing, self._mutex:
            if self._closed:
                return
            self._closed = True
            self._opened.close()
