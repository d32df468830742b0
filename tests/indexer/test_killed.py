"""kill -9 of a writer that ingests and compacts: what it leaves is whole, and opens within two seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from dotstream.clock import SystemClock
from tests.indexer.test_compaction import churn, settle
from tests.support.index_oracle import Oracle, hold_against, open_shard

KILLS = int(os.environ.get("FAULT_ROUNDS", "4"))
PINS, ROUNDS = 60, 40
OPENS_WITHIN_S = 2.0


def writer(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.indexer.churn", str(home), str(PINS), str(ROUNDS)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def test_kills_at_any_moment(tmp_path: Path) -> None:
    log = churn(PINS, ROUNDS)
    seed = time.time_ns() if "FAULT_ROUNDS" in os.environ else 1
    print(f"seed {seed}")
    random = Random(seed)
    opened: list[float] = []
    home = tmp_path / "0"
    for kill in range(KILLS):
        if kill % 10 == 0:
            home = tmp_path / str(kill)
        with writer(home) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                process.wait(random.uniform(0.01, 0.6))
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
        begun = time.monotonic()
        shard = open_shard(home, clock=SystemClock())
        opened.append(time.monotonic() - begun)
        hold_against(shard, Oracle().apply(log[: shard.applied_offset + 1]))
        shard.abandon()
    shard = open_shard(home, clock=SystemClock())
    for at in range(shard.applied_offset + 1, len(log), 20):
        shard.apply(log[at : at + 20])
    settle(shard)
    hold_against(shard, Oracle().apply(log))
    shard.close()
    print(f"{KILLS} kills, opened within {max(opened):.2f} s")
    assert sorted(opened)[len(opened) // 2] < OPENS_WITHIN_S
