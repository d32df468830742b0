"""`dotstream index` as a user runs it: shards on a disk, their log on a real broker."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from subprocess import CompletedProcess
from typing import Any

import pytest
from confluent_kafka import Producer

from indexer.answers import Query
from indexer.errors import Superseded
from indexer.records import encode
from indexer.records_pb2 import GenerationRecord
from indexer.segment_format import ALIGN
from ops.cli import main
from ops.generations import publish_generation
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames, topic_id
from tests.support.index_oracle import BITS, GENERATION, Oracle, log_of, open_shard, random_log

Run = Callable[..., CompletedProcess[str]]
LOG = [logged for logged in random_log(Random(1), 80, pins=25) if logged.record is not None]
LOG = log_of([(logged.key.decode(), logged.record) for logged in LOG])


@pytest.fixture
def shards(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> Path:
    """The data folder of an index of two partitions; the second one is empty. Its log is in the topic."""
    record = GenerationRecord(
        name=GENERATION,
        state=GenerationRecord.STATE_ACTIVE,
        epoch=1,
        embedder="test@1",
        bits=BITS,
        partitions=2,
        fingerprint=bytes(32),
    )
    publish_generation(broker.connection, topics.generations, record)
    producer = Producer(broker.connection.config())
    for logged in LOG:
        assert logged.record is not None
        producer.produce(topics.objects(GENERATION), encode(logged.record), logged.key, partition=0)
    producer.produce(topics.objects(GENERATION), b"\xff", b"poison", partition=0)
    assert producer.flush(20) == 0
    producer.close()
    for number in range(2):
        shard = open_shard(
            tmp_path / "data" / "index" / GENERATION / str(number),
            partition=number,
            topic_id=topic_id(broker.connection, topics.objects(GENERATION)),
        )
        shard.apply(LOG if number == 0 else [])
        shard.close()
    return tmp_path / "data"


@pytest.fixture
def run(broker: KafkaProcess, topics: TopicNames, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process, as its entry point does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOTSTREAM_KAFKA__BOOTSTRAP", str(broker.connection.bootstrap))
    monkeypatch.setenv("DOTSTREAM_TOPICS__PREFIX", topics.prefix)
    monkeypatch.setenv("DOTSTREAM_DATA", str(shards))
    monkeypatch.setenv("DOTSTREAM_INDEX__SEGMENT_SLOTS", "16")

    def invoke(*arguments: str) -> CompletedProcess[str]:
        out, err = StringIO(), StringIO()
        monkeypatch.setattr(sys, "argv", ["dotstream", "index", *arguments])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        return CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return invoke


def answer_of(done: CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def damage(shards: Path) -> None:
    path = sorted((shards / "index" / GENERATION / "0").glob("v-*/segments/*.codes"))[0]
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(ALIGN)
        byte = file.read(1)[0]
        file.seek(ALIGN)
        file.write(bytes((byte ^ 1,)))


def test_damage_is_named_and_rebuilt_from_the_log(run: Run, shards: Path) -> None:
    assert answer_of(run("verify", "--json")) == {"ok": True, "partitions": {"0": [], "1": []}}
    digests = answer_of(run("digest", "--json"))
    assert digests["partitions"][0]["digest"] == Oracle().apply(LOG).digest()
    nothing = run("repair")
    assert (nothing.returncode, nothing.stdout) == (0, "0 partitions rebuilt, 2 left as they are\n")
    damage(shards)
    found = run("verify")
    assert found.returncode == 1
    assert "block 0 of segment 0 does not hold" in found.stdout
    assert "partition 1: all is well" in found.stdout
    assert "dotstream index repair" in found.stderr
    assert run("verify", "--partition", "1").returncode == 0
    (repaired,) = answer_of(run("repair", "--json"))["repaired"]
    assert (repaired["partition"], repaired["records"], repaired["poison"]) == (0, len(LOG), 1)
    assert (repaired["applied_offset"], repaired["digest"]) == (len(LOG), Oracle().apply(LOG).digest())
    assert answer_of(run("verify", "--json"))["ok"]
    plain = run("digest", "--partition", "0").stdout.split()
    assert plain == ["0", str(len(LOG)), Oracle().apply(LOG).digest()]


def test_what_an_open_transaction_holds_is_left_to_the_worker(
    run: Run, shards: Path, broker: KafkaProcess, topics: TopicNames
) -> None:
    vision = Producer(broker.connection.config(**{"transactional.id": f"{topics.prefix}vision"}))
    vision.init_transactions(20)
    vision.begin_transaction()
    offsets: list[int | None] = []
    late = LOG[0].record
    assert late is not None
    vision.produce(
        topics.objects(GENERATION),
        encode(late),
        key=late.pin_id,
        partition=0,
        on_delivery=lambda _, message: offsets.append(message.offset()),
    )
    assert vision.flush(20) == 0
    (repaired,) = answer_of(run("repair", "--all", "--partition", "0", "--json"))["repaired"]
    vision.commit_transaction(20)
    assert offsets == [repaired["applied_offset"] + 1], "the worker goes on with it"


def test_a_folder_of_an_older_format_is_named_and_rebuilt(run: Run, shards: Path) -> None:
    for path in (shards / "index" / GENERATION / "0").glob("v-*/commit"):
        path.write_bytes(bytes(8192))
    found = run("verify", "--partition", "0")
    assert found.returncode == 1
    assert "commit page" in found.stdout
    assert answer_of(run("repair", "--partition", "0", "--json"))["repaired"][0]["records"] == len(LOG)
    assert run("verify").returncode == 0


def test_a_snapshot_comes_back_into_empty_folders_only(run: Run, shards: Path, tmp_path: Path) -> None:
    taken = answer_of(run("snapshot", str(tmp_path / "copy"), "--json"))
    assert [part["applied_offset"] for part in taken["partitions"]] == [len(LOG) - 1, -1]
    assert "is not empty" in run("snapshot", str(tmp_path / "copy")).stderr
    refused = run("restore", str(tmp_path / "copy"))
    assert refused.returncode == 1
    assert "is in use" in refused.stderr
    before = run("digest").stdout
    shutil.move(shards / "index", tmp_path / "away")
    assert "there is no shard" in run("digest").stderr
    done = run("restore", str(tmp_path / "copy"))
    assert (done.returncode, done.stdout) == (0, "2 partitions of generation g1 restored; start the index worker\n")
    assert run("digest").stdout == before
    assert answer_of(run("verify", "--json"))["ok"]


def test_a_snapshot_of_another_topic_is_refused(run: Run, shards: Path, tmp_path: Path, broker: KafkaProcess) -> None:
    run("snapshot", str(tmp_path / "copy"))
    manifest = tmp_path / "copy" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"topic_id": "', '"topic_id": "other', 1))
    shutil.rmtree(shards / "index")
    refused = run("restore", str(tmp_path / "copy"))
    assert refused.returncode == 1
    assert "reflects topic other" in refused.stderr
    assert not list((shards).glob("index/**/CURRENT"))


def test_a_worker_that_has_the_shard_open_stops_answering_once_it_was_repaired(
    run: Run, shards: Path, broker: KafkaProcess, topics: TopicNames
) -> None:
    home = shards / "index" / GENERATION / "0"
    worker = open_shard(home, topic_id=topic_id(broker.connection, topics.objects(GENERATION)))
    assert run("repair", "--all").returncode == 0
    with pytest.raises(Superseded):
        worker.search(Query(bytes(BITS // 8), 1))
    worker.abandon()
    assert answer_of(run("verify", "--json"))["ok"]
