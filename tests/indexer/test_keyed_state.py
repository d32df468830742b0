"""Keyed states: atomic with their offset, whole after a crash at any step, rebuilt for another log, followed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Retryable
from indexer.database import Database
from indexer.errors import DiskFull, ForeignFormat, LockHeld, NeedsRebuild, Superseded
from indexer.keyed_layout import Position, Store, unpack
from indexer.keyed_reader import KeyedReader
from indexer.keyed_state import KeyedState
from indexer.pages import PageFile
from indexer.partition import partition_of
from tests.support.keyed import STORE, open_state, rows

CLOCK = ManualClock()
Log = Sequence[tuple[bytes, bytes]]


class Crashed(Exception):
    """The process ended here."""


@dataclass
class Steps:
    """Counts steps; raises at the one that is to be the last."""

    last: int | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.last:
            raise Crashed(name)


def apply(state: KeyedState, log: Log, upto: int | None = None, size: int = 5) -> None:
    """Replays the log from where the state stands."""
    end = len(log) if upto is None else upto
    for start in range(state.applied_offset + 1, end, size):
        stop = min(start + size, end)
        batch = state.database.batch()
        for key, value in log[start:stop]:
            batch.put("last", key, value)
        state.commit(batch, stop - 1)


def a_log(length: int = 40) -> Log:
    random = Random(3)
    return [(b"k%d" % random.randrange(9), b"v%d" % offset) for offset in range(length)]


def life(home: Path, log: Log, steps: Steps) -> None:
    """Made, fed, synced, closed, opened again, rebuilt for another topic, put in place, closed."""
    state = open_state(home, CLOCK, at=steps)
    try:
        apply(state, log, 20)
        state.sync()
        apply(state, log, 30)
        state.close()
        state = open_state(home, CLOCK, topic_id="u", rebuild=True, at=steps)
        apply(state, log)
        state.promote()
        state.close()
    finally:
        state.abandon()


def test_a_crash_at_every_step_leaves_a_state_that_the_log_makes_whole(tmp_path: Path) -> None:
    log = a_log()
    counting = Steps()
    life(tmp_path / "whole", log, counting)
    protocol = {"made state", "made pointer", "planned", "batch written", "page published", "log synced", "promoted"}
    assert protocol <= set(counting.seen)
    for last in range(1, len(counting.seen) + 1):
        home = tmp_path / "crashed"
        with pytest.raises(Crashed):
            life(home, log, Steps(last))
        try:
            state = open_state(home, CLOCK, topic_id="u")
        except NeedsRebuild:
            state = open_state(home, CLOCK, topic_id="u", rebuild=True)
        assert rows(state) == dict(log[: state.applied_offset + 1]), counting.seen[last - 1]
        assert state.durable_offset <= state.applied_offset
        apply(state, log)
        state.promote()
        assert rows(state) == dict(log)
        state.close()
        shutil.rmtree(home)


def test_offsets_only_rise(tmp_path: Path) -> None:
    state = open_state(tmp_path, CLOCK)
    apply(state, a_log(), 10)
    with pytest.raises(ValueError, match="applied already"):
        state.commit(state.database.batch(), 9)
    state.advance(4)
    assert state.applied_offset == 9
    state.advance(12)
    assert state.applied_offset == 12
    state.close()


def test_syncs_come_in_groups(tmp_path: Path) -> None:
    clock = ManualClock()
    state = open_state(tmp_path, clock)
    apply(state, a_log(), 10)
    assert not state.maybe_sync()
    assert state.durable_offset == -1
    clock.sleep(0.11)
    assert state.maybe_sync()
    assert state.durable_offset == 9
    clock.sleep(1)
    assert not state.maybe_sync()
    state.close()


class Later(Executor):
    """Runs what was submitted when it is told to."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self.held.append(run)
        return future

    def run(self) -> None:
        for work in self.held:
            work()
        self.held.clear()


def test_batches_are_committed_while_another_thread_syncs(tmp_path: Path) -> None:
    """What was committed after a sync began is not called durable by its end."""
    clock, pool, words = ManualClock(), Later(), a_log()
    state = open_state(tmp_path, clock, syncs=pool)
    apply(state, words[:10])
    clock.sleep(0.11)
    assert not state.maybe_sync()
    for offset in (10, 11):
        state.commit(state.database.batch(), offset)
        assert not state.maybe_sync()
    assert (state.applied_offset, state.durable_offset, len(pool.held)) == (11, -1, 1)
    pool.run()
    assert state.maybe_sync()
    assert state.durable_offset == 9
    assert not state.maybe_sync()
    clock.sleep(0.11)
    assert not state.maybe_sync()
    pool.run()
    state.sync()
    assert state.durable_offset == 11
    assert not state.maybe_sync()
    state.close()


