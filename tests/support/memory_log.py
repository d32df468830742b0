"""A Kafka in memory for the log port: transactions are atomic, groups keep positions, and any call can be made to fail.

It is a second implementation of `consumers.ports.Log`, held to the same contract suite as the real one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.ports import Listener, LogBroken, Message, Output, Partition
from indexer.partition import partition_of

Fault = Callable[[str], None]


@dataclass
class MemoryCluster:
    """Topics and group positions. `fault(step)` is called before each step and may raise."""

    partitions: int = 1
    logs: dict[Partition, list[Message]] = field(default_factory=lambda: defaultdict(list))
    positions: dict[tuple[str, Partition], int] = field(default_factory=dict)
    fault: Fault = lambda step: None
    now_ms: int = 1_700_000_000_000

    def append(self, output: Output) -> Message:
        number = output.partition
        if number is None:
            number = partition_of(output.key or b"", self.partitions)
        entries = self.logs[output.topic, number]
        message = Message(
            output.topic, number, len(entries), self.now_ms, output.key, output.value, tuple(output.headers)
        )
        entries.append(message)
        return message

    def all(self, topic: str) -> list[Message]:
        """Every record of a topic, by partition, then offset."""
        return [m for (name, _), entries in sorted(self.logs.items()) if name == topic for m in entries]


class MemoryLog:
    """One member of a group; see `consumers.ports.Log`."""

    def __init__(self, cluster: MemoryCluster, topics: Sequence[str], group: str) -> None:
        self._cluster = cluster
        self._sources = [(topic, number) for topic in topics for number in range(cluster.partitions)]
        self._group = group
        self._listener: Listener | None = None
        self._next: dict[Partition, int] = {}
        self._assigned = False
        self._reached: dict[Partition, int] = {}

    def open(self, listener: Listener) -> None:
        self._cluster.fault("open")
        self._listener = listener
        self._assigned = False
        self._next = {s: self._cluster.positions.get((self._group, s), 0) for s in self._sources}

    def poll(self, limit: int, wait_s: float) -> list[Message]:
        self._cluster.fault("poll")
        listener = self._open()
        if not self._assigned:
            self._assigned = True
            self._next.update(listener.assigned(self._sources))
        taken: list[Message] = []
        for source in self._sources:
            entries = self._cluster.logs[source]
            start = self._next[source]
            part = entries[start : start + limit - len(taken)]
            taken += part
            self._next[source] = start + len(part)
            if self._next[source] == len(entries):
                self._reached[source] = len(entries)
        return taken

    def idle(self) -> None:
        self._cluster.fault("idle")

    def commit(
        self, outputs: Sequence[Output], positions: Mapping[Partition, int], limit_s: float | None = None
    ) -> None:
        self._open()
        self._cluster.fault("before commit")
        for output in outputs:
            self._cluster.append(output)
        for source, offset in positions.items():
            self._cluster.positions[self._group, source] = offset
        self._cluster.fault("after commit")

    def end(self, partition: Partition) -> int:
        return len(self._cluster.logs[partition])

    def positions(self) -> Mapping[Partition, int]:
        return dict(self._next) if self._assigned else {}

    def reached(self) -> Mapping[Partition, int]:
        met, self._reached = self._reached, {}
        return met

    def lag(self) -> Mapping[Partition, int]:
        return {source: len(self._cluster.logs[source]) - start for source, start in self._next.items()}

    def revoke(self) -> None:
        """Takes every partition away, as a rebalance does, and gives it back on the next poll."""
        self._open().revoked(self._sources)
        self._assigned = False
        self._next = {s: self._cluster.positions.get((self._group, s), 0) for s in self._sources}

    def close(self) -> None:
        if self._listener is not None and self._assigned:
            self._listener.revoked(self._sources)
        self._listener = None

    def _open(self) -> Listener:
        if self._listener is None:
            raise LogBroken("the log is not open")
        return self._listener
