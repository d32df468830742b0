"""The local stack as a user runs it: real broker, real Triton, all workers and the API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from ops.local.stack import ROLES
from producers.events_pb2 import EngagementEvent, EventBox, PinEvent
from producers.kafka import KafkaConnection
from producers.publisher import Publisher
from tests.ops.test_cli import dotstream
from tests.ops.test_supervisor import runs, until
from tests.support.photographs import photographs

ROOT = Path(__file__).parents[2]
READY_LIMIT_S = 150


class Up:
    """`dotstream up` in one data folder; started again after it ended."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data.parent / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DOTSTREAM_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli", "up", "--data", str(self.data), "--port", "0"],
                cwd=ROOT, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until(self._ready, READY_LIMIT_S)
        return self.facts()

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "stack.json").read_text())
        return found

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.facts()["ready"] and self.facts()["pid"] == self.process.pid)
        except (OSError, ValueError):
            return False

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    stack = Up(tmp_path / "data")
    yield stack
    if stack.process is not None and stack.process.poll() is None:
        stack.end(signal.SIGKILL)


def processes(facts: dict[str, Any]) -> list[int]:
    return [part["pid"] for part in facts["parts"].values() if part["pid"]]


@pytest.mark.timeout(600)
def test_up_runs_everything_and_leaves_nothing(up: Up, tmp_path: Path) -> None:
    facts = up.start()
    started = processes(facts)
    assert len(started) == 3 + len(ROLES)  # broker, Triton, API
    assert (facts["prefix"], facts["generation"]) == ("", "g1")
    assert facts["file_roots"] == [str(Path.home()), str(ROOT)]
    status = dotstream("status", "--json", "--data", up.data, cwd=tmp_path)
    assert status.returncode == 0, status.stderr
    told = json.loads(status.stdout)
    assert told["ready"] is True
    assert {told["kafka"], told["triton"], told["api"]} == {facts["kafka"], facts["triton"], facts["api"]}
    assert told["parts"]["vision"]["lag"] == 0
    with urlopen(facts["api"] + "/readyz", timeout=10) as answer:  # noqa: S310  our own server
        assert answer.status == 200

    what_many_crop_gets_a_dot(facts)

    index = facts["parts"]["index"]["pid"]
    os.kill(index, signal.SIGKILL)
    until(lambda: up.facts()["parts"]["index"]["pid"] not in {index, None} and up.facts()["ready"], READY_LIMIT_S)

    left = processes(up.facts())
    up.end(signal.SIGKILL)
    until(lambda: not any(runs(pid) for pid in left), 40)
    assert dotstream("status", "--data", up.data, cwd=tmp_path).returncode == 1

    again = up.start()
    assert again["kafka"] == facts["kafka"], "the broker is where it was"
    assert up.end(signal.SIGINT) == 0
    until(lambda: not any(runs(pid) for pid in processes(again)), 5)
    assert not (up.data / "stack.json").exists()


def what_many_crop_gets_a_dot(facts: dict[str, Any]) -> None:
    """A pin, then the same crop of it by five people: the box becomes an object, and the object has its dot."""
    corner = EventBox(x0=0.0, y0=0.0, x1=0.125, y1=0.25)
    with Publisher(KafkaConnection(facts["kafka"])) as publisher:
        picture = photographs()[0].read_bytes()
        publisher.pin(PinEvent(pin_id="cropped", kind=PinEvent.KIND_CREATED, image={"inline": picture}, version=1))
        for person in "abcde":
            event = EngagementEvent(pin_id="cropped", kind=EngagementEvent.KIND_CROP, user_id=person, box=corner)
            publisher.engagement(event)

    def shown() -> bool:
        try:
            with urlopen(facts["api"] + "/pins/cropped/dots", timeout=10) as answer:  # noqa: S310  our own server
                found = json.load(answer)
        except HTTPError:
            return False
        return found["decision"] > 65_536 and any(dot["x"] == 0.0625 and dot["shown"] for dot in found["dots"])

    until(shown, 60)


@pytest.mark.timeout(600)
def test_the_demonstration_ends_by_itself(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DOTSTREAM_")}
    command = [
        sys.executable,
        "-m",
        "ops.cli",
        "demo",
        "--once",
        "--pins",
        "12",
        "--data",
        str(tmp_path / "d"),
        "--port",
        "0",
    ]
    run = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False, timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "12 pins published, 12 with their dot record, 0 dead" in run.stdout
    assert "event to dots:          p50 " in run.stdout
    assert "the page is at http://127.0.0.1:" in run.stderr