def test_a_sync_that_fails_on_another_thread_ends_the_use_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pool = ManualClock(), Later()
    state = open_state(tmp_path, clock, syncs=pool)
    apply(state, a_log(), 10)

    def full(database: Database) -> None:
        raise DiskFull(f"no space for {database}")

    monkeypatch.setattr(Database, "sync", full)
    clock.sleep(0.11)
    assert not state.maybe_sync()
    pool.run()
    with pytest.raises(DiskFull):
        state.maybe_sync()
    assert state.durable_offset == -1
    with pytest.raises(Retryable):
        state.commit(state.database.batch(), 10)
    state.close()


def test_another_log_is_told_and_rebuilt_beside_the_state_that_readers_keep(tmp_path: Path) -> None:
    old, new = a_log(), a_log(12)
    state = open_state(tmp_path / "0", CLOCK)
    apply(state, old)
    with pytest.raises(NeedsRebuild):
        state.check_log_end(40 - 1)
    state.check_log_end(40)
    state.close()
    with pytest.raises(NeedsRebuild):
        open_state(tmp_path / "0", CLOCK, topic_id="other")
    reader = KeyedReader(tmp_path, STORE, 1)
    rebuilt = open_state(tmp_path / "0", CLOCK, topic_id="other", rebuild=True)
    apply(rebuilt, new)
    assert reader.refresh() == {0: 39}
    assert reader.get("last", old[-1][0]) == old[-1][1]
    rebuilt.promote()
    assert reader.refresh() == {0: 11}
    assert reader.get_many("last", [key for key, _ in new]) == [dict(new)[key] for key, _ in new]
    rebuilt.close()
    reader.close()


def test_an_opening_that_fails_late_lets_go_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_state(tmp_path, CLOCK).close()

    def full(path: Path, *, writable: bool) -> PageFile:
        raise OSError(errno.ENOSPC, f"no space for {path}, writable {writable}")

    monkeypatch.setattr("indexer.keyed_state.PageFile", full)
    with pytest.raises(DiskFull) as failed:
        open_state(tmp_path, CLOCK)
    monkeypatch.undo()
    open_state(tmp_path, CLOCK).close()
    assert failed.value  # its frames were alive until here


def test_one_writer_and_what_was_replaced_writes_no_more(tmp_path: Path) -> None:
    first = open_state(tmp_path, CLOCK)
    with pytest.raises(LockHeld):
        open_state(tmp_path, CLOCK)
    second = open_state(tmp_path, CLOCK, topic_id="other", rebuild=True)
    second.promote()
    with pytest.raises(Superseded):
        apply(first, a_log())
    with pytest.raises(Retryable):
        apply(first, a_log())
    first.abandon()
    second.close()


def test_a_foreign_folder_is_refused_and_stays(tmp_path: Path) -> None:
    open_state(tmp_path, CLOCK).close()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for store, partition in ((Store("other", 1, ("last",)), 0), (Store("words", 2, ("last",)), 0), (STORE, 1)):
        with pytest.raises(ForeignFormat):
            KeyedState.open(tmp_path, store, partition=partition, topic_id="t", clock=CLOCK)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.suffix != ".log") >= [
        name for name in before if not name.endswith(".log")
    ]
    with pytest.raises(ForeignFormat):
        unpack(b"\2" + Position(bytes(16)).pack()[1:])


def test_the_layout_of_the_position_is_fixed() -> None:
    golden = "0100000001000000" + "ab" * 16 + "0500000000000000" + "ffffffffffffffff"
    assert Position(b"\xab" * 16, applied=5, building=True).pack().hex() == golden
    assert unpack(bytes.fromhex(golden)) == Position(b"\xab" * 16, 5, -1, building=True)


def test_a_state_that_is_gone_is_no_empty_one(tmp_path: Path) -> None:
    home, log = tmp_path / "states", a_log()
    state = open_state(home / "0", CLOCK)
    apply(state, log)
    reader = KeyedReader(home, STORE, 1)
    assert reader.refresh() == {0: 39}
    home.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(Retryable, match="gone"):
            reader.refresh()
    (tmp_path / "away").rename(home)
    assert reader.refresh() == {0: 39}
    assert reader.get("last", log[-1][0]) == log[-1][1]
    reader.close()
    state.close()


def test_a_reader_follows_every_partition_through_flushes(tmp_path: Path) -> None:
    reader = KeyedReader(tmp_path, STORE, 2)
    assert reader.refresh() == {0: -1, 1: -1}
    assert reader.get("last", b"k") is None
    states = [open_state(tmp_path / str(number), CLOCK, partition=number) for number in range(2)]
    oracle: dict[bytes, bytes] = {}
    random = Random(1)
    for turn in range(60):
        for state in states:
            batch = state.database.batch()
            number = states.index(state)
            for _ in range(20):
                key, value = b"key %d" % random.randrange(200), random.randbytes(40_000)
                if partition_of(key, 2) == number:
                    oracle[key] = value
                    batch.put("last", key, value)
            state.commit(batch, turn)
        assert reader.refresh() == {0: turn, 1: turn}
        assert reader.get_many("last", list(oracle)) == list(oracle.values())
    assert reader.durable() == {0: -1, 1: -1}
    for state in states:
        state.close()
    reader.refresh()
    assert reader.durable() == {0: 59, 1: 59}
    reader.close()
