"""A small state worker for tests of the base: the last value of each key, and a copy of every record for a topic.

Values are text, `"poison"` is poison. The state's oracle is a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from consumers.ports import Message, Output, Partition
from consumers.state_worker import Owed, Plan
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.at_once import AT_ONCE
from indexer.keyed_layout import Store
from indexer.keyed_state import KeyedState
from indexer.steps import Steps, no_steps

TOPIC = "words"
COPIES = "copies"
STORE = Store("words", 1, ("last",))


def open_state(
    home: Path,
    clock: Clock,
    *,
    topic_id: str = "t",
    partition: int = 0,
    rebuild: bool = False,
    syncs: Executor = AT_ONCE,
    at: Steps = no_steps,
) -> KeyedState:
    return KeyedState.open(
        home,
        STORE,
        partition=partition,
        topic_id=topic_id,
        clock=clock,
        lock_limit_s=0,
        rebuild=rebuild,
        syncs=syncs,
        at=at,
    )


def rows(state: KeyedState) -> dict[bytes, bytes]:
    with state.database.scan("last") as found:
        return dict(found)


@dataclass
class LastWords:
    """See `consumers.state_worker.Job`."""

    open_state: Callable[[Partition, int], KeyedState]
    reported: dict[Partition, int] = field(default_factory=dict)

    def open(self, source: Partition, end: int) -> KeyedState:
        return self.open_state(source, end)

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:
        good = [message for message in messages if message.value != b"poison"]
        poison = [(message, Poison("bad_word", "poison")) for message in messages if message.value == b"poison"]
        batch = state.database.batch()
        for message in good:
            batch.put("last", message.key or b"", message.value or b"")
        copies = [Output(COPIES, message.key, message.value) for message in good]
        return Plan(lambda: state.commit(batch, messages[-1].offset), copies, poison)

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:
        return Owed()

    def report(self, source: Partition, state: KeyedState) -> None:
        self.reported[source] = state.applied_offset
