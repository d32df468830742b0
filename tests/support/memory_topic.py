"""A topic of the cluster in memory, read whole: a second implementation of `producers.whole_topic.WholeTopic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dotstream.errors import Unavailable
from producers.whole_topic import Extent, Logged
from tests.support.memory_log import MemoryCluster


class MemoryTopic:
    """Readers see what was committed, in order, one read late, as over a network. `away` makes every call fail."""

    def __init__(self, cluster: MemoryCluster, name: str, topic_id: str = "topic-a") -> None:
        self._cluster = cluster
        self._name = name
        self.topic_id = topic_id
        self.away = False
        self._at: dict[int, int] = {}
        self._arrived: dict[int, int] = {}

    def open(self) -> Extent:
        self._check()
        ends = {number: self.end(number) for number in range(self._cluster.partitions)}
        return Extent(self.topic_id, dict.fromkeys(ends, 0), ends)

    def start(self, positions: Mapping[int, int]) -> None:
        self._at = dict(positions)

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Logged], Mapping[int, int]]:
        self._check()
        found: list[Logged] = []
        moved: dict[int, int] = {}
        for number, start in self._at.items():
            stop = min(start + limit - len(found), self._arrived.get(number, 0))
            self._arrived[number] = self.end(number)
            for message in self._cluster.logs[self._name, number][start:stop]:
                found.append(Logged(number, message.offset, message.key, message.value, message.timestamp_ms))
                moved[number] = message.offset + 1
        self._at |= moved
        return found, moved

    def end(self, partition: int) -> int:
        self._check()
        return len(self._cluster.logs[self._name, partition])

    def close(self) -> None:
        self._at = {}

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the topic is away")
