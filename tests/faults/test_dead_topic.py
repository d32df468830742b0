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
from tests.faults.state import lag_of, positions_of, read_whole
from tests.faults.waiting import watched

REFUSED_S = 15.0
RESUME_LIMIT_S = 15.0
SPIN = 0.2  # of one core
REASON = "pins.dead: Broker: Message size too large"
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
        stack.until("its log says why", lambda: REASON in stack.log("vision"), 30)
        meter = CpuMeter({"vision": workers["vision"]})
        looks = watched(lambda: stack.metric("vision", "dotstream_paused"), REFUSED_S, every_s=0.25)
        check_held(stack.connection)
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


def check_held(connection: KafkaConnection) -> None:
    """No partition's position has passed a poison event that is not in the dead letters."""
    dead = {message.value() for message in read_whole(connection, "pins.dead").all()}
    positions = positions_of(connection, VISION, "pins")
    held = [
        (message.partition() or 0, message.offset() or 0)
        for message in read_whole(connection, "pins").all()
        if POISON in (message.value() or b"") and message.value() not in dead
    ]
    assert held
    assert all(positions[partition][0] <= offset for partition, offset in held), f"{positions} passed {held}"


def set_limit(connection: KafkaConnection, topic: str, size: str) -> str:
    """Sets the largest record that a topic takes. Returns what it was."""
    admin = AdminClient(connection.config())
    resource = ConfigResource(ResourceType.TOPIC, topic)
    before = admin.describe_configs([resource], request_timeout=30)[resource].result(30)[SIZE].value
    change = ConfigEntry(SIZE, size, incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([wanted], request_timeout=30)[wanted].result(30)
    return str(before)
