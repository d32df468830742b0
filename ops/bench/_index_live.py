"""A shard at work for `dotstream bench index`: a process that ingests at a pace, and a reader beside it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dotstream.clock import SystemClock
from dotstream.errors import Unavailable
from indexer.reader import IndexReader
from ops.bench._index_world import BITS, CODES, open_shard, records

PACE_CODES_S = 5_000
EVERY_S = 0.01
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Live:
    """What was measured.

    Attributes:
        idle_ms, busy_ms: of one search each, with nothing coming in and with codes coming in at the pace.
        idle_cpu_ms, busy_cpu_ms: what the searching thread computed of these, waits for a core left out.
        applied_ms: from the call of `apply` to its return, from which on a search in the writer's process finds it.
        visible_ms: from the call of `apply` to the refresh in which the reader has it.
        pace: codes/s that came in.
    """

    idle_ms: list[float]
    busy_ms: list[float]
    idle_cpu_ms: list[float]
    busy_cpu_ms: list[float]
    applied_ms: list[float]
    visible_ms: list[float]
    pace: float


def live(generation: Path, start: int, seconds: float) -> Live:
    """Searches and follows the shard of `generation`, which nobody has open; new pins come in from offset `start`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=_write, args=(generation, start, theirs), daemon=True)
    writer.start()
    try:
        _hear(ours)
        reader = IndexReader(generation, 1, clock=SystemClock(), lease_s=60.0, name=f"bench-{os.getpid()}")
        try:
            _search(reader, 1.0)
            before = _search(reader, seconds / 2)
            ours.send(seconds * 1.5 + 1)
            busy, busy_cpu = _search(reader, seconds)
            _, pace = _told(ours)
            after = _search(reader, seconds / 2)  # of the codes that came in too
            idle, idle_cpu = before[0] + after[0], before[1] + after[1]
            ours.send(seconds)
            seen = _follow(reader, seconds)
            stamps, _ = _told(ours)
        finally:
            reader.close()
    finally:
        writer.kill()
        writer.join()
    applied = [(ended - begun) * 1000 for _, begun, ended in stamps]
    visible = [(seen[offset] - begun) * 1000 for offset, begun, _ in stamps if offset in seen]
    return Live(idle, busy, idle_cpu, busy_cpu, applied, visible, pace)


def _hear(pipe: Connection) -> object:
    if not pipe.poll(LIMIT_S):
        raise Unavailable(f"the writing process said nothing for {LIMIT_S:g} s")
    return pipe.recv()


def _told(pipe: Connection) -> tuple[Sequence[tuple[int, float, float]], float]:
    told = _hear(pipe)
    assert isinstance(told, tuple)  # noqa: S101  what `_write` sends
    return told


def _search(reader: IndexReader, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of each search, and those of its thread's computing; refreshing is outside of it, as the API does it
    in a thread of its own.
    """
    random = np.random.default_rng(7)
    taken: list[float] = []
    computed: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        reader.refresh()
        query = random.bytes(BITS // 8)
        begun, own = time.perf_counter(), time.thread_time()
        reader.search(query, 10)
        taken.append((time.perf_counter() - begun) * 1000)
        computed.append((time.thread_time() - own) * 1000)
    return taken, computed


def _follow(reader: IndexReader, seconds: float) -> dict[int, float]:
    """Offset -> when the reader had it."""
    seen: dict[int, float] = {}
    last = reader.refresh()[0]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = reader.refresh()[0]
        if found == last:
            time.sleep(0.0002)
            continue
        now = time.monotonic()
        seen.update(dict.fromkeys(range(last + 1, found + 1), now))
        last = found
    return seen


def _write(generation: Path, start: int, pipe: Connection) -> None:
    """The other process: for each number of seconds that it is sent, ingests so long and sends back what it did."""
    shard = open_shard(generation)
    pipe.send("ready")
    at = 0
    while True:
        seconds = pipe.recv()
        share = round(PACE_CODES_S * EVERY_S / CODES)
        turns = round(seconds / EVERY_S)
        logged = list(records(turns * share, start=start + at, first=start + at))
        at += len(logged)
        stamps: list[tuple[int, float, float]] = []
        begun = time.monotonic()
        for turn in range(turns):
            batch = logged[turn * share : (turn + 1) * share]
            called = time.monotonic()
            shard.apply(batch)
            stamps.append((batch[-1].offset, called, time.monotonic()))
            shard.maybe_sync()
            time.sleep(max(0.0, begun + (turn + 1) * EVERY_S - time.monotonic()))
        pipe.send((stamps, len(logged) * CODES / (time.monotonic() - begun)))
