"""Two index workers and one partition: the second waits and says for whom, and nothing is damaged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.faults.oracle import check_index, check_log, publish, settle
from tests.faults.stack import extra_worker, running_stack

EVENTS = 40
TAKE_OVER_LIMIT_S = 60.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_a_partition_has_one_writer(tmp_path: Path, seed: int) -> None:
    """The first worker is stopped past its session, so Kafka gives its partitions away while it holds their folders."""
    ledger = Ledger(seed, fresh=True)
    with running_stack(tmp_path, DOTSTREAM_KAFKA__SESSION_TIMEOUT_S="6", DOTSTREAM_INDEX__LOCK_LIMIT_S="1") as stack:
        publish(stack, ledger, EVENTS)
        settle(stack, ledger)
        stack.signal("index", signal.SIGSTOP)
        with extra_worker(stack, "index", 1) as second:
            publish(stack, ledger, EVENTS)
            stack.until("the second says that it waits", lambda: second.metric("dotstream_paused"), TAKE_OVER_LIMIT_S)
            stack.until("it says for whom", lambda: "held by another process" in second.said(), TAKE_OVER_LIMIT_S)
            assert second.process.poll() is None, second.said()
            stack.signal("index", signal.SIGCONT)
            publish(stack, ledger, EVENTS)
            settle(stack, ledger)
            stack.until("nobody waits", lambda: not second.metric("dotstream_paused"), TAKE_OVER_LIMIT_S)
            assert second.process.poll() is None, second.said()
            publish(stack, ledger, EVENTS)
            settle(stack, ledger)
            assert second.end(signal.SIGTERM) == 0
        publish(stack, ledger, EVENTS)
        world = settle(stack, ledger)
    check_log(world, ledger)
    check_index(tmp_path / "data", world, tmp_path / "rebuilt")


def test_a_second_stack_is_refused_the_folder(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        second = stack.command("up", "--port", "0")
        assert second.returncode == 1
        assert second.stderr.strip().splitlines()[-1].startswith("dotstream: a local stack runs in "), second.stderr
        assert stack.ready
