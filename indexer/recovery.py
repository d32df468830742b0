"""Opening a shard: the folder's version, its lock and catalogue, and what a crash left undone.

Recovery, at every opening, in this order; each step may be cut off and done again:

    1  the catalogue's state row says what is committed; RocksDB has dropped batches that a power loss tore
    2  deaths in the columns above `reached` are taken back: one pass over the `died` columns, 8 bytes a slot. A mark of
       a clean close would save it, but a damaged RocksDB log may bring such a mark back
    3  deaths that the catalogue recorded since the last sync are put into the columns again
    4  codes behind the durable length are held against their checksums. A slot that fails is hidden and noted as
       damaged, and `applied` goes back to the durable offset, so that the log brings its record again
    5  all of it is synced, files that no layout names are removed, and the page is published
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dotstream.clock import Clock
from indexer import commit_page, folder, layout
from indexer.catalogue import Catalogue
from indexer.code_files import CodeFiles
from indexer.commit_page import State
from indexer.database import I64, U64
from indexer.errors import NeedsRebuild
from indexer.folder import CURRENT, NEXT, Identity, Lock, Place
from indexer.pages import PageFile
from indexer.segment_format import LIVE, SegmentSpec, place_of, slot_of, sync_folder
from indexer.segments import Segment
from indexer.steps import Steps

LEVEL = b"level"
"""The row of `meta` that says when the state was level with its log, Unix ms."""
_CHECK_ROWS = 4096


@dataclass(slots=True)
class Opened:
    """A shard's version folder, held and recovered.

    Attributes:
        place: the folder, and the pointer that names it.
        files: the segments.
        state: as committed.
        page: open for writing, not yet published.
        damaged: slots that wait for their record.
    """

    place: Place
    lock: Lock
    catalogue: Catalogue
    identity: Identity
    files: CodeFiles
    state: State
    page: PageFile
    damaged: frozenset[int]

    def close(self) -> None:
        """Lets go of everything, the lock last."""
        with ExitStack() as last:
            last.callback(self.lock.release)
            last.callback(self.page.close)
            last.callback(self.catalogue.close)
            self.files.close()


def open_shard(
    home: Path,
    wanted: Identity,
    *,
    clock: Clock,
    lock_limit_s: float,
    rebuild: bool,
    null_retention_ms: int,
    at: Steps,
) -> Opened:
    """Takes and recovers the version folder that is in place, or the one that a rebuild fills; makes the first one.

    Args:
        home: the partition's folder.
        wanted: what it must serve; its segment size and incarnation are for a new folder.
        clock: for waiting.
        lock_limit_s: how long to wait for another holder.
        rebuild: work on NEXT instead of CURRENT; one that needs a rebuild itself is replaced by a new one.
        null_retention_ms: for so long the log remembers deletes; 0: for ever. A state that was not level with its log
            for longer may lack deletes that the log has forgotten.
        at: called with a step's name before and after it, for crash tests.

    Raises:
        LockHeld, NeedsRebuild, ForeignFormat, Damaged, DiskFull, Retryable.
    """
    pointer = NEXT if rebuild else CURRENT
    level_since_ms = clock.now_ms() - null_retention_ms if null_retention_ms else 0
    while True:
        version, lock = folder.take_version(
            home, pointer, lambda: _make(home, pointer, wanted, clock, at), clock=clock, lock_limit_s=lock_limit_s
        )
        try:
            return _open(version, pointer, lock, wanted, at, level_since_ms=level_since_ms)
        except NeedsRebuild:
            lock.release()
            if not rebuild:
                raise
            (home / NEXT).unlink()  # it was begun for a topic that is gone, or too long ago
        except BaseException:
            lock.release()
            raise


def _make(home: Path, pointer: str, wanted: Identity, clock: Clock, at: Steps) -> Path:
    """A new version folder with its identity, an empty state and the first segment; then the pointer to it."""
    at("make")
    version = folder.new_version(home)
    (version / "segments").mkdir()
    sync_folder(version)
    catalogue = Catalogue(version / "catalogue")
    try:
        at("made folder")
        incarnation = bytes.fromhex(wanted.incarnation)
        Segment.create(version / "segments", spec_of(wanted), 0).close()
        batch = catalogue.batch()
        batch.put("meta", b"format", wanted.pack())
        batch.put("meta", b"state", State(incarnation, building=pointer == NEXT).pack())
        batch.put("meta", LEVEL, I64.pack(clock.now_ms()))
        catalogue.write(batch)
        catalogue.sync()
        at("made state")
    finally:
        catalogue.close()
    page = PageFile(version / "commit", writable=True)
    page.write(State(incarnation, building=pointer == NEXT).pack())
    page.close()
    folder.point(home, pointer, version)
    at("made pointer")
    return version


def spec_of(identity: Identity) -> SegmentSpec:
    """What the segments of a shard have in common."""
    return SegmentSpec(
        identity.generation,
        identity.partition,
        identity.bits,
        identity.segment_slots,
        bytes.fromhex(identity.incarnation),
    )


def _open(version: Path, pointer: str, lock: Lock, wanted: Identity, at: Steps, *, level_since_ms: int) -> Opened:
    with ExitStack() as undo:
        catalogue = Catalogue(version / "catalogue")
        undo.callback(catalogue.close)
        identity = folder.read_identity(catalogue.get("meta", b"format"))
        identity.hold_against(wanted)
        level = catalogue.get("meta", LEVEL)
        if level is not None and I64.unpack(level)[0] < level_since_ms:
            raise NeedsRebuild("the shard was away for longer than the log remembers deletes")
        state = commit_page.unpack(catalogue.get("meta", b"state") or b"")
        laid_out = layout.unpack(catalogue.get("meta", b"layout"))
        files = CodeFiles(version / "segments", spec_of(identity), laid_out, state)
        undo.callback(files.close)
        at("recover")
        state, damaged = recover(catalogue, files, state, at)
        page = PageFile(version / "commit", writable=True)
        undo.pop_all()
    return Opened(Place(version.parent, pointer, version), lock, catalogue, identity, files, state, page, damaged)


def recover(catalogue: Catalogue, files: CodeFiles, state: State, at: Steps) -> tuple[State, frozenset[int]]:
    """Brings columns, catalogue and state together; the steps are those of the module's docstring.

    Returns:
        (the state to go on from, slots that wait for their record).
    """
    _take_back_deaths(files, state)
    at("took back deaths")
    _repeat_deaths(catalogue, files)
    at("repeated deaths")
    damaged = _check_codes(catalogue, files, state)
    known: set[int] = set()
    with catalogue.scan("damaged") as found:
        known.update(U64.unpack(key)[0] for key, _ in found)
    healed = {slot for slot in known - damaged if _whole(files, slot)}
    batch = catalogue.batch()
    for slot in healed:
        batch.delete("damaged", U64.pack(slot))
    for slot in damaged:
        batch.put("damaged", U64.pack(slot), b"")
    applied = min(state.applied, state.durable) if damaged else state.applied
    state = replace(state, applied=applied)
    batch.put("meta", b"state", state.pack())
    files.sync_all()
    at("synced columns")
    catalogue.write(batch)
    catalogue.sync()
    files.clear_left_overs(state)
    at("recovered")
    return state, frozenset((known | damaged) - healed)


def _take_back_deaths(files: CodeFiles, state: State) -> None:
    for segment in files.segments:
        died = segment.died[: files.length(segment, state)]
        lost = np.flatnonzero((died != LIVE) & (died > state.reached))
        if len(lost):
            segment.kill(lost, np.full(len(lost), LIVE, np.int64))


def _repeat_deaths(catalogue: Catalogue, files: CodeFiles) -> None:
    with catalogue.scan("deaths") as found:
        files.kill({U64.unpack(key)[0]: I64.unpack(value)[0] for key, value in found})


def _check_codes(catalogue: Catalogue, files: CodeFiles, state: State) -> set[int]:
    """Live slots behind the durable length: those whose checksum holds live on, the others are hidden and returned.

    Compaction leaves these segments alone, so that a slot lies where it was written.
    """
    damaged: set[int] = set()
    for number in range(state.durable_segment, state.head_segment + 1):
        segment = files[number]
        first = state.durable_length if number == state.durable_segment else 0
        length = files.length(segment, state)
        living = np.zeros(length, np.bool_)
        for run, codes in catalogue.runs(slot_of(number, first), slot_of(number, length)):
            living[segment.index_of(run) : segment.index_of(run) + codes] = True
        for start in range(first, length, _CHECK_ROWS):
            stop = min(start + _CHECK_ROWS, length)
            indices = np.flatnonzero(living[start:stop]) + start
            wrong = np.isin(indices, segment.damaged(start, stop))
            fates = np.where(wrong, 0, LIVE)
            if not np.array_equal(segment.died[indices], fates):
                segment.kill(indices, fates)
            damaged.update(slot_of(number, index) for index in indices[wrong].tolist())
    return damaged


def _whole(files: CodeFiles, slot: int) -> bool:
    segment = files[place_of(slot)[0]]
    index = segment.index_of(slot)
    return index >= 0 and int(segment.died[index]) == LIVE and not len(segment.damaged(index, index + 1))
