"""A dead-letter topic that refuses: the offset does not move, the worker pauses and says so, and goes on afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from producers.kafka import KafkaConnection
from tests.faults.ledger import POISON, Ledger, created
from tests.faults.oracle import VISION, check_index, check_log, publish, publish_these, settle
from tests.faults.processes import CpuMeter
from tests.faults.stack import running_stack
from tests.faults.state import lag_of
from tests.faults.waiting import watched

REFUSED_S = 15.0
RESUME_LIMIT_S = 15.0
SPIN = 0.2  # of one core
SIZE = "max.message.bytes"

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_a_refused_dead_letter_holds_its_partition(tmp_path: Path, seed: int) -> None:
    ledger = Ledger(seed)
    with running_stack(tmp_path) as stack:
        publish(stack, ledger, 40)
        settle(stack, ledger)
        workers, limit = stack.workers(), set_limit(stack.connection, "pins.dead", "100")
        publish_these(stack, ledger, [created("poison", 1, POISON, 1)])
        publish(stack, ledger, 40)
        stack.until("vision says that it waits", lambda: stack.metric("vision", "dotstream_paused"), 30)
        stack.until("its log says why", lambda: "MSG_SIZE_TOO_LARGE" in stack.log("vision"), 30)
        behind = lag_of(stack.connection, VISION, "pins")
        assert behind > 0
        meter = CpuMeter({"vision": workers["vision"]})
        looks = watched(lambda: stack.metric("vision", "dotstream_paused"), REFUSED_S, every_s=0.25)
        assert lag_of(stack.connection, VISION, "pins") == behind, "an offset moved"
        assert all(looks[len(looks) // 3 :]), f"paused in {sum(looks)} of {len(looks)} looks"
        assert meter.shares()["vision"] < SPIN, f"busy while nothing can be done: {meter.shares()}"
        set_limit(stack.connection, "pins.dead", limit)
        took = stack.until("it goes on", lambda: lag_of(stack.connection, VISION, "pins") == 0, RESUME_LIMIT_S)
        print(f"went on {took:.1f} s after the topic took letters again")
        world = settle(stack, ledger)
        assert stack.workers() == workers, "a worker ended"
        stack.until("nothing waits", lambda: not stack.metric("vision", "dotstream_paused"), RESUME_LIMIT_S)
    check_log(world, ledger)
    check_index(tmp_path / "data", world, tmp_path / "rebuilt")


def set_limit(connection: KafkaConnection, topic: str, size: str) -> str:
    """Sets the largest record that a topic takes. Returns what it was."""
    admin = AdminClient(connection.config())
    resource = ConfigResource(ResourceType.TOPIC, topic)
    before = admin.describe_configs([resource], request_timeout=30)[resource].result(30)[SIZE].value
    change = ConfigEntry(SIZE, size, incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([wanted], request_timeout=30)[wanted].result(30)
    return str(before)
