"""`dotstream bench visibility`: how soon an applied record is found by a query, in the writer and in another process,
and how soon a deleted one is not found any more.

A shard of 50,000 objects; then records are applied one at a time at a steady pace. In the writer: from the call of
`apply` to the end of a search that finds the new object. In a follower process that refreshes and searches without
pause: from the return of `apply` to the moment at which its answer holds the object. Peer: writing the same codes to a
plain file with one flush each.

Then pins are deleted one at a time, at random moments of the follower's round. From the commit point, the batch in
RocksDB, in the writer to the return of `apply`, from which on no search may find the pin, and to the end of such a
search; in the follower to the end of the first answer without it. A search that finds it later is an error.

Clocks: CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dotstream.clock import SystemClock
from dotstream.errors import Unavailable
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.reader import IndexReader
from indexer.records import delete_record
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.search import warm
from indexer.shard import Shard
from ops.bench._report import Figure, Report, machine, neighbours
from ops.commands.options import counted, say

BITS = 1280
FEATURE = "bench"
BASE = 50_000
TRIALS = 300
DELETES = 3_000
PACE_S = 0.02
DELETES_PACE_S = 0.005
LIMIT_S = 60.0

Codes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Commits:
    """When the shard's last batch was in RocksDB, the commit point: by the clock, and by its thread's own computing."""

    at: float = 0.0
    computed: float = 0.0

    def __call__(self, step: str) -> None:
        """See indexer/steps.py."""
        if step == "batch written":
            self.at, self.computed = time.monotonic(), time.thread_time()


@dataclass(slots=True)
class _Gone:
    """Milliseconds from each delete's commit point.

    Attributes:
        returned: to the return of `apply`.
        computed: what the writer's thread computed of that, waits for a core left out.
        searched: to the end of the search behind it, which does not find the pin.
        elsewhere: to the end of the other process's first answer without it.
    """

    returned: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)
    searched: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    before, commits = neighbours(), _Commits()
    warm(BITS)
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        home = Path(folder) / "g1"
        shard = Shard.open(
            home / "0",
            generation="g1",
            partition=0,
            topic_id="bench",
            feature=FEATURE,
            bits=BITS,
            clock=SystemClock(),
            at=commits,
        )
        try:
            report = _measure(shard, commits, home, Path(folder) / "plain")
            report.conditions |= before
            report.show(as_json=as_json)
        finally:
            shard.close()


def _measure(shard: Shard, commits: _Commits, home: Path, plain: Path) -> Report:
    codes = np.random.default_rng(0).integers(0, 256, (BASE + TRIALS, BITS // 8), np.uint8)
    for start in range(0, BASE, 500):
        shard.apply([_logged(n, codes[n]) for n in range(start, start + 500)])
    shard.sync()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    follower = context.Process(target=_follow, args=(home, theirs), daemon=True)
    follower.start()
    try:
        if not ours.poll(LIMIT_S):
            raise Unavailable("the follower did not start")
        ours.recv()
        say(f"{TRIALS} records come")
        writer, elsewhere = _trials(shard, codes, ours)
        say(f"{counted(DELETES, 'pin')} go")
        gone = _deletes(shard, commits, codes, ours)
    finally:
        follower.kill()
        follower.join()
    peer = _plain(plain, codes[BASE:])
    return Report(
        "visibility",
        machine()
        | {
            "index": f"{BASE} pins of a picture and an object, {BITS} bits each, one shard",
            "trials": TRIALS,
            "pace": f"{1 / PACE_S:.0f}/s",
            "deletes": f"{DELETES}, {DELETES_PACE_S * 1000:g} ms between them on average",
        },
        {
            "writer p50": Figure(_share(writer, 50), "ms", peer=_share(peer, 50)),
            "writer p99": Figure(_share(writer, 99), "ms", peer=_share(peer, 99)),
            "another process p50": Figure(_share(elsewhere, 50), "ms"),
            "another process p99": Figure(_share(elsewhere, 99), "ms", limit=100.0),
            **_of_deletes(gone),
        },
    )


def _of_deletes(gone: _Gone) -> dict[str, Figure]:
    rows = (
        ("delete, the writer", gone.returned, 1.0),
        ("delete, the writer, computing", gone.computed, 1.0),
        ("delete, an answer of the writer", gone.searched, None),
        ("delete, an answer of another process", gone.elsewhere, 100.0),
    )
    return {
        f"{name}, {of}": Figure(_share(times, percent), "ms", limit=limit)
        for name, times, limit in rows
        for of, percent in (("p50", 50), ("p99", 99), ("at most", 100))
    }


def _trials(shard: Shard, codes: Codes, follower: Connection) -> tuple[list[float], list[float]]:
    """(writer, follower) times in milliseconds."""
    writer, elsewhere = [], []
    for n in range(BASE, BASE + TRIALS):
        code = codes[n].tobytes()
        follower.send((code, f"pin-{n}", True))
        started = time.monotonic()
        shard.apply([_logged(n, codes[n])])
        applied = time.monotonic()
        hits = shard.search(Query(code, 1)).hits
        writer.append((time.monotonic() - started) * 1000)
        if hits[0].pin_id != f"pin-{n}":
            raise Unavailable(f"pin-{n} was not found by the next query")
        elsewhere.append((_hear(follower, f"pin-{n}") - applied) * 1000)
        shard.maybe_sync()
        time.sleep(PACE_S)
    return writer, elsewhere


def _deletes(shard: Shard, commits: _Commits, codes: Codes, follower: Connection) -> _Gone:
    random, gone = np.random.default_rng(1), _Gone()
    for n in range(DELETES):
        pin_id, code = f"pin-{n}", codes[n].tobytes()
        follower.send((code, pin_id, True))
        _hear(follower, pin_id)
        follower.send((code, pin_id, False))
        time.sleep(random.uniform(0, 2 * DELETES_PACE_S))  # the follower asks again and again meanwhile
        record = delete_record(pin_id, 2, "g1", n)
        shard.apply([Logged(shard.applied_offset + 1, pin_id.encode(), record, n)])
        returned, computed = time.monotonic(), time.thread_time()
        hits = shard.search(Query(code, 1)).hits
        searched = time.monotonic()
        if hits[0].pin_id == pin_id:
            raise Unavailable(f"{pin_id} was found by a search behind its delete")
        gone.returned.append((returned - commits.at) * 1000)
        gone.computed.append((computed - commits.computed) * 1000)
        gone.searched.append((searched - commits.at) * 1000)
        gone.elsewhere.append((_hear(follower, pin_id) - commits.at) * 1000)
        shard.maybe_sync()
    return gone


def _hear(follower: Connection, pin_id: str) -> float:
    """When the other process saw what it was told to look out for."""
    if not follower.poll(LIMIT_S):
        raise Unavailable(f"the follower did not see what became of {pin_id}")
    seen: float = follower.recv()
    return seen


def _follow(home: Path, pipe: Connection) -> None:
    """The other process: told a code and a pin, it searches until that is found, or not found, and tells when."""
    reader = IndexReader(home, 1, clock=SystemClock(), lease_s=5.0, name=f"bench-{os.getpid()}")
    reader.refresh()
    reader.search(bytes(BITS // 8), 1)
    pipe.send("ready")
    while True:
        code, pin_id, wanted = pipe.recv()
        while True:
            reader.refresh()
            hits = reader.search(code, 1).hits
            if (hits[0].pin_id == pin_id) == wanted:
                break
        pipe.send(time.monotonic())


def _plain(path: Path, codes: Codes) -> list[float]:
    """Appending each code to a file and handing it to the system, milliseconds."""
    times = []
    with path.open("wb") as file:
        for code in codes:
            started = time.monotonic()
            file.write(code.tobytes())
            file.flush()
            times.append((time.monotonic() - started) * 1000)
    return times


def _logged(number: int, code: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Logged:
    kept = Code(feature=FEATURE, bits=code.tobytes())
    other = Code(feature=FEATURE, bits=np.bitwise_not(code).tobytes())
    found = DetectedObject(
        index=0, box=Box(x1=1, y1=1), label="Chair", score=0.9, source=DetectedObject.SOURCE_DETECTOR, codes=[kept]
    )
    record = ObjectRecord(
        pin_id=f"pin-{number}",
        version=1,
        generation="g1",
        image_sha256=number.to_bytes(32, "big"),
        codes=[other],
        objects=[found],
        annotations=["bench"],
        recorded_at=number,
    )
    return Logged(number, record.pin_id.encode(), record, number)


def _share(values: Sequence[float], percent: int) -> float:
    return float(np.percentile(values, percent))
