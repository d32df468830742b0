"""A writer in a process of its own, for test_killed.py: applies a log and compacts at once, until it is killed.

    python -m tests.indexer.churn FOLDER PINS ROUNDS

Prints `ready` once the shard is open, and ends by itself when all of the log is applied.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from dotstream.clock import SystemClock
from tests.indexer.test_compaction import SHARE, churn
from tests.support.index_oracle import open_shard


def main(home: Path, pins: int, rounds: int) -> None:
    log = churn(pins, rounds)
    shard = open_shard(home, clock=SystemClock(), lock_limit_s=10.0)
    done = threading.Event()

    def compact() -> None:
        while not done.wait(0.001):
            shard.compact(SHARE)

    thread = threading.Thread(target=compact, daemon=True)
    thread.start()
    print("ready", flush=True)
    while shard.applied_offset < log[-1].offset:
        at = shard.applied_offset + 1
        shard.apply(log[at : at + 5])
        shard.maybe_sync()
    done.set()
    thread.join()
    shard.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
