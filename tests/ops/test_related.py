"""The commands of Related Pins: synthetic log, training, evaluation; and examples out of a real stream's topics."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from discovery.related.examples import Example, write
from discovery.related.model import LinearModel, load
from dotstream.errors import Misconfigured
from ops.cli import app
from ops.local.kafka import KafkaProcess
from ops.settings import load as load_settings
from ops.topics import TopicNames


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_a_synthetic_log_to_its_figures(tmp_path: Path) -> None:
    log, model, bare = tmp_path / "log.jsonl", tmp_path / "model.json", tmp_path / "bare.json"
    assert "SYNTHETIC" in run("data", "prepare", "related-synthetic", "--out", log, "--queries", 150)
    assert "SYNTHETIC" in run("train", "related", log, "--out", model)
    said = json.loads(run("train", "related", log, "--out", bare, "--without", "visual", "--json"))
    assert said["synthetic"] is True
    assert "visual" not in load(bare).weights
    assert load(model).trained["synthetic"] is True
    words = ("eval", "related", log, "--model", model, "--control", bare, "--resamples", 20)
    assert "SYNTHETIC LOG" in run(*words)
    found = json.loads(run(*words, "--json"))
    assert found["conditions"]["synthetic"] is True
    saves = found["figures"]["plain: saves"]
    assert saves["value"] > saves["peer"]
    assert saves["gain"]["low"] <= saves["gain"]["value"] <= saves["gain"]["high"]
    assert {f"{variant}: saves" for variant in ("plain", "A", "B", "C")} <= found["figures"].keys()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(Misconfigured, match=r"none\.json"):
        evaluated(tmp_path / "log.jsonl", tmp_path / "none.json")


def test_a_log_without_impressions_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("\n")
    LinearModel({"visual": 1.0}).save(tmp_path / "model.json")
    with pytest.raises(Misconfigured, match=r"no impression in .*log\.jsonl"):
        evaluated(tmp_path / "log.jsonl", tmp_path / "model.json")


def test_a_control_without_saves_makes_no_gain_up(tmp_path: Path) -> None:
    LinearModel({"visual": 1.0}).save(tmp_path / "model.json")
    write(tmp_path / "log.jsonl", [Example("r", "u", "q", "p", 1, 5, "art", (), {"visual": 0.5})])
    said = evaluated(tmp_path / "log.jsonl", tmp_path / "model.json")
    assert "gain unknown" in said
    assert "nan" not in said


def evaluated(log: Path, model: Path) -> str:
    """What `eval related` prints; its errors are raised, of which the entry point makes exit status 1."""
    words = ["eval", "related", str(log), "--model", str(model), "--resamples", "10"]
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


def test_the_engagements_of_a_topic_are_read_to_their_end(
    broker: KafkaProcess, topics: TopicNames, tmp_path: Path
) -> None:
    from ops.related import engagements_of

    rows = [{"pin_id": f"p{n}", "kind": "impression", "request_id": "r", "query_pin_id": "q"} for n in range(40)]
    log = tmp_path / "seen.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    run("publish", log, "--topic", "engagements", "--kafka", broker.bootstrap, "--prefix", topics.prefix)
    overrides = {"kafka.bootstrap": broker.bootstrap, "topics.prefix": topics.prefix, "data": tmp_path}
    connection = load_settings(None, overrides).settings.kafka.connection()
    found = sorted(event.pin_id for event in engagements_of(connection, topics.events.engagements))
    assert found == sorted(str(row["pin_id"]) for row in rows)


def test_the_saves_of_a_topic_tell_what_a_board_held(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> None:
    from ops.related import past_of

    now_ms = int(time.time() * 1000)
    times = {"once": [now_ms - 60_000], "again": [now_ms - 50_000, now_ms - 20_000], "ahead": [9_999_999_999_999]}
    rows = [{"pin_id": pin, "board_id": "b", "event_time": at} for pin, its in times.items() for at in its]
    log = tmp_path / "saves.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    run("publish", log, "--topic", "saves", "--kafka", broker.bootstrap, "--prefix", topics.prefix)
    settings = load_settings(None, {"kafka.bootstrap": broker.bootstrap, "data": tmp_path}).settings
    past = past_of(settings, settings.kafka.connection(), topics.events.saves)
    assert past.pins_of(b"b", None, now_ms - 40_000)[0] == [b"once", b"again"]
    assert past.boards_of(b"again", None, now_ms - 51_000) == []
    assert past.pins_of(b"b", None, now_ms + 3_600_000)[0] == [b"once", b"again", b"ahead"]
