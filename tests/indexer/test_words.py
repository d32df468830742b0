"""Annotation search against a plain model, over any log of creates, updates, deletes and replays."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import ManualClock
from indexer import words
from indexer.reader import IndexReader
from indexer.records_pb2 import ObjectRecord
from tests.support.index_oracle import GENERATION, Oracle, hold_against, live, log_of, open_shard, random_log


def expected(oracle: Oracle, query: dict[str, float]) -> list[tuple[float, str]]:
    """The documented score by whole scans."""
    found = {pin_id: words.impacts(record) for pin_id, record in oracle.live().items()}
    scores: dict[str, float] = {}
    for word, weight in query.items():
        holding = {pin_id: each[word] for pin_id, each in found.items() if word in each}
        idf = math.log((1 + len(found)) / (1 + len(holding)))
        for pin_id, impact in holding.items():
            scores[pin_id] = scores.get(pin_id, 0.0) + weight * idf * impact / 255
    return sorted(((s, p) for p, s in scores.items() if s > 0), key=lambda each: (-each[0], each[1]))


@pytest.mark.parametrize("seed", range(4))
def test_pins_are_found_by_their_words_whatever_happened_to_them(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    log = random_log(random, 120, pins=12)
    oracle = Oracle().apply(log)
    shard = open_shard(tmp_path / GENERATION / "0")
    for start in range(0, len(log), 7):
        shard.apply(log[start : start + 7])
    hold_against(shard, oracle)
    reader = IndexReader(tmp_path / GENERATION, 1, clock=ManualClock(), lease_s=10.0, name="test")
    reader.refresh()
    for query in ({"oak": 1.0}, {"red": 0.5, "blue": 2.0, "absent": 9.0}, {"title": 1.0, "steel": 1.0}):
        found = [(score, entry.record.pin_id) for score, entry in reader.about(query, 50)]
        wanted = expected(oracle, query)
        assert [pin_id for _, pin_id in found] == [pin_id for _, pin_id in wanted]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in wanted])
        assert reader.about(query, 2) == reader.about(query, 50)[:2]
    reader.close()
    shard.close()


def test_words_of_texts_and_their_impacts() -> None:
    assert words.words_of("Mid-Century  ﬁne Möbel, 20s") == ("mid", "century", "fine", "möbel", "20s")
    assert words.words_of("x" * 200) == ("x" * 64,)
    record = ObjectRecord(annotations=["oak chair", "Oak"], title="A chair by the sea")
    found = words.impacts(record)
    assert set(found) == {"oak", "chair", "a", "by", "the", "sea"}
    assert found["oak"] == found["chair"] == round(255 / math.sqrt(6))
    assert found["sea"] == round(255 * 0.5 / math.sqrt(6))
    many = words.impacts(ObjectRecord(annotations=[f"w{n}" for n in range(500)], title="late"))
    assert len(many) == words.MAX_WORDS
    assert "late" not in many


def test_the_greatest_impacts_are_read_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "POSTINGS", 3)
    records = [(f"p{n}", live(f"p{n}", title=" ".join(["oak", *map(str, range(n))]))) for n in range(6)]
    records += [(f"other-{n}", live(f"other-{n}", title="elm")) for n in range(30)]
    for _, record in records:
        del record.annotations[:]
    shard = open_shard(tmp_path / GENERATION / "0")
    shard.apply(log_of(records))
    reader = IndexReader(tmp_path / GENERATION, 1, clock=ManualClock(), lease_s=10.0, name="test")
    reader.refresh()
    assert [entry.record.pin_id for _, entry in reader.about({"oak": 1.0}, 10)] == ["p0", "p1", "p2"]
    reader.close()
    shard.close()
