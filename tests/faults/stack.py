"""The system under test: `dotstream up` as a user starts it, with real parts that can be signalled by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from producers.kafka import KafkaConnection
from tests.faults.processes import alive
from tests.faults.waiting import until

ROOT = Path(__file__).parents[2]
READY_LIMIT_S = 120.0
COMMAND = (sys.executable, "-m", "ops.cli")
_ASSIGNED = re.compile(r"assigned \S+\[|\[\d+\] opened at")
WORKERS = ("vision", "takedowns", "index", "dots", "crops", "saves")


def clean_environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment without settings of dotstream, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOTSTREAM_")}
    return {**inherited, **settings}


class RunningStack:
    """One `dotstream up` in a data folder of its own.

    Args:
        data: the data folder.
        settings: environment variables DOTSTREAM_….
        arguments: more options of `up`.
    """

    def __init__(self, data: Path, settings: dict[str, str], arguments: Sequence[str] = ()) -> None:
        self.data = data
        self.environment = clean_environment(settings)
        data.parent.mkdir(parents=True, exist_ok=True)
        with (data.parent / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--data", str(data), "--port", "0", *arguments],
                cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What stack.json says at the moment; empty before the stack has written it."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.data / "stack.json").read_text())
            return found
        return {}

    @property
    def ready(self) -> bool:
        return bool(self.facts().get("ready"))

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(self.facts()["kafka"])

    def until(self, what: str, holds: Callable[[], object], limit_s: float, *, every_s: float = 0.1) -> float:
        """Waits for a condition while the stack lives; fails with what the stack said last."""

        def looks() -> object:
            assert self.process.poll() is None, f"the stack ended: {self.output()}"
            return holds()

        return until(what, looks, limit_s, every_s=every_s, said=self.output)

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        self.until("the stack is ready", lambda: self.ready, limit_s)

    def pid(self, part: str) -> int | None:
        pid = self.facts().get("parts", {}).get(part, {}).get("pid")
        return int(pid) if pid else None

    def running(self, part: str) -> int:
        """Process id of a part that runs."""
        pid = self.pid(part)
        assert pid is not None and alive(pid), f"{part} does not run\n{self.output()}"
        return pid

    def workers(self) -> dict[str, int]:
        """Process ids of the stream workers."""
        return {name: self.running(name) for name in WORKERS}

    def signal(self, part: str, number: signal.Signals) -> None:
        """Signals a part's own process, and nothing else; one that is gone is passed over."""
        pid = self.pid(part)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, part: str) -> None:
        """kill -9, and nothing else."""
        self.signal(part, signal.SIGKILL)

    def restarts(self) -> dict[str, int]:
        return {name: int(part["restarts"]) for name, part in self.facts().get("parts", {}).items()}

    def metric(self, part: str, name: str, **labels: str) -> float:
        """Sum of a worker's samples of this name that have these labels; 0 when there are none or it is away."""
        return metric(self.facts()["parts"][part]["metrics"], name, **labels)

    def log(self, part: str) -> str:
        """All that a part has said."""
        return (self.data / "logs" / f"{part}.log").read_text(errors="replace")

    def output(self) -> str:
        """The end of every log, for a failure's message."""
        servers = [self.data / "kafka" / "kafka.log", self.data / "triton" / "triton.log"]
        logs = [self.data.parent / "up.log", *servers, *sorted((self.data / "logs").glob("*.log"))]
        told = [f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs if log.exists()]
        return "\n".join([json.dumps(self.facts().get("parts", {})), *told])

    def command(self, *arguments: str, limit_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Runs `dotstream …` on this data folder."""
        return subprocess.run(
            [*COMMAND, "--data", str(self.data), *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=limit_s,
        )  # fmt: skip

    def stop(self) -> None:
        """Ctrl-C, then the hard way."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class ExtraWorker:
    """One more worker beside those that the stack supervises: `dotstream work ROLE --slot N`."""

    def __init__(self, stack: RunningStack, role: str, slot: int, **settings: str) -> None:
        self.slot = slot
        logs = stack.data.parent / "extra"
        logs.mkdir(exist_ok=True)
        self._log = logs / f"{role}-{slot}-{len(list(logs.iterdir()))}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--data", str(stack.data), "work", role, "--slot", str(slot)],
                cwd=ROOT, env={**stack.environment, **settings}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """As `RunningStack.metric`; the worker names its address in its log."""
        _, found, rest = self.said().partition("metrics on ")
        return metric(rest.split()[0], name, **labels) if found else 0.0

    def wait_assigned(self, limit_s: float = 60.0) -> None:
        """Until the worker has been given partitions."""

        def assigned() -> object:
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}: {self.said()}"
            return _ASSIGNED.search(self.said())

        until(f"slot {self.slot} has partitions", assigned, limit_s, said=self.said)

    def end(self, number: signal.Signals = signal.SIGTERM, limit_s: float = 15.0) -> int:
        """Signals it and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"slot {self.slot} did not end within {limit_s:g} s: {self.said()[-2000:]}") from None


@contextlib.contextmanager
def extra_worker(stack: RunningStack, role: str, slot: int, **settings: str) -> Iterator[ExtraWorker]:
    """A worker that does not outlive the block."""
    worker = ExtraWorker(stack, role, slot, **settings)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def metric(url: str, name: str, **labels: str) -> float:
    """Sum of the samples of this name and these labels at a /metrics address; 0 when it does not answer."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310  an address of our own stack
            text = answer.read().decode()
    except (URLError, OSError):
        return 0.0
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@contextlib.contextmanager
def running_stack(folder: Path, *arguments: str, **settings: str) -> Iterator[RunningStack]:
    """A stack that is ready; nothing of it is left behind.

    Args:
        folder: takes the data folder and the logs.
        arguments: more options of `dotstream up`.
        settings: environment variables DOTSTREAM_….
    """
    stack = RunningStack(folder / "data", settings, arguments)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
