"""The system under test: `dotstream up` as a user starts it, with real parts that can be killed by name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.kafka import KafkaConnection

READY_LIMIT_S = 120.0


class RunningStack:
    """One `dotstream up` in a data folder of its own."""

    def __init__(self, data: Path, environment: dict[str, str]) -> None:
        self.data = data
        self._log = (data.parent / "up.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "up", "--data", str(data), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )

    def facts(self) -> dict[str, Any]:
        """What stack.json says at the moment; empty before the stack has written it."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.data / "stack.json").read_text())
            return found
        return {}

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(self.facts()["kafka"])

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not self.facts().get("ready"):
            assert self._process.poll() is None, f"the stack ended: {self.output()[-2000:]}"
            assert time.monotonic() < deadline, f"the stack is not ready: {self.facts()} {self.output()[-2000:]}"
            self._pause()

    def _pause(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)

    def pid(self, part: str) -> int | None:
        pid = self.facts().get("parts", {}).get(part, {}).get("pid")
        return int(pid) if pid else None

    def kill(self, part: str) -> None:
        """kill -9, and nothing else."""
        pid = self.pid(part)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restarts(self) -> dict[str, int]:
        return {name: int(part["restarts"]) for name, part in self.facts().get("parts", {}).items()}

    def output(self) -> str:
        logs = [self.data.parent / "up.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def stop(self) -> None:
        """Ctrl-C, then the hard way."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


@contextlib.contextmanager
def running_stack(folder: Path, **environment: str) -> Iterator[RunningStack]:
    """A stack that is ready; nothing of it is left behind."""
    stack = RunningStack(folder / "data", environment)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
