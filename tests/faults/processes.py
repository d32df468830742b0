"""Processes of the system under test, as /proc shows them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

Identity = tuple[int, float]
"""Process id and start time: an id alone may belong to another process later."""


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody has asked after does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> set[Identity]:
    """A process and everything that it started, directly or not."""
    try:
        root = psutil.Process(pid)
        return {(one.pid, one.create_time()) for one in (root, *root.children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def still_there(of: Iterable[Identity]) -> list[str]:
    """Command lines of those that run still."""
    left = []
    for pid, started in of:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{pid}: {' '.join(process.cmdline())[:200]}")
    return left


def mentioning(text: str) -> list[str]:
    """Command lines of processes that have the text in their arguments or their environment."""
    needle = text.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                said = (entry / "cmdline").read_bytes()
                if said and (needle in said or needle in (entry / "environ").read_bytes()):
                    found.append(f"{entry.name}: {said.replace(chr(0).encode(), b' ').decode(errors='replace')[:200]}")
    return found


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


class CpuMeter:
    """CPU time of named processes from here on, as shares of one core."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._since = time.monotonic()
        self._before = {name: _cpu_s(process) for name, process in self._processes.items()}

    def shares(self) -> dict[str, float]:
        passed = time.monotonic() - self._since
        return {name: (_cpu_s(p) - self._before[name]) / passed for name, p in self._processes.items()}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
