"""Takedowns under load: threads search while pins come, go and are compacted; nothing answers with what was taken down.

A trial is one pin that is put in, found, and deleted. From the moment at which its delete was applied no search that
begins in the writer's process may find it, and none of a follower that was refreshed after that moment. `make faults`
runs 10,000 trials; the short form here a few hundred.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import SystemClock
from dotstream.errors import Retryable
from indexer.answers import Query
from indexer.reader import IndexReader
from indexer.shard import Shard
from tests.support.index_oracle import dead, live, log_of, open_shard

TRIALS = 10 * int(os.environ.get("FAULT_ROUNDS", "20"))
KEPT = 40
FOLLOWED_WITHIN_S = 0.1


@dataclass
class Ledger:
    """What was acknowledged, and what was seen that must not be."""

    gone: list[tuple[str, bytes]] = field(default_factory=list)
    deleted_at: dict[int, float] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    searches: int = 0
    delays: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    opened = open_shard(tmp_path / "g1" / "0", clock=SystemClock())
    yield opened
    opened.close()


def write(shard: Shard, ledger: Ledger) -> None:
    """The trials, one after the other; some pins stay, so that there is something to find."""
    offset = 0
    for trial in range(TRIALS):
        pin_id = f"pin-{trial % KEPT}"
        record = live(pin_id, trial + 1, objects=1)
        kept = live(f"kept-{trial % KEPT}", trial + 1, objects=0)
        shard.apply(log_of([(kept.pin_id, kept), (pin_id, record)], start=offset))
        code = record.codes[0].bits
        assert any(hit.pin_id == pin_id for hit in shard.search(Query(code, 1)).hits)
        shard.apply(log_of([(pin_id, dead(pin_id, trial + 1))], start=offset + 2))
        ledger.deleted_at[offset + 2] = time.monotonic()
        found = [hit.pin_id for hit in shard.search(Query(code, 5)).hits]
        if pin_id in found:
            ledger.stale.append(f"writer: {pin_id} after offset {offset + 2}")
        ledger.gone.append((f"{pin_id}@{trial + 1}", code))
        shard.maybe_sync()
        offset += 3
    ledger.done.set()


def look(source: Shard | IndexReader, ledger: Ledger, random: Random) -> None:
    """Searches for codes of pins that are gone. A pin's later version is another trial: versions tell them apart."""
    while not ledger.done.is_set():
        known = len(ledger.gone)
        if not known:
            time.sleep(0.0005)
            continue
        name, code = ledger.gone[random.randrange(max(0, known - 20), known)]
        pin_id, version = name.split("@")
        try:
            if isinstance(source, IndexReader):
                source.refresh()
                hits = source.search(code, 5).hits
            else:
                hits = source.search(Query(code, 5)).hits
        except Retryable:
            continue  # the nearest kept changing
        ledger.searches += 1
        if any(hit.pin_id == pin_id and hit.record.version <= int(version) for hit in hits):
            ledger.stale.append(f"{type(source).__name__}: {name}")


def follow(reader: IndexReader, ledger: Ledger) -> None:
    """Notes how long after its delete was applied each watermark reaches a follower."""
    last = -1
    while not ledger.done.is_set():
        reached = reader.refresh()[0]
        now = time.monotonic()
        for offset in range(last + 1, reached + 1):
            if offset in ledger.deleted_at:
                ledger.delays.append(now - ledger.deleted_at[offset])
        last = reached
        time.sleep(0.0005)


def compact(shard: Shard, ledger: Ledger) -> None:
    while not ledger.done.wait(0.005):
        shard.compact(0.3)


@pytest.mark.timeout(0 if "FAULT_ROUNDS" in os.environ else 120)
def test_no_answer_holds_what_was_taken_down(shard: Shard, tmp_path: Path) -> None:
    ledger = Ledger()
    readers = [IndexReader(tmp_path / "g1", 1, clock=SystemClock(), lease_s=60.0, name=f"r{n}") for n in range(2)]
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            ledger.done.set()

    jobs: list[Callable[[], None]] = [
        partial(write, shard, ledger),
        partial(look, shard, ledger, Random(1)),
        partial(look, readers[0], ledger, Random(2)),
        partial(follow, readers[1], ledger),
        partial(compact, shard, ledger),
    ]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for reader in readers:
        reader.close()
    assert failures == []
    assert ledger.stale == []
    assert len(ledger.gone) == TRIALS
    assert ledger.searches > TRIALS / 10
    assert shard.counts()["compactions"] > 0
    delays = sorted(ledger.delays)
    print(f"{TRIALS} trials, {ledger.searches} searches; followed within p50 {delays[len(delays) // 2] * 1000:.1f} ms")
    assert delays[len(delays) // 2] < FOLLOWED_WITHIN_S
    assert shard.verify() == []
