"""The watch over topic `generations`: cut-overs are seen within a second, and an absent broker changes nothing."""

from __future__ import annotations

from consumers.dots import Standing
from consumers.ports import Output
from dotstream.clock import ManualClock
from indexer.records_pb2 import GenerationRecord
from ops.generation_watch import LOOK_S, GenerationWatch
from tests.support.memory_log import MemoryCluster
from tests.support.memory_topic import MemoryTopic

ACTIVE, STANDBY = GenerationRecord.STATE_ACTIVE, GenerationRecord.STATE_STANDBY


class Stage:
    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.topic = MemoryTopic(self.cluster, "generations")
        self.clock = ManualClock()
        first = self.put("g1", ACTIVE, 1)
        self.watch = GenerationWatch(self.topic, first, self.clock)

    def put(self, name: str, state: GenerationRecord.State, epoch: int) -> GenerationRecord:
        record = GenerationRecord(name=name, state=state, epoch=epoch)
        self.cluster.append(Output("generations", name.encode(), record.SerializeToString()))
        return record

    def later(self) -> Standing:
        """What it says after two looks: the topic in memory gives what is new with the second."""
        for _ in range(2):
            self.clock.sleep(LOOK_S)
            found = self.watch.standing()
        return found


def test_a_cut_over_and_a_roll_back_are_seen() -> None:
    stage = Stage()
    assert stage.watch.standing() == Standing(active=True, epoch=1)
    stage.put("g2", ACTIVE, 2)
    stage.put("g1", STANDBY, 1)
    assert stage.later() == Standing(active=False, epoch=1)
    stage.put("g1", ACTIVE, 3)
    stage.put("g2", STANDBY, 2)
    assert stage.later() == Standing(active=True, epoch=3)


def test_between_the_two_records_of_a_cut_over_the_later_epoch_is_active() -> None:
    stage = Stage()
    stage.put("g2", ACTIVE, 2)
    assert stage.later() == Standing(active=False, epoch=1)


def test_with_the_broker_away_the_standing_is_as_last_known() -> None:
    stage = Stage()
    stage.topic.away = True
    assert stage.later() == Standing(active=True, epoch=1)
    stage.put("g1", ACTIVE, 4)
    stage.topic.away = False
    assert stage.later() == Standing(active=True, epoch=4)
