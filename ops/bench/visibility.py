"""`dotstream bench visibility`: how soon an applied record is found by a query, in the writer and in another process.

A shard of 50,000 objects; then records are applied one at a time at a steady pace. In the writer: from the call of
`apply` to the end of a search that finds the new object. In a follower process that refreshes and searches without
pause: from the return of `apply` to the moment at which its answer holds the object. Clocks: CLOCK_MONOTONIC, which all
processes of a machine share. Peer: writing the same codes to a plain file with one flush each.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dotstream.clock import SystemClock
from dotstream.errors import Unavailable
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.reader import IndexReader
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import Shard
from ops.bench._report import Figure, Report, machine

BITS = 1280
FEATURE = "bench"
BASE = 50_000
TRIALS = 300
PACE_S = 0.02
LIMIT_S = 60.0


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
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
        )
        try:
            _measure(shard, home, Path(folder) / "plain").show(as_json=as_json)
        finally:
            shard.close()


def _measure(shard: Shard, home: Path, plain: Path) -> Report:
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
        writer, elsewhere = _trials(shard, codes, ours)
    finally:
        follower.kill()
        follower.join()
    peer = _plain(plain, codes[BASE:])
    return Report(
        "visibility",
        machine()
        | {"index": f"{BASE} objects of {BITS} bits, one shard", "trials": TRIALS, "pace": f"{1 / PACE_S:.0f}/s"},
        {
            "writer p50": Figure(_share(writer, 50), "ms", peer=_share(peer, 50)),
            "writer p99": Figure(_share(writer, 99), "ms", peer=_share(peer, 99)),
            "another process p50": Figure(_share(elsewhere, 50), "ms"),
            "another process p99": Figure(_share(elsewhere, 99), "ms", limit=100.0),
        },
    )


def _trials(
    shard: Shard, codes: np.ndarray[tuple[int, int], np.dtype[np.uint8]], follower: Connection
) -> tuple[list[float], list[float]]:
    """(writer, follower) times in milliseconds."""
    writer, elsewhere = [], []
    for n in range(BASE, BASE + TRIALS):
        code = codes[n].tobytes()
        follower.send((code, f"pin-{n}"))
        started = time.monotonic()
        shard.apply([_logged(n, codes[n])])
        applied = time.monotonic()
        hits = shard.search(Query(code, 1)).hits
        writer.append((time.monotonic() - started) * 1000)
        if hits[0].pin_id != f"pin-{n}":
            raise Unavailable(f"pin-{n} was not found by the next query")
        if not follower.poll(LIMIT_S):
            raise Unavailable(f"the follower did not see pin-{n}")
        elsewhere.append((follower.recv() - applied) * 1000)
        shard.maybe_sync()
        time.sleep(PACE_S)
    return writer, elsewhere


def _follow(home: Path, pipe: Connection) -> None:
    """The other process: told a code, it searches until the pin is found, and tells when."""
    reader = IndexReader(home, 1, clock=SystemClock(), lease_s=5.0, name=f"bench-{os.getpid()}")
    reader.refresh()
    reader.search(bytes(BITS // 8), 1)
    pipe.send("ready")
    while True:
        code, pin_id = pipe.recv()
        while True:
            reader.refresh()
            hits = reader.search(code, 1).hits
            if hits and hits[0].pin_id == pin_id:
                break
        pipe.send(time.monotonic())


def _plain(path: Path, codes: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> list[float]:
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
