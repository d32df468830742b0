"""A crash at every durable step: the shard is as before or as after, and the log makes it whole again.

The process is stopped by an exception from the steps port and the folder let go without a sync, which leaves on disk
what kill -9 leaves: everything written so far, and no more.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from indexer.arbitration import Logged
from indexer.errors import NeedsRebuild
from indexer.shard import Shard
from tests.support.index_oracle import Oracle, hold_against, open_shard, random_log


class Crashed(Exception):
    """The process ended here."""


@dataclass
class Steps:
    """Counts steps; raises at the one that is to be the last."""

    last: int | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.last:
            raise Crashed(name)


def play(home: Path, log: list[Logged], steps: Steps) -> None:
    """The life of a shard: made, fed over several segments, synced, closed, opened again, fed on, closed."""
    shard = open_shard(home, at=steps)
    try:
        for at in range(0, len(log), 7):
            shard.apply(log[at : at + 7])
            if at % 3 == 0:
                shard.sync()
            if at == 14:
                shard.close()
                shard = open_shard(home, at=steps)
        shard.close()
    finally:
        shard.abandon()


def finish(home: Path, log: list[Logged]) -> Shard:
    """Opens what is there and replays the log from where it stands."""
    shard = open_shard(home)
    assert shard.verify() == []
    applied = [logged for logged in log if logged.offset <= shard.applied_offset]
    assert shard.digest() == Oracle().apply(applied).digest()
    shard.apply(log[shard.applied_offset + 1 :])
    return shard


def test_a_crash_at_every_step(tmp_path: Path) -> None:
    log = random_log(Random(5), 60, pins=9)
    oracle = Oracle().apply(log)
    counting = Steps()
    play(tmp_path / "whole", log, counting)
    covered = {"made state", "sealed", "segment made", "codes written", "batch written", "deaths stored", "log synced"}
    assert covered <= set(counting.seen)
    for last in range(1, len(counting.seen) + 1):
        home = tmp_path / "crashed"
        with pytest.raises(Crashed):
            play(home, log, Steps(last))
        shard = finish(home, log)
        hold_against(shard, oracle)
        shard.close()
        shutil.rmtree(home)


def test_a_crash_at_every_step_of_a_recovery(tmp_path: Path) -> None:
    log = random_log(Random(6), 40, pins=5)
    oracle = Oracle().apply(log)
    home = tmp_path / "0"
    shard = open_shard(home)
    shard.apply(log[:30])
    shard.abandon()
    for last in range(1, 100):
        again = tmp_path / "again"
        shutil.copytree(home, again)
        steps = Steps(last)
        with suppress(Crashed):
            open_shard(again, at=steps).abandon()
        done = len(steps.seen) < last
        shard = finish(again, log)
        hold_against(shard, oracle)
        shard.close()
        shutil.rmtree(again)
        if done:
            assert last > 4
            return
    pytest.fail("the recovery never came to its end")


def _crash_in(home: Path, work: Callable[[Shard], None], name: str) -> None:
    def at(step: str) -> None:
        if step == name:
            raise Crashed(step)

    shard = open_shard(home, rebuild=True, topic_id="topic-2", at=at)
    try:
        with pytest.raises(Crashed):
            work(shard)
    finally:
        shard.abandon()


@pytest.mark.parametrize("name", ["promoting", "promoted"])
def test_a_crash_while_a_rebuild_is_put_in_place(tmp_path: Path, name: str) -> None:
    log = random_log(Random(7), 20)
    shard = open_shard(tmp_path)
    shard.apply(log)
    shard.close()
    with pytest.raises(NeedsRebuild):
        open_shard(tmp_path, topic_id="topic-2")

    def rebuild(shard: Shard) -> None:
        shard.apply(log[:5])
        shard.promote()

    _crash_in(tmp_path, rebuild, name)
    try:
        shard = open_shard(tmp_path, topic_id="topic-2")
    except NeedsRebuild:
        shard = open_shard(tmp_path, topic_id="topic-2", rebuild=True)
        assert shard.building
        shard.promote()
    assert not shard.building
    assert shard.applied_offset == 4
    hold_against(shard, Oracle().apply(log[:5]))
    shard.close()
    assert len(list(tmp_path.glob("v-*"))) <= 2
    open_shard(tmp_path, topic_id="topic-2").close()
    assert len(list(tmp_path.glob("v-*"))) == 1  # what was replaced is cleared away
