"""SIGTERM, Ctrl-C and the death of the supervisor: everything ends in time, and no process is left behind."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.faults.oracle import check_index, check_log, publish, settle
from tests.faults.processes import alive, family, mentioning, still_there
from tests.faults.stack import WORKERS, RunningStack, running_stack
from tests.faults.waiting import until

EXIT_LIMIT_S = 10.0
UP_LIMIT_S = 40.0
ORPHAN_LIMIT_S = 15.0
EVENTS = 60

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    with running_stack(tmp_path) as stack:
        yield stack


def end_in_time(stack: RunningStack, part: str) -> float:
    """SIGTERM to a worker. Returns the seconds until it was gone."""
    pid = stack.running(part)
    os.kill(pid, signal.SIGTERM)
    return stack.until(f"{part} is gone", lambda: not alive(pid), EXIT_LIMIT_S, every_s=0.02)


def test_sigterm_under_load(stack: RunningStack, seed: int) -> None:
    """Each worker in turn, then vision while Triton hangs; what they had in hand is done by their successors."""
    ledger = Ledger(seed, fresh=True)
    for part in WORKERS:
        publish(stack, ledger, EVENTS)
        took = end_in_time(stack, part)
        print(f"{part} ended {took:.2f} s after SIGTERM")
        stack.wait_ready()
    publish(stack, ledger, EVENTS)
    stack.signal("triton", signal.SIGSTOP)
    publish(stack, ledger, EVENTS)
    took = end_in_time(stack, "vision")
    print(f"vision ended {took:.2f} s after SIGTERM while Triton hung")
    stack.signal("triton", signal.SIGCONT)
    world = settle(stack, ledger)
    errors = [line for part in WORKERS for line in stack.log(part).splitlines() if "Traceback" in line]
    assert not errors, stack.output()
    stack.stop()
    check_log(world, ledger)
    check_index(stack.data, world, stack.data.parent / "rebuilt")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, seed: int, how: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and SIGKILL of `dotstream up` under load; everything that it started carries a mark."""
    mark = f"mark-{uuid.uuid4().hex}"
    with running_stack(tmp_path, FAULT_TEST_MARK=mark) as stack:
        publish(stack, Ledger(seed, fresh=True), EVENTS)
        started = family(stack.process.pid)
        assert len(started) >= 12, "supervisor, guard, broker, Triton with its stubs, four workers, API"
        regions = shared_memory(stack)
        assert regions, "Triton's shared memory"
        begun = time.monotonic()
        stack.process.send_signal(how)
        status = stack.process.wait(UP_LIMIT_S)
        assert status == {signal.SIGINT: 0, signal.SIGTERM: 0, signal.SIGKILL: -signal.SIGKILL}[how], stack.output()
        until("every process is gone", lambda: not still_there(started), ORPHAN_LIMIT_S)
        until("nothing that was started meanwhile is left", lambda: not mentioning(mark), ORPHAN_LIMIT_S)
        print(f"{how.name}: all {len(started)} processes were gone after {time.monotonic() - begun:.1f} s")
        assert not mentioning(str(tmp_path / "data"))
    if how != signal.SIGKILL:
        assert not regions & {path.name for path in Path("/dev/shm").iterdir()}, "shared memory is left"


def shared_memory(stack: RunningStack) -> set[str]:
    """Regions of this stack's Triton, and those through which vision hands it pictures."""
    notes = json.loads((stack.data / "triton" / "triton.json").read_text())
    whose = (notes["prefix"], f"dotstream-pictures-{stack.pid('vision')}-")
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(whose)}
