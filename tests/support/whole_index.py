"""An index of several partitions with its writers, readers and an oracle, for tests of readers."""

from __future__ import annotations

from pathlib import Path

from dotstream.clock import Clock, ManualClock
from indexer.answers import Find
from indexer.arbitration import Logged
from indexer.partition import partition_of
from indexer.reader import IndexReader
from indexer.records_pb2 import ObjectRecord
from indexer.search import nearest
from indexer.shard import Shard
from tests.support.index_oracle import GENERATION, Oracle, open_shard

PARTITIONS = 3
LEASE_S = 10.0


class Index:
    """Writers of all partitions, made when they are first written to, and a reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / GENERATION
        self.clock = ManualClock()
        self.shards: dict[int, Shard] = {}
        self.oracle = Oracle()
        self.readers: list[IndexReader] = []
        self.offsets = dict.fromkeys(range(PARTITIONS), -1)

    def reader(self, name: str = "reader", clock: Clock | None = None, find: Find = nearest) -> IndexReader:
        made = IndexReader(self.folder, PARTITIONS, clock=clock or self.clock, lease_s=LEASE_S, name=name, find=find)
        self.readers.append(made)
        return made

    def shard(self, partition: int, **more: object) -> Shard:
        if partition not in self.shards:
            home = self.folder / str(partition)
            self.shards[partition] = open_shard(home, clock=self.clock, partition=partition, **more)
        return self.shards[partition]

    def put(self, record: ObjectRecord) -> int:
        """Applies a record in its partition; returns its offset."""
        key = record.pin_id.encode()
        partition = partition_of(key, PARTITIONS)
        self.offsets[partition] += 1
        logged = Logged(self.offsets[partition], key, record, 0)
        self.shard(partition).apply([logged])
        self.oracle.apply([logged])
        return logged.offset

    def sync(self) -> None:
        for shard in self.shards.values():
            shard.sync()

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        for shard in self.shards.values():
            shard.close()
