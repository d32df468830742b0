"""What goes on beside the writer of a shard: syncs in groups, and compaction.

Both may run on threads of their own while one thread applies batches; they hold the shard's lock only for moments.
indexer/shard.py numbers the steps of a commit, of which syncs are the fifth; indexer/compaction.py those of compaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dotstream.errors import Retryable
from indexer import arguments
from indexer.background import Background
from indexer.code_files import sync_files
from indexer.compaction import DEAD_SHARE, Compacted, Move, choose, copy, oldest_layout
from indexer.database import I64, U64
from indexer.disk import disk
from indexer.errors import Closed, Superseded
from indexer.segments import Segment
from indexer.shard_answers import ShardAnswers
from indexer.steps import Steps

SYNC_EVERY_S = 0.1
_ROUNDS = 8
_FEW = 64


class ShardUpkeep(ShardAnswers):
    """The half of a `Shard` that works beside its writer, which sets and replaces what is named here.

    `_syncing` is taken before `_mutex` where both are.
    """

    _at: Steps
    _syncing: threading.RLock
    _compacting: threading.Lock
    _background: Background
    _durable_layout: int
    _recent: list[bytes]
    _unsynced: bool
    _synced_at: float
    _usable: bool

    def maybe_sync(self) -> bool:
        """Begins step 5 beside the writer when it is due: something was committed, and the last sync is 100 ms ago.

        Call it in every round.

        Returns:
            Whether it began.

        Raises:
            DiskFull, Retryable: the last one failed; open the shard again.
        """
        if not self._unsynced or self._clock.monotonic() - self._synced_at < SYNC_EVERY_S:
            return False
        return self._background.begin(self.sync)

    def sync(self) -> None:
        """Step 5 now: everything committed so far is durable when it returns. From any thread; commits go on meanwhile.

        Raises:
            DiskFull, Retryable: open the shard again; the durable offset has not moved.
        """
        with self._syncing, disk():
            try:
                self._sync()
            except BaseException:
                with self._mutex:
                    self._usable, self._unsynced = False, True
                raise

    def _sync(self) -> None:
        with self._mutex:
            self._check_usable()
            reached, files = self._state, self._opened.files.unsynced()
            deaths, self._recent = self._recent, []
            self._unsynced = False
        self._at("syncing")
        sync_files(files)
        self._at("codes synced")
        self._catalogue.sync()
        self._at("log synced")
        with self._mutex:
            self._check_usable()
            state = replace(
                self._state,
                durable=reached.applied,
                durable_segment=reached.head_segment,
                durable_length=reached.head_length,
            )
            batch = self._catalogue.batch()
            again = set(self._recent)  # of a slot that moved meanwhile, whose new columns wait for the next sync
            for key in deaths:
                if key not in again:
                    batch.delete("deaths", key)
            batch.put("meta", b"state", state.pack())
            self._catalogue.write(batch)
            self._at("durable noted")
            self._state, self._durable_layout = state, reached.layout
            self._publish()
            self._synced_at = self._clock.monotonic()

    def compact(self, dead_share: float = DEAD_SHARE) -> Compacted | None:
        """Compacts the sparsest segments, and removes the files of those replaced before that nobody needs any more.

        indexer/compaction.py numbers the steps. From any thread, one at a time; writing and queries go on meanwhile.

        Args:
            dead_share: from which share of dead slots, 0 to 1, a segment is sparse.

        Returns:
            What was done; None when nothing is sparse.

        Raises:
            Superseded, DiskFull, Retryable, Damaged, BadArgument: as for `apply`.
        """
        dead_share = arguments.share("dead_share", dead_share)
        held: list[float] = []
        with self._compacting, disk():
            self._let_go(held)
            with self._holding(held):
                files, state = self._opened.files, self._state
                may_move = files.sealed_before(0 if self._damaged else state.durable_segment)
                files.note_deaths(wanted=True)
            try:
                segments = choose(may_move, files.spec, dead_share)
                if not segments:
                    return None
                self._at("compaction chosen")
                kept = self._move(segments, held)
            finally:
                files.note_deaths(wanted=False)
            return Compacted(len(segments), sum(each.spec.capacity for each in segments), kept, max(held))

    def _move(self, segments: Sequence[Segment], held: list[float]) -> int:
        """Steps 2 to 4 of a compaction; returns how many slots live on."""
        files = self._opened.files
        move = copy(files.folder, files.spec, segments, files.layout.number + 1)
        try:
            self._at("compaction copied")
            for _ in range(_ROUNDS):
                with self._holding(held):
                    slots, offsets = files.noted_deaths()
                move.kill(slots, offsets)
                if len(slots) <= _FEW:
                    break
            self._at("compaction caught up")
            with self._holding(held):
                self._usable = False
                self._put_in_place(move)
                self._usable = True
        except BaseException:
            move.abandon()
            raise
        return move.slots

    @contextmanager
    def _holding(self, times: list[float]) -> Iterator[None]:
        """The shard's lock; seconds for which it was held are added to `times`.

        The folder is looked at before: a thread that asks the system lets others compute, and waits for its turn again.
        """
        self._opened.place.check()
        with self._mutex:
            started = self._clock.monotonic()
            self._check_open()
            yield
            times.append(self._clock.monotonic() - started)

    def _put_in_place(self, move: Move) -> None:
        """Steps 3 and 4 of a compaction."""
        files = self._opened.files
        layout = files.layout.replaced(move.name, move.slots)
        indices, slots, offsets = move.among(*files.noted_deaths())
        deaths = {
            U64.pack(slot): I64.pack(offset) for slot, offset in zip(slots.tolist(), offsets.tolist(), strict=True)
        }
        state = replace(self._state, layout=layout.number)
        batch = self._catalogue.batch()
        for key, offset in deaths.items():
            batch.put("deaths", key, offset)
        batch.put("meta", b"layout", layout.pack())
        batch.put("meta", b"state", state.pack())
        self._at("layout staged")
        self._catalogue.write(batch)
        self._at("layout written")
        if move.made is not None and len(indices):
            move.made.kill(indices, offsets)
        files.replace(layout, move.name, move.made)
        self._state, self._unsynced = state, True
        self._recent.extend(U64.pack(slot) for slot in slots.tolist())
        self._compactions += 1
        self._publish()
        self._at("layout published")

    def _let_go(self, held: list[float]) -> None:
        """Step 5 of a compaction."""
        files, place = self._opened.files, self._opened.place
        if not files.replaced:
            return
        incarnation, partition = self._state.incarnation, self._opened.identity.partition
        oldest = oldest_layout(place.home.parent, partition, incarnation, self._clock.monotonic())
        with self._holding(held):
            gone = files.let_go(self._durable_layout if oldest is None else min(oldest, self._durable_layout))
        if gone:
            files.remove(gone)
            self._at("replaced removed")

    # -- what the writer needs too ---------------------------------------------------------------------------------

    def _check_usable(self) -> None:
        self._check_open()
        try:
            self._opened.place.check()
        except Superseded:
            self._usable = False
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise Closed
        if not self._usable:
            raise Retryable("the shard failed in a commit; open it again")

    def _publish(self) -> None:
        """Step 4: the commit page for followers, the view for this process."""
        self._opened.page.write(self._state.pack())
        self._view = self._opened.files.view(self._state)
