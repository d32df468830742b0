"""A second process follows the writer: each of its results is exactly that of one committed version."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from dotstream.clock import SystemClock
from indexer.leases import read_leases
from tests.support.index_oracle import GENERATION, Oracle, open_shard, random_log

SEED, LENGTH, PINS = 31, 1_500, 120
LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]


def followed_to(folder: Path, offset: int, follower: subprocess.Popen[str]) -> bool:
    """Whether the follower's lease has reached an offset."""
    assert follower.poll() is None, "the follower ended"
    return any(lease.positions[0][1] >= offset for lease in read_leases(folder) if 0 in lease.positions)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "the follower does not follow"
        time.sleep(0.0005)


def test_a_second_process_sees_whole_versions_only(tmp_path: Path) -> None:
    folder = tmp_path / GENERATION
    (folder / "stamps").mkdir(parents=True)
    log = random_log(Random(SEED), LENGTH, PINS)
    shard = open_shard(folder / "0", clock=SystemClock(), segment_slots=512)
    command = [sys.executable, "-W", "error", "-m", "tests.indexer.follow", str(folder)]
    arguments = [str(SEED), str(LENGTH), str(PINS)]
    with subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "ready\n"
            random = Random(SEED + 2)
            at = 0
            while at < LENGTH:
                size = random.randint(1, 8)
                batch = log[at : at + size]
                (folder / "stamps" / str(batch[-1].offset)).touch()
                shard.apply(batch)
                shard.maybe_sync()
                at += size
                if random.random() < 0.1:  # else the writer would be done before the follower looked twice
                    wait_for(partial(followed_to, folder, shard.applied_offset, follower))
            out, _ = follower.communicate(timeout=LIMIT_S)
        finally:
            if follower.poll() is None:
                follower.kill()
    assert follower.returncode == 0
    seen = json.loads(out)
    assert seen["versions"] >= 20
    assert shard.digest() == Oracle().apply(log).digest()
    shard.close()
    print(f"\nseen in another process after p50 {seen['p50']:.2f} ms, worst {seen['worst']:.2f} ms")
