"""A disk that refuses the index: the worker pauses, commits nothing, and goes on within 10 s once there is space."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.faults.oracle import GENERATION, check_index, check_log, publish, settle
from tests.faults.processes import CpuMeter
from tests.faults.stack import RunningStack, running_stack
from tests.faults.state import lag_of
from tests.faults.waiting import watched

DISK_MB = 96
SLOTS = "1024"  # small segments, so that new ones are needed soon
FULL_S = 12.0
RESUME_LIMIT_S = 10.0
EVENTS = 60
SPIN = 0.2  # of one core

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Refusing = Callable[[RunningStack], AbstractContextManager[None]]


def small_disk(folder: Path) -> Iterator[Refusing]:
    """The index lies on a file system of its own, which is filled to its last block."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)

    @contextlib.contextmanager
    def refuse(_: RunningStack) -> Iterator[None]:
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        assert os.statvfs(folder).f_bavail == 0
        try:
            yield
        finally:
            ballast.unlink()

    try:
        yield refuse
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limited_files(_: Path) -> Iterator[Refusing]:
    """The index worker may not write to any file: the kernel refuses with EFBIG, as a quota does with EDQUOT."""

    @contextlib.contextmanager
    def refuse(stack: RunningStack) -> Iterator[None]:
        pid = stack.running("index")
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    yield refuse


WAYS = {"no write allowed": limited_files} | ({"no space": small_disk} if os.geteuid() == 0 else {})


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_refuses_the_index(tmp_path: Path, seed: int, way: str) -> None:
    ledger = Ledger(seed, fresh=True)
    with contextlib.contextmanager(WAYS[way])(tmp_path / "data" / "index") as refusing:
        with running_stack(tmp_path, DOTSTREAM_INDEX__SEGMENT_SLOTS=SLOTS) as stack:
            publish(stack, ledger, EVENTS)
            settle(stack, ledger)
            workers = stack.workers()
            with refusing(stack):
                publish(stack, ledger, EVENTS)
                check_paused(stack)
            took = stack.until("the index goes on", lambda: applied_everything(stack), RESUME_LIMIT_S)
            print(f"{way}: went on {took:.1f} s after the disk took writes again")
            world = settle(stack, ledger)
            assert stack.workers() == workers, "a worker ended"
            stack.until("nothing waits", lambda: not stack.metric("index", "dotstream_paused"), RESUME_LIMIT_S)
        check_log(world, ledger)
        check_index(tmp_path / "data", world, tmp_path / "rebuilt")


def check_paused(stack: RunningStack) -> None:
    """Says that it waits, applies nothing, and does not spin."""
    stack.until("the index says that it waits", lambda: stack.metric("index", "dotstream_paused"), 60)
    before = offsets(stack)
    meter = CpuMeter(stack.workers())
    looks = watched(lambda: stack.metric("index", "dotstream_paused"), FULL_S, every_s=0.25)
    assert offsets(stack) == before, "something was applied"
    assert all(looks[len(looks) // 3 :]), f"paused in {sum(looks)} of {len(looks)} looks\n{stack.output()}"
    shares = meter.shares()
    print("CPU while the disk refused:", {name: f"{share:.1%}" for name, share in shares.items()})
    assert max(shares.values()) < SPIN, f"busy while nothing can be done: {shares}\n{stack.output()}"


def offsets(stack: RunningStack) -> tuple[float, float]:
    return (
        stack.metric("index", "dotstream_index_offset", kind="applied"),
        stack.metric("index", "dotstream_index_offset", kind="durable"),
    )


def applied_everything(stack: RunningStack) -> bool:
    """Whether the dots, which wait for the index, have passed everything that vision has written."""
    group = f"dotstream-dots-{GENERATION}"
    paused = stack.metric("index", "dotstream_paused")
    return not paused and lag_of(stack.connection, group, f"objects.{GENERATION}") <= MARKS


MARKS = 4 * 4  # transaction marks behind the last record of each partition, which no position passes
