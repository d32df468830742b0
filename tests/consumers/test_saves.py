"""The saves worker over a log in memory and real states, held to a dictionary of who is on which board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers.metrics import WorkerMetrics
from consumers.ports import LogBroken, Output, Partition
from consumers.saves import Opener, SavesJob, SavesSettings, read_save
from consumers.state_worker import StateWorker, StateWorkerSettings
from consumers.window import Backoff
from dotstream.clock import ManualClock
from indexer.cooccurrence import BOARDS, PINS, CoOccurrence, Rules, Together
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
from indexer.keyed_state import KeyedState
from indexer.past_saves import PastSaves
from indexer.records_pb2 import PairRecord
from indexer.timed_sets import members_of
from producers.events_pb2 import SaveEvent
from tests.support.memory_log import MemoryCluster, MemoryLog
from tests.support.save_oracle import Save, SaveOracle

TOPICS = ("saves", "pairs")
ROOMY = SavesSettings(pair_partitions=1)
BOUNDS = SavesSettings(pair_partitions=1, board_pins=4, pin_boards=2)
TWO_PARTITIONS = SavesSettings(pair_partitions=2)


class Crash(BaseException):
    """The process ends here, without closing anything."""


class Place:
    """A saves worker on a cluster, its states in a folder."""

    def __init__(self, cluster: MemoryCluster, folder: Path, bounds: SavesSettings = ROOMY) -> None:
        self.cluster = cluster
        self.folder = folder
        self.clock = ManualClock()
        self.opened: list[KeyedState] = []
        self.applied: dict[Partition, int] = {}
        metrics = WorkerMetrics("saves", CollectorRegistry())
        self.job = SavesJob(self.opener(BOARDS), self.opener(PINS), bounds, self.clock, metrics)
        self.worker = StateWorker(
            MemoryLog(cluster, TOPICS, "saves"),
            self.job,
            self.clock,
            metrics,
            settings=StateWorkerSettings(batch_max=4, backoff=Backoff(0.1, 0.2), upkeep_every_s=0.0),
        )

    def opener(self, store: Store) -> Opener:
        def open_state(source: Partition, end: int) -> KeyedState:
            home = self.folder / store.name / str(source[1])
            state = KeyedState.open(home, store, partition=source[1], topic_id="t", clock=self.clock, lock_limit_s=0)
            self.opened.append(state)
            return state

        return open_state

    def run(self, most: int = 400) -> None:
        """Steps until nothing is left to read; or crashes."""
        quiet, size, steps = 0, -1, 0

        def stop() -> bool:
            nonlocal quiet, size, steps
            steps += 1
            assert steps < most, "the worker does not come to rest"
            now = sum(len(entries) for entries in self.cluster.logs.values())
            quiet = quiet + 1 if now == size and self.worker.ready else 0
            size = now
            return quiet > 12

        try:
            self.worker.run(stop)
        except Crash:
            for state in self.opened:
                state.abandon()

    def digests(self) -> dict[str, list[str]]:
        found = {}
        for store in (BOARDS, PINS):
            states = [self.opener(store)(("any", number), 0) for number in range(self.cluster.partitions)]
            found[store.name] = [state.digest(store.families) for state in states]
            for state in states:
                state.close()
        return found

    def reader(self, rules: Rules | None = None, past: PastSaves | None = None) -> CoOccurrence:
        partitions = self.cluster.partitions
        boards, pins = (KeyedReader(self.folder / store.name, store, partitions) for store in (BOARDS, PINS))
        reader = CoOccurrence(boards, pins, rules, past)
        reader.refresh()
        return reader

    def past(self) -> PastSaves:
        """By all saves of the log."""
        past = PastSaves()
        for message in self.cluster.all("saves"):
            past.add(*read_save(message.key, message.value, message.timestamp_ms))
        return past

    def together(self, pin_id: str, now_ms: int, rules: Rules | None = None) -> list[Together]:
        reader = self.reader(rules)
        found = reader.candidates(pin_id, now_ms, 10)
        reader.close()
        return found


def cluster_of(saves: Sequence[Save], partitions: int = 1) -> MemoryCluster:
    cluster = MemoryCluster(partitions=partitions)
    for save in saves:
        kind = SaveEvent.KIND_SAVED if save.saved else SaveEvent.KIND_UNSAVED
        event = SaveEvent(pin_id=save.pin, board_id=save.board, kind=kind, event_time=save.time)
        cluster.append(Output("saves", save.board.encode(), event.SerializeToString()))
    return cluster


def test_pins_of_one_board_are_candidates_of_each_other(tmp_path: Path) -> None:
    saves = [Save("b1", "p", 1), Save("b1", "q", 2), Save("b2", "p", 3), Save("b2", "q", 4), Save("b2", "r", 5)]
    place = Place(cluster_of(saves, 2), tmp_path, TWO_PARTITIONS)
    place.run()
    reader = place.reader()
    found = reader.candidates("p", 1_000, 10)
    assert [(one.pin_id, one.weight, one.shared) for one in found] == [("q", 2.0, 2), ("r", 1.0, 1)]
    assert found[0].overlap == 1.0
    assert found[1].overlap == pytest.approx(1 / math.sqrt(2))
    assert reader.boards_of("p") == ["b2", "b1"]
    assert reader.candidates("unknown", 1_000, 10) == []
    assert [one.pin_id for one in reader.candidates("p", 1_000, 1)] == ["q"]
    reader.close()


def test_the_later_event_wins_and_at_a_tie_unsaved(tmp_path: Path) -> None:
    saves = [
        Save("b", "p", 5),
        Save("b", "q", 5),
        Save("b", "q", 5, saved=False),
        Save("b", "r", 9, saved=False),
        Save("b", "r", 8),
        Save("b", "s", 3, saved=False),
        Save("b", "s", 4),
    ]
    place = Place(cluster_of(saves), tmp_path)
    place.run()
    assert [one.pin_id for one in place.together("p", 10)] == ["s"]


def test_weights_fade_by_half_life_and_end_with_the_window(tmp_path: Path) -> None:
    place = Place(cluster_of([Save("b", "p", 100), Save("b", "old", 50), Save("b", "new", 300)]), tmp_path)
    place.run()
    faded = place.together("p", 400, Rules(half_life_ms=100))
    assert [(one.pin_id, one.weight) for one in faded] == [("new", 0.5), ("old", 0.125)]
    within = place.together("p", 400, Rules(window_ms=150))
    assert [one.pin_id for one in within] == ["new"]


def test_the_past_knows_no_later_saves(tmp_path: Path) -> None:
    saves = [Save("b1", "p", 1), Save("b1", "q", 2), Save("b2", "p", 5), Save("b2", "q", 6), Save("b3", "q", 7)]
    place = Place(cluster_of(saves), tmp_path)
    place.run()
    reader = place.reader(Rules(half_life_ms=2))
    now = reader.between("p", ["q", "r"], 7)
    assert (now["q"].weight, now["q"].shared) == (2 ** -(5 / 2) + 2 ** -(1 / 2), 2)
    assert now["q"].overlap == pytest.approx(2 / math.sqrt(2 * 3))
    then = reader.between("p", ["q", "r"], 5)
    assert (then["q"].weight, then["q"].shared, then["q"].overlap) == (2 ** -(3 / 2), 1, 1 / math.sqrt(2 * 1))
    assert reader.between("p", ["q"], 1) == {}
    reader.close()


def test_what_changed_since_was_as_it_was(tmp_path: Path) -> None:
    """A pin saved again, one taken off and one pushed out after the moment were on the board at the moment."""
    events = [Save("b", "p", 40), Save("b", "again", 41), Save("b", "gone", 42), Save("b", "pushed", 43)]
    events += [Save("b", "again", 80), Save("b", "gone", 81, saved=False), Save("b", "p", 82)]
    events += [Save("b", f"new-{n}", 90 + n) for n in range(2)]
    place = Place(cluster_of(events), tmp_path, BOUNDS)
    place.run()
    assert _boards(place, "b") == {"b": ["again", "p", "new-0", "new-1"]}
    reader = place.reader(Rules(half_life_ms=10), place.past())
    found = reader.between("p", ["again", "gone", "pushed", "new-0"], 60)
    assert {name: (one.weight, one.shared, one.overlap) for name, one in found.items()} == {
        "again": (2**-1.9, 1, 1.0),
        "gone": (2**-1.8, 1, 1.0),
        "pushed": (2**-1.7, 1, 1.0),
    }
    assert reader.between("p", ["again"], 39) == {}
    reader.close()


def test_what_is_no_save_goes_to_the_dead_letters(tmp_path: Path) -> None:
    cluster = cluster_of([Save("b", "p", 1), Save("b", "q", 2)])
    cluster.append(Output("saves", b"b", b"\xff\xff"))
    cluster.append(Output("saves", b"b", None))
    far = SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED, event_time=2**62)
    cluster.append(Output("saves", b"b", far.SerializeToString()))
    cluster.append(Output("pairs", b"p", b"\xff"))
    cluster.append(Output("pairs", b"p", b""))
    place = Place(cluster, tmp_path)
    place.run()
    reasons = [dict(letter.headers)["dotstream-dead-reason"] for letter in cluster.all("saves.dead")]
    assert reasons == [b"undecodable", b"null_value", b"bad_field"]
    assert [dict(m.headers)["dotstream-dead-reason"] for m in cluster.all("pairs.dead")] == [
        b"undecodable",
        b"bad_field",
    ]
    assert [one.pin_id for one in place.together("p", 10)] == ["q"]


AHEAD = 9_999_999_999_999


def test_a_clock_that_is_ahead_outlives_nothing_and_ages_no_other(tmp_path: Path) -> None:
    """Its saves count from when they were logged, so that they can be taken back and later ones come in."""
    many = [Save("b", f"ahead-{n}", AHEAD) for n in range(BOUNDS.board_pins + 2)]
    cluster = cluster_of([Save("c", "x", AHEAD), *many])
    logged = cluster.now_ms
    cluster.now_ms += 10_000
    later = [Save("c", "x", logged + 5_000, saved=False), Save("c", "y", logged + 5_000)]
    later += [Save("b", f"real-{n}", logged + 6_000 + n) for n in range(BOUNDS.board_pins)]
    for message in cluster_of(later).all("saves"):
        cluster.append(Output("saves", message.key, message.value))
    place = Place(cluster, tmp_path / "met", BOUNDS)
    place.run()
    assert _boards(place, "bc") == {"b": [f"real-{n}" for n in range(BOUNDS.board_pins)], "c": ["y"]}
    assert max(one.event_time for one in _pairs(cluster)) < cluster.now_ms
    again = Place(cluster, tmp_path / "rebuilt", BOUNDS)
    again.run()
    assert again.digests() == place.digests()


def _pairs(cluster: MemoryCluster) -> list[PairRecord]:
    return [PairRecord.FromString(message.value or b"") for message in cluster.all("pairs")]


saves = st.lists(
    st.builds(
        Save, st.sampled_from(["b1", "b2", "b3"]), st.sampled_from("pqrstu"), st.integers(1, 20), saved=st.booleans()
    ),
    max_size=25,
)
faults = st.dictionaries(
    st.integers(0, 60),
    st.tuples(st.sampled_from(["open", "poll", "before commit", "after commit"]), st.booleans()),
    max_size=3,
)
SLOW = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(logged=saves, broken=faults, bounds=st.sampled_from([ROOMY, BOUNDS]))
def test_failures_crashes_and_duplicates_change_nothing_in_the_end(
    tmp_path_factory: pytest.TempPathFactory,
    logged: list[Save],
    broken: dict[int, tuple[str, bool]],
    bounds: SavesSettings,
) -> None:
    """Boards are as the oracle says, pins as their boards, and the same log gives the same digests."""
    folder = tmp_path_factory.mktemp("saves")
    cluster = cluster_of(logged)
    calls = 0

    def fault(step: str) -> None:
        nonlocal calls
        calls += 1
        kind, crash = broken.get(calls, ("", False))
        if kind == step:
            raise Crash if crash else LogBroken(f"{step} broke")

    cluster.fault = fault
    for _ in range(len(broken) + 1):
        Place(cluster, folder / "met", bounds).run()
    cluster.fault = lambda step: None
    met = Place(cluster, folder / "met", bounds)
    met.run()
    oracle = SaveOracle(board_pins=bounds.board_pins).apply(logged)
    assert oracle.boards() == _boards(met)
    if bounds is ROOMY:
        assert oracle.pins() == _pins(met, {save.pin for save in logged})
    twice = cluster_of([*logged, *logged])
    doubled = Place(twice, folder / "doubled", bounds)
    doubled.run()
    assert doubled.digests()["boards"] == met.digests()["boards"]
    rebuilt = Place(cluster, folder / "rebuilt", bounds)
    rebuilt.run()
    assert rebuilt.digests() == met.digests()


def _boards(place: Place, boards: Sequence[str] = ("b1", "b2", "b3")) -> dict[str, list[str]]:
    reader = KeyedReader(place.folder / "boards", BOARDS, place.cluster.partitions)
    reader.refresh()
    rows = {board: reader.get("boards", board.encode()) for board in boards}
    reader.close()
    found = {board: [name.decode() for name in members_of(row)[0]] for board, row in rows.items()}
    return {board: pins for board, pins in found.items() if pins}


def _pins(place: Place, pins: set[str]) -> dict[str, set[str]]:
    reader = place.reader()
    found = {pin: set(reader.boards_of(pin)) for pin in pins}
    reader.close()
    return {pin: boards for pin, boards in found.items() if boards}


@SLOW
@given(logged=saves)
def test_candidates_are_those_of_the_definition(tmp_path_factory: pytest.TempPathFactory, logged: list[Save]) -> None:
    place = Place(cluster_of(logged), tmp_path_factory.mktemp("saves"))
    place.run()
    reader = place.reader(Rules(half_life_ms=7))
    oracle = SaveOracle().apply(logged)
    for pin in "pqrstu":
        found = {one.pin_id: (one.weight, one.shared, one.overlap) for one in reader.candidates(pin, 20, 10)}
        expected = oracle.together(pin, now=20, half_life=7)
        assert found.keys() == expected.keys()
        for other, values in expected.items():
            assert found[other] == pytest.approx(values)
    reader.close()


@settings(SLOW, max_examples=25)
@given(logged=saves, until=st.integers(1, 20))
def test_the_past_is_what_the_saves_up_to_it_made(
    tmp_path_factory: pytest.TempPathFactory, logged: list[Save], until: int
) -> None:
    place = Place(cluster_of(logged), tmp_path_factory.mktemp("saves"))
    place.run()
    reader = place.reader(Rules(half_life_ms=7), place.past())
    oracle = SaveOracle().apply(save for save in logged if save.time <= until)
    for pin in "pqrstu":
        found = reader.between(pin, "pqrstu", until)
        expected = oracle.together(pin, now=until, half_life=7)
        assert found.keys() == expected.keys()
        for other, values in expected.items():
            assert (found[other].weight, found[other].shared, found[other].overlap) == pytest.approx(values)
    reader.close()
