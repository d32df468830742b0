"""Wrong arguments: one named error each, which says what to pass, before anything is done with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Poison
from indexer.answers import MAX_K, Query
from indexer.arbitration import Logged
from indexer.errors import BadArgument, Closed
from indexer.follower import committed
from indexer.reader import IndexReader
from indexer.shard import Shard
from indexer.snapshot import restore, take
from tests.support.index_oracle import BITS, GENERATION, live, log_of, open_shard

CODE = bytes(BITS // 8)
NO_PATH: Any = "index/g1/0"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index") / GENERATION


@pytest.fixture(scope="module")
def shard(generation: Path) -> Iterator[Shard]:
    made = open_shard(generation / "0")
    made.apply(log_of([(f"pin-{n}", live(f"pin-{n}")) for n in range(8)]))
    yield made
    made.close()


@pytest.fixture(scope="module")
def reader(shard: Shard, generation: Path) -> Iterator[IndexReader]:
    made = IndexReader(generation, 1, clock=ManualClock(), lease_s=60.0, name="reader")
    made.refresh()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 2.5}, r"k is 2.5 \(float\); pass a whole number from 1 to 10000"),
        ({"k": "5"}, r"k is '5' \(str\); pass a whole number"),
        ({"k": True}, "k is True"),
        ({"k": None}, "k is None; pass"),
        ({"k": 0}, "k is 0"),
        ({"k": MAX_K + 1}, "k is 10001"),
        ({"within": 1.5}, "within is 1.5.*whole number from 0 on"),
        ({"within": -1}, "within is -1"),
        ({"scope": "picture"}, 'scope is \'picture\'.*"all", "objects" and "images"'),
        ({"scope": ["all"]}, "scope is"),
        ({"exclude_pins": "pin-1"}, r'exclude_pins is \'pin-1\' \(str\); pass several str, such as \["a", "b"\]'),
        ({"exclude_pins": [1, 2]}, "exclude_pins is"),
        ({"exclude_pins": 7}, "exclude_pins is 7"),
        ({"only_pins": "pin-1"}, "only_pins is 'pin-1'"),
        ({"only_pins": [b"pin-1"]}, "only_pins is"),
        ({"exclude_sha256": "ab" * 32}, "exclude_sha256 is"),
        ({"exclude_sha256": bytes(32)}, "exclude_sha256 is"),
        ({"exclude_sha256": ["ab" * 32]}, r"one of exclude_sha256 is 'abab.*32 bytes, of a hex string bytes.fromhex"),
        ({"exclude_sha256": [bytes(31)]}, "one of exclude_sha256"),
        ({"limit_s": math.nan}, "limit_s is nan.*seconds above 0"),
        ({"limit_s": -1.0}, "limit_s is -1.0"),
        ({"limit_s": 0}, "limit_s is 0"),
        ({"limit_s": "1"}, "limit_s is '1'"),
        ({"label": b"Chair"}, "label is b'Chair'.*a str"),
        ({"category": 3}, "category is 3"),
        ({"board": ["a"]}, "board is"),
        ({"board": "\ud800"}, "board is.*UTF-8"),
        ({"buyable": "yes"}, "buyable is 'yes'.*True or False"),
        ({"code": "00"}, r"code is '00' \(str\); pass bytes"),
        ({"code": np.zeros(8, np.uint8)}, r"code is array.*tobytes\(\)"),
        ({"code": b""}, "code is b''"),
        ({"code": bytes(9)}, "has 72 bits, 9 bytes; the index has 64: pass 8 bytes"),
    ],
)
def test_searches(reader: IndexReader, shard: Shard, wrong: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"code": CODE, "k": 5} | wrong
    with pytest.raises(BadArgument, match=said):
        reader.search(**given)
    with pytest.raises(BadArgument, match=said):
        shard.search(Query(**given))


def test_what_numpy_and_plain_lists_bring_is_taken(reader: IndexReader) -> None:
    plain = reader.search(CODE, 5, exclude_pins=frozenset(["pin-1"]), within=40, limit_s=9.0, buyable=True)
    numbers: Any = {"k": np.int64(5), "within": np.int32(40), "limit_s": np.float32(9), "buyable": np.True_}
    given = Query(CODE, exclude_pins=["pin-1"], **numbers)
    assert reader.search_many([given]) == [plain]
    only = reader.search(CODE, 9, only_pins=(f"pin-{n}" for n in (1, 2)))  # type: ignore[arg-type]
    assert {hit.pin_id for hit in only.hits} == {"pin-1", "pin-2"}
    assert reader.search(CODE, 9, limit_s=math.inf).hits
    assert hash(given) == hash(Query(CODE, 5, exclude_pins=frozenset(["pin-1"]), within=40, limit_s=9.0, buyable=True))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda index: index.search_many(Query(CODE, 1)), "queries is Query.*a list of Query"),
        (lambda index: index.search_many([CODE]), "one of queries is.*a Query"),
        (lambda index: index.pin(b"pin-1"), "pin_id is b'pin-1'"),
        (lambda index: index.pins_with("ab" * 32), "image_sha256 is.*fromhex"),
        (lambda index: index.pins_with(bytes(20)), "image_sha256 is"),
        (lambda index: index.document_frequency("oak"), "annotations is 'oak'"),
        (lambda index: index.document_frequency([None]), "annotations is"),
    ],
)
def test_questions(reader: IndexReader, shard: Shard, ask: Ask, said: str) -> None:
    for index in (reader, shard):
        with pytest.raises(BadArgument, match=said):
            ask(index)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda reader: reader.pins("pin-1"), "pin_ids is 'pin-1'"),
        (lambda reader: reader.newest(2.5), "n is 2.5"),
        (lambda reader: reader.newest(-1), "n is -1"),
        (lambda reader: reader.newest(1, 5), r"before is 5.*\(recorded_at, pin_id\)"),
        (lambda reader: reader.newest(1, ("5", "a")), r"before\[0\] is '5'"),
        (lambda reader: reader.newest(1, (2**70, "a")), r"before\[0\] is"),
        (lambda reader: reader.newest(1, (5, b"a")), r"before\[1\] is b'a'"),
        (lambda reader: reader.about("oak", 3), "query is 'oak'.*words with their weights"),
        (lambda reader: reader.about({1: 1.0}, 3), "a word of query is 1"),
        (lambda reader: reader.about({"oak": math.nan}, 3), r"query\['oak'\] is nan.*finite"),
        (lambda reader: reader.about({"oak": "1"}, 3), r"query\['oak'\] is '1'"),
        (lambda reader: reader.about({"oak": 1.0}, "3"), "n is '3'"),
        (lambda reader: reader.takedown_complete("pin-1"), "pin_ids is 'pin-1'"),
    ],
)
def test_questions_to_a_reader(reader: IndexReader, ask: Ask, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        ask(reader)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"folder": "/data/index/g1"}, r"folder is '/data/index/g1' \(str\); pass a pathlib.Path"),
        ({"partitions": 0}, "partitions is 0"),
        ({"partitions": "1"}, "partitions is '1'"),
        ({"lease_s": 0}, "lease_s is 0"),
        ({"lease_s": math.nan}, "lease_s is nan"),
        ({"threads": 0}, "threads is 0"),
        ({"name": "a/b"}, "a reader's name is 'a/b'"),
        ({"name": 5}, "a reader's name is 5"),
        ({"faster": object(), "find": len}, "run on the CPU; pass either faster or find"),
    ],
)
def test_readers(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"folder": tmp_path, "partitions": 1, "lease_s": 5.0, "name": "a"} | wrong
    with pytest.raises(BadArgument, match=said):
        IndexReader(**given, clock=ManualClock())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"folder": "x"}, "folder is 'x'"),
        ({"partition": -1}, "partition is -1"),
        ({"bits": 12}, "bits is 12.*a multiple of 8"),
        ({"bits": 0}, "bits is 0"),
        ({"segment_slots": 7.0}, "segment_slots is 7.0"),
        ({"generation": "Upper"}, "generation's name is 'Upper'"),
        ({"generation": None}, "generation's name is None"),
        ({"lock_limit_s": -1}, "lock_limit_s is -1"),
        ({"null_retention_ms": -1}, "null_retention_ms is -1"),
    ],
)
def test_shards(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"folder": tmp_path / "0", "generation": "g1", "partition": 0, "bits": 64} | wrong
    with pytest.raises(BadArgument, match=said):
        Shard.open(**given, topic_id="t", feature="f", clock=ManualClock())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (live("a"), "batch is .*a list of Logged"),
        ([live("a")], "one of batch is .*a Logged"),
        ([Logged("9", b"a", live("a"), 0)], "an offset is '9'"),  # type: ignore[arg-type]
        ([Logged(2**63, b"a", live("a"), 0)], r"an offset is 9223372036854775808 .*below 2\*\*63"),
        ([Logged(-1, b"a", live("a"), 0)], "an offset is -1"),
        ([Logged(9, b"a", live("a"), 2**64)], "the timestamp at offset 9 is 18446744073709551616 .*Unix ms"),
        ([Logged(9, b"a", live("a"), 0.5)], "the timestamp at offset 9 is 0.5"),  # type: ignore[arg-type]
        ([Logged(9, "a", live("a"), 0)], "the key at offset 9 is 'a'"),  # type: ignore[arg-type]
        ([Logged(9, b"a", {"pin_id": "a"}, 0)], "the record at offset 9 is"),  # type: ignore[arg-type]
        ([Logged(99, b"a", live("a"), 0), Logged(98, b"b", live("b"), 0)], "offset 98 comes behind 99"),
    ],
)
def test_batches_are_refused_as_a_whole_and_the_shard_goes_on(shard: Shard, batch: Any, said: str) -> None:
    before = shard.applied_offset
    with pytest.raises(BadArgument, match=said):
        shard.apply(batch)
    assert shard.applied_offset == before
    assert shard.apply([Logged(before + 1, b"pin-0", live("pin-0"), 0)]).repeated == 1


def test_a_null_under_a_key_that_is_no_text_is_poison(shard: Shard) -> None:
    before = shard.applied_offset
    with pytest.raises(Poison, match="bad_field: the key at offset 60 is no pin_id"):
        shard.apply([Logged(60, b"\xff\xfe", None, 0)])
    assert shard.apply([Logged(before + 1, b"pin-0", live("pin-0"), 0)]).repeated == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda shard: shard.apply([]),
        lambda shard: shard.search(Query(bytes(8), 1)),
        lambda shard: shard.pin("pin-0"),
        lambda shard: shard.pins_with(bytes(32)),
        lambda shard: shard.document_frequency(["oak"]),
        lambda shard: shard.pending(),
        lambda shard: shard.digest(),
        lambda shard: shard.verify(),
        lambda shard: shard.sync(),
    ],
)
def test_a_closed_shard_says_so(tmp_path: Path, ask: Ask) -> None:
    shard = open_shard(tmp_path / "0")
    shard.close()
    with pytest.raises(Closed, match="was closed; open it again"):
        ask(shard)


def test_a_closed_reader_says_so(shard: Shard, generation: Path) -> None:
    assert not shard.closed
    reader = IndexReader(generation, 1, clock=ManualClock(), lease_s=60.0, name="closed")
    reader.refresh()
    reader.close()
    with pytest.raises(Closed, match="was closed; open it again"):
        reader.refresh()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda shard: shard.advance(2.5), "offset is 2.5"),
        (lambda shard: shard.compact(25), "dead_share is 25.*from 0 to 1"),
        (lambda shard: shard.compact(math.nan), "dead_share is nan"),
        (lambda _: committed(NO_PATH, 0, ManualClock()).__enter__(), "home is 'index/g1/0'.*pathlib.Path"),
        (lambda _: take({}, NO_PATH, ManualClock(), print), "target is 'index/g1/0'"),
        (lambda _: restore(NO_PATH, Path("g1"), topic_id="t", clock=ManualClock(), tell=print), "snapshot is"),
        (lambda _: restore(Path("a"), NO_PATH, topic_id="t", clock=ManualClock(), tell=print), "generation is"),
    ],
)
def test_upkeep_and_copies(shard: Shard, ask: Ask, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        ask(shard)
    assert shard.apply([Logged(shard.applied_offset + 1, b"pin-0", live("pin-0"), 0)]).repeated == 1


def test_an_error_shows_no_more_of_an_argument_than_a_person_reads(reader: IndexReader) -> None:
    with pytest.raises(BadArgument) as caught:
        reader.pins("x" * 100_000)
    assert len(str(caught.value)) < 250
