"""Workers come and go in mid-batch, and stopped ones come back after their place was taken: nothing lost or twice."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import rounds
from tests.faults.ledger import Ledger
from tests.faults.oracle import VISION, check_index, check_log, publish, settle
from tests.faults.stack import RunningStack, extra_worker, running_stack
from tests.faults.state import lag_of, members_of

EVENTS = 40
REVOKE_LIMIT_S = 1.0
LEFT_LIMIT_S = 30.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@dataclass
class Running:
    """The stack of this module and the ledger of everything that was published to it."""

    stack: RunningStack
    ledger: Ledger
    folder: Path


@pytest.fixture(scope="module")
def running(seed: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("rebalance")
    with running_stack(folder, DOTSTREAM_KAFKA__SESSION_TIMEOUT_S="6") as stack:
        yield Running(stack, Ledger(seed, fresh=True), folder)


def test_vision_workers_come_and_go(running: Running, seed: int) -> None:
    """1 -> 3 -> 1, at random moments while events flow; the last one of a round goes without a word."""
    stack, chance = running.stack, random.Random(seed)
    before = stack.workers()
    for number in range(rounds(3)):
        publish(stack, running.ledger, EVENTS)
        slots = (2 * number + 1, 2 * number + 2)  # new ones: a slot that is known comes back without a rebalance
        with contextlib.ExitStack() as owned:
            others = [owned.enter_context(extra_worker(stack, "vision", slot)) for slot in slots]
            for other in others:
                other.wait_assigned()
            publish(stack, running.ledger, EVENTS)
            time.sleep(chance.uniform(0.0, 1.0))  # a random moment is the point
            assert others[0].end(signal.SIGTERM) == 0, others[0].said()
            others[1].process.kill()
        stack.until("one is left", lambda: len(members_of(stack.connection, VISION)) == 1, LEFT_LIMIT_S)
    settle(stack, running.ledger)
    assert stack.workers() == before
    check_revokes(stack)


def check_revokes(stack: RunningStack) -> None:
    count = stack.metric("vision", "dotstream_stage_seconds_count", stage="revoke")
    in_time = stack.metric("vision", "dotstream_stage_seconds_bucket", stage="revoke", le=str(REVOKE_LIMIT_S))
    print(f"{count:.0f} revokes of slot 0, {in_time:.0f} within {REVOKE_LIMIT_S:g} s")
    assert count > 0
    assert in_time == count


def test_a_zombie_is_fenced(running: Running, seed: int) -> None:
    """A worker stops in mid-work and a successor takes its slot; when it goes on, its work does not count: it ends."""
    stack, chance = running.stack, random.Random(seed + 1)
    for _ in range(rounds(2)):
        with contextlib.ExitStack() as owned:
            zombie = owned.enter_context(extra_worker(stack, "vision", 101))
            zombie.wait_assigned()
            publish(stack, running.ledger, EVENTS)
            time.sleep(chance.uniform(0.0, 1.0))  # a random moment is the point
            zombie.process.send_signal(signal.SIGSTOP)
            successor = owned.enter_context(extra_worker(stack, "vision", 101))
            successor.wait_assigned()
            publish(stack, running.ledger, EVENTS)
            assert zombie.end(signal.SIGCONT, 30.0) == 1, zombie.said()
            assert "fenced" in zombie.said().splitlines()[-1].lower(), zombie.said()
            assert successor.process.poll() is None, successor.said()
            assert successor.end(signal.SIGTERM) == 0
    settle(stack, running.ledger)


def test_a_worker_that_slept_past_its_session(running: Running, seed: int) -> None:
    """Nobody took its slot, but the group went on without it; it comes back as a member that has nothing in hand."""
    stack, chance = running.stack, random.Random(seed + 2)
    with contextlib.ExitStack() as owned:
        sleeper = owned.enter_context(extra_worker(stack, "vision", 101))
        sleeper.wait_assigned()
        publish(stack, running.ledger, EVENTS)
        time.sleep(chance.uniform(0.0, 1.0))  # a random moment is the point
        sleeper.process.send_signal(signal.SIGSTOP)
        publish(stack, running.ledger, EVENTS)
        stack.until("the others do its work", lambda: lag_of(stack.connection, VISION, "pins") == 0, 90)
        sleeper.process.send_signal(signal.SIGCONT)
        publish(stack, running.ledger, EVENTS)
        settle(stack, running.ledger)
        status = sleeper.process.poll()
        assert status in (None, 1), f"it works on, or ends with an error: {status} {sleeper.said()}"


def test_the_whole_state_is_that_of_the_ledger(running: Running) -> None:
    """After all of the above; ends the stack."""
    world = settle(running.stack, running.ledger)
    running.stack.stop()
    check_log(world, running.ledger)
    check_index(running.stack.data, world, running.folder / "rebuilt")
