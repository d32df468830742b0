"""How long compaction holds a shard's lock, for `dotstream bench index`: many compactions while pins are updated."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dotstream.clock import SystemClock
from dotstream.errors import Unavailable
from indexer.compaction import DEAD_SHARE, Compacted
from indexer.shard import Shard
from ops.bench._index_world import open_shard, records

SLOTS = 2_048
PINS = 30_000
COMPACTIONS = 2_000
LIMIT_S = 180.0
_BATCH = 64
_AHEAD = 4_096


@dataclass(slots=True)
class Held:
    """What was measured.

    Attributes:
        seconds: for which compactions held the lock, each at the longest.
        computed: likewise of others, but the seconds that their thread computed, waits for a core left out.
        stalls: seconds for which the machine let a process of its own wait that wants to compute for a millisecond.
        pins: updates that were applied meanwhile.
        taken: seconds for all.
    """

    seconds: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    pins: int = 0
    taken: float = 0.0


class _Watch(SystemClock):
    """The machine's time; a thread may ask for its own computing instead."""

    def __init__(self) -> None:
        self.of_thread: int | None = None

    def monotonic(self) -> float:
        return time.thread_time() if self.of_thread == threading.get_ident() else time.monotonic()


def held(generation: Path, pins: int = PINS, compactions: int = COMPACTIONS, slots: int = SLOTS) -> Held:
    """Fills a shard of segments of so many slots, then updates random pins without pause, synced every 100 ms, while a
    thread compacts what is sparse without pause. Every other compaction is timed by what it computes.
    """
    watch = _Watch()
    shard = open_shard(generation, segment_slots=slots, clock=watch)
    stream = list(records(pins))
    for at in range(0, pins, 512):
        shard.apply(stream[at : at + 512])
    shard.sync()
    found, stop = Held(), threading.Event()
    mover = threading.Thread(target=_compact, args=(shard, watch, found, compactions, stop))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    prober = context.Process(target=_probe, args=(theirs,), daemon=True)
    prober.start()
    begun = time.monotonic()
    mover.start()
    try:
        _update(shard, pins, found, mover, begun + LIMIT_S)
        ours.send("stop")
        if not ours.poll(LIMIT_S):
            raise Unavailable(f"the probing process said nothing for {LIMIT_S:g} s")
        found.stalls = ours.recv()
    finally:
        stop.set()
        mover.join()
        shard.close()
        prober.kill()
        prober.join()
    found.taken = time.monotonic() - begun
    return found


def _update(shard: Shard, pins: int, found: Held, mover: threading.Thread, end: float) -> None:
    random = np.random.default_rng(11)
    version = 1
    while mover.is_alive() and time.monotonic() < end:
        version += 1
        start = shard.applied_offset + 1
        ahead = list(records(_AHEAD, start=start, first=int(random.integers(pins - _AHEAD)), version=version))
        for at in range(0, _AHEAD, _BATCH):
            shard.apply(ahead[at : at + _BATCH])
            shard.maybe_sync()
            found.pins += _BATCH


def _probe(pipe: Connection) -> None:
    """The other process: how much longer a millisecond of computing takes, again and again until it is told to stop."""
    stalls: list[float] = []
    while not pipe.poll(0.005):
        begun, own = time.monotonic(), time.thread_time()
        while (computed := time.thread_time() - own) < 0.001:
            pass
        stalls.append(time.monotonic() - begun - computed)
    pipe.send(stalls)


def _compact(shard: Shard, watch: _Watch, found: Held, compactions: int, stop: threading.Event) -> None:
    while len(found.seconds) + len(found.computed) < compactions and not stop.is_set():
        done: Compacted | None = shard.compact(DEAD_SHARE)
        if done is None:
            stop.wait(0.005)
        elif watch.of_thread is None:
            found.seconds.append(done.held_s)
            watch.of_thread = threading.get_ident()
        else:
            found.computed.append(done.held_s)
            watch.of_thread = None
