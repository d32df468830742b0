"""Broker or Triton away: workers wait without spinning, keep their place in the group, and lose nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from ops.local import kafka, triton
from ops.local.triton import TritonEnvironment
from tests.faults.answers import assert_answers_without_triton
from tests.faults.ledger import Ledger
from tests.faults.oracle import VISION, check_index, check_log, publish, settle
from tests.faults.processes import CpuMeter, alive
from tests.faults.stack import RunningStack, running_stack
from tests.faults.state import lag_of, members_of
from tests.faults.waiting import watched

AWAY_S = 20.0
SPIN = 0.2  # of one core
DRAIN_LIMIT_S = 60.0
EVENTS = 60
START_LIMIT_S = 120.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@dataclass
class Servers:
    """A broker and a Triton that the stack uses but does not supervise, so that they stay away when killed."""

    jars: Path
    environment: TritonEnvironment
    repository: Path
    folder: Path
    broker: kafka.KafkaProcess = field(init=False)
    triton: triton.TritonProcess = field(init=False)

    def start_broker(self) -> None:
        self.broker = kafka.start(self.jars, self.folder / "kafka")
        self.broker.wait_ready(START_LIMIT_S)

    def start_triton(self) -> None:
        self.triton = triton.start(self.environment, self.repository, self.folder / "triton")
        self.triton.wait_ready(START_LIMIT_S)

    def kill(self) -> None:
        self.triton.kill()
        self.broker.kill()


@pytest.fixture(scope="module")
def servers(
    kafka_jars: Path,
    triton_environment: TritonEnvironment,
    exported_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    servers = Servers(kafka_jars, triton_environment, exported_repository, tmp_path_factory.mktemp("servers"))
    servers.start_broker()
    servers.start_triton()
    yield servers
    servers.kill()


@dataclass
class Running:
    """The stack of this module and the ledger of everything that was published to it."""

    stack: RunningStack
    ledger: Ledger
    folder: Path


@pytest.fixture(scope="module")
def running(servers: Servers, seed: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("outages")
    addresses = ("--kafka", servers.broker.bootstrap, "--triton", servers.triton.address)
    settings = {
        "DOTSTREAM_TRITON__REPOSITORY": str(servers.repository),
        "DOTSTREAM_TRITON__DEADLINE_S": "3",
        "DOTSTREAM_KAFKA__SESSION_TIMEOUT_S": "8",
    }
    with running_stack(folder, *addresses, **settings) as stack:
        yield Running(stack, Ledger(seed, fresh=True), folder)


def test_triton_away(running: Running, servers: Servers) -> None:
    stack, before = running.stack, begin(running)
    servers.triton.kill()
    publish(stack, running.ledger, EVENTS)
    stack.until("vision says that it waits", lambda: stack.metric("vision", "dotstream_paused"), 30)
    check_quiet(stack, AWAY_S / 2)
    assert lag_of(stack.connection, VISION, "pins") > 0
    servers.start_triton()
    check_recovered(running, before)


def test_triton_hangs(running: Running, servers: Servers) -> None:
    """Every process of the server stops answering while its connections stay open."""
    stack, before = running.stack, begin(running)
    everyone = [psutil.Process(servers.triton.pid), *psutil.Process(servers.triton.pid).children(recursive=True)]
    for process in everyone:
        process.send_signal(signal.SIGSTOP)
    try:
        publish(stack, running.ledger, EVENTS)
        stack.until("vision says that it waits", lambda: stack.metric("vision", "dotstream_paused"), 60)
        assert_answers_without_triton(stack)
        check_quiet(stack, AWAY_S / 2)
    finally:
        for process in everyone:
            process.send_signal(signal.SIGCONT)
    check_recovered(running, before)


def test_broker_away(running: Running, servers: Servers) -> None:
    """Longer than a session, with events in flight and events that wait to be published."""
    stack = running.stack
    before = stack.workers()
    publish(stack, running.ledger, EVENTS)
    servers.broker.kill()
    shares = check_quiet(stack, AWAY_S)
    print("CPU while the broker was away:", {name: f"{share:.1%}" for name, share in shares.items()})
    servers.start_broker()
    publish(stack, running.ledger, EVENTS)
    took = drain(stack)
    print(f"the lag drained in {took:.1f} s")
    assert stack.workers() == before, "a worker ended"
    settle(stack, running.ledger)


def test_the_whole_state_is_that_of_the_ledger(running: Running) -> None:
    """After all of the above; ends the stack."""
    world = settle(running.stack, running.ledger)
    running.stack.stop()
    check_log(world, running.ledger)
    check_index(running.stack.data, world, running.folder / "rebuilt")


@dataclass(frozen=True)
class Before:
    """Who worked before the outage."""

    pids: dict[str, int]
    members: dict[str, str]
    rebuilds: float


def begin(running: Running) -> Before:
    """Something has been processed, and everyone is well."""
    publish(running.stack, running.ledger, EVENTS // 4)
    settle(running.stack, running.ledger)
    stack = running.stack
    rebuilds = stack.metric("vision", "dotstream_log_rebuilds_total")
    return Before(stack.workers(), members_of(stack.connection, VISION), rebuilds)


def check_quiet(stack: RunningStack, seconds: float) -> dict[str, float]:
    """The workers live through so many seconds, and none of them spins."""
    pids = stack.workers()
    meter = CpuMeter(pids)
    looks = watched(lambda: all(alive(pid) for pid in pids.values()), seconds, every_s=0.5)
    assert all(looks), f"a worker ended\n{stack.output()}"
    shares = meter.shares()
    assert max(shares.values()) < SPIN, f"busy while nothing can be done: {shares}\n{stack.output()}"
    return shares


def check_recovered(running: Running, before: Before) -> None:
    """The same workers, never out of their group, drain the lag, and everything takes effect."""
    stack = running.stack
    took = drain(stack)
    print(f"the lag drained in {took:.1f} s")
    assert stack.workers() == before.pids, "a worker ended"
    assert members_of(stack.connection, VISION) == before.members, "vision was put out of its group"
    assert stack.metric("vision", "dotstream_log_rebuilds_total") == before.rebuilds
    settle(stack, running.ledger)


def drain(stack: RunningStack) -> float:
    return stack.until("the lag is gone", lambda: lag_of(stack.connection, VISION, "pins") == 0, DRAIN_LIMIT_S)


def test_one_stub_killed(tmp_path: Path, seed: int) -> None:
    """A server with one dead model instance goes on saying that it is ready; the canary sees through it."""
    ledger = Ledger(seed, fresh=True)
    with running_stack(tmp_path) as stack:
        publish(stack, ledger, EVENTS)
        settle(stack, ledger)
        workers, server = stack.workers(), stack.running("triton")
        stubs = [p for p in psutil.Process(server).children(recursive=True) if "stub" in p.name()]
        assert len(stubs) >= 2, stubs
        os.kill(stubs[seed % len(stubs)].pid, signal.SIGKILL)
        started = time.monotonic()
        publish(stack, ledger, EVENTS)
        world = settle(stack, ledger)
        print(f"everything took effect {time.monotonic() - started:.1f} s after a stub was killed")
        assert stack.workers() == workers, "a worker ended"
    check_log(world, ledger)
    check_index(tmp_path / "data", world, tmp_path / "rebuilt")
