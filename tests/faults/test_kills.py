"""kill -9 of every worker, of Triton and of the broker in the middle of a run: nothing lost, nothing applied twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import rounds
from tests.faults.ledger import Ledger
from tests.faults.oracle import check_index, check_log, publish, settle
from tests.faults.stack import running_stack

VICTIMS = ("vision", "takedowns", "index", "dots", "triton", "kafka")
EVENTS = 25

pytestmark = pytest.mark.faults


@pytest.mark.timeout(2400)
def test_kill_nine_loses_nothing_and_repeats_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger(seed)
    with running_stack(tmp_path) as stack:
        for number in range(rounds(12)):
            publish(stack, ledger, EVENTS)
            time.sleep(chance.uniform(0.0, 1.5))  # a random moment is the point
            stack.kill(VICTIMS[number % len(VICTIMS)])
            publish(stack, ledger, EVENTS)
        world = settle(stack, ledger)
        print(f"{len(ledger.events)} events, restarts {stack.restarts()}")
    check_log(world, ledger)
    check_index(tmp_path / "data", world, tmp_path / "rebuilt")
