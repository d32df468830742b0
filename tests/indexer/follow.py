"""A follower in a process of its own, for test_follow.py: searches at every version and holds results to the oracle.

    python -m tests.indexer.follow GENERATION_FOLDER SEED LENGTH PINS

Prints `ready`, then refreshes and searches until the log's last offset was seen, then one line of JSON: how many
versions it saw, and how long after its commit each was seen, in milliseconds. A wrong result ends it with status 1.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random

from dotstream.clock import SystemClock
from indexer.reader import IndexReader
from tests.support.index_oracle import Oracle, random_log


def main(folder: Path, seed: int, length: int, pins: int) -> None:
    log = random_log(Random(seed), length, pins)
    oracle, reached = Oracle(), -1
    random = Random(seed + 1)
    reader = IndexReader(folder, 1, clock=SystemClock(), lease_s=30.0, name="follower")
    reader.search(bytes(8), 1) if reader.refresh()[0] >= 0 else None
    print("ready", flush=True)
    versions = 0
    delays: list[float] = []
    while reached < length - 1:
        watermark = reader.refresh()[0]
        if watermark == reached:
            time.sleep(0.0005)
            continue
        delays.append((time.time() - (folder / "stamps" / str(watermark)).stat().st_mtime) * 1000)
        query = random.randbytes(8)
        result = reader.search(query, 10)
        at = result.watermark[0]
        oracle.apply(log[reached + 1 : at + 1])
        reached = at
        found = [(hit.distance, hit.pin_id, hit.object_index) for hit in result.hits]
        if found != oracle.nearest(query, 10):
            sys.exit(f"at offset {at}: {found} is not {oracle.nearest(query, 10)}")
        versions += 1
    reader.close()
    delays.sort()
    print(json.dumps({"versions": versions, "p50": delays[len(delays) // 2], "worst": delays[-1]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
