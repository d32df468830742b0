"""One supervised child process: a session of its own, a log file, an end with a limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

LOG_LIMIT = 16 << 20


class Running(Protocol):
    """What the supervisor asks of a started part: a `Process`, or the handles of ops/local/kafka.py and triton.py."""

    @property
    def pid(self) -> int: ...

    def alive(self) -> bool:
        """Whether it runs; never blocks."""
        ...

    def stop(self, limit_s: float) -> None:
        """Asks it to end and kills it when the limit has passed. Returns when it is gone."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


class Process:
    """A child that was started by `spawn`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, limit_s: float) -> None:
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        self.kill()

    def kill(self) -> None:
        """Kills the whole session: whatever the child had started goes with it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def spawn(command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> Process:
    """Starts a child whose output is added to `log`; a log that has grown too large is put aside first.

    Args:
        command: program and arguments, without a shell.
        log: file that takes what it says; its folder is made.
        env: set beside the environment of this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(log.suffix + ".1"))
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
    return Process(process, log)


def last_line(log: Path) -> str:
    """The last line of a log that says something, for a message to a person."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"
