"""A detector per use: two API processes on one data folder, on the active generation and on another beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured
from indexer.arbitration import Logged
from indexer.partition import partition_of
from indexer.records_pb2 import Box, Code, DetectedObject, DotRecord, GenerationRecord, ObjectRecord
from indexer.shard import Shard
from ops.generations import Pipeline, begin_generation, ensure_generation, read_generations
from ops.local.kafka import KafkaProcess
from ops.local.ports import free_ports
from ops.models import pipeline_of
from ops.settings import Settings, load
from ops.topics import TopicNames
from tests.ops.test_cli import dotstream
from tests.ops.test_supervisor import until
from triton_models.cards import CARD_FILE

ROOT = Path(__file__).parents[2]
PACKAGED, OTHER = "ssd_mobilenet_v2", "scenes"
PARTITIONS = 4
PINS = ("a", "b", "c")
OBJECTS = {"g1": ("Chair",), "g2": ("Seat", "Lamp")}
"""Generation -> what its detector finds in every picture."""


class Place:
    """A stream with two generations: the packaged detector's, which is active, and another detector's."""

    def __init__(self, broker: KafkaProcess, names: TopicNames, repository: Path, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "DOTSTREAM_DATA": str(folder / "data"),
            "DOTSTREAM_KAFKA__BOOTSTRAP": broker.connection.bootstrap,
            "DOTSTREAM_TOPICS__PREFIX": names.prefix,
            "DOTSTREAM_TRITON__ADDRESS": "127.0.0.1:1",
            "DOTSTREAM_TRITON__REPOSITORY": str(repository),
        }
        self.other = {**self.environment, "DOTSTREAM_TRITON__DETECTOR": OTHER}

    def fill(self, generation: str, settings: Settings) -> None:
        """Indexes each pin as the generation's workers would."""
        pipeline = pipeline_of(settings)
        logged: dict[int, list[Logged]] = {number: [] for number in range(PARTITIONS)}
        for n, pin_id in enumerate(PINS):
            record = ObjectRecord(
                pin_id=pin_id,
                version=1,
                generation=generation,
                detector=pipeline.detector,
                image_sha256=bytes([n] * 32),
            )
            codes = [Code(feature=pipeline.features[0], bits=bytes([n]) * (pipeline.bits // 8))]
            record.codes.extend(codes)
            for index, label in enumerate(OBJECTS[generation]):
                box = Box(x0=0.1 * index, y0=0, x1=0.5, y1=1)
                record.objects.append(DetectedObject(index=index, label=label, score=0.9, box=box, codes=codes))
            some = logged[partition_of(pin_id.encode(), PARTITIONS)]
            some.append(Logged(len(some), pin_id.encode(), record, 1))
        for number, records in logged.items():
            shard = Shard.open(
                self.folder / "data" / "index" / generation / str(number),
                generation=generation,
                partition=number,
                topic_id="objects",
                feature=pipeline.features[0],
                bits=pipeline.bits,
                clock=SystemClock(),
            )
            shard.apply(records)
            shard.sync()
            shard.close()


@pytest.fixture
def place(broker: KafkaProcess, topics: TopicNames, copied_repository: Path, tmp_path: Path) -> Place:
    other = Path(shutil.copytree(copied_repository / PACKAGED, copied_repository / OTHER))
    for file in (other / "config.pbtxt", other / "1" / CARD_FILE):
        file.write_text(file.read_text().replace(PACKAGED, OTHER))
    labels = (other / "labels.txt").read_text()
    (other / "labels.txt").write_text(labels.replace("Chair", "Seat"))
    place = Place(broker, topics, copied_repository, tmp_path)

    given = {"data": tmp_path / "data", "triton.repository": copied_repository}
    settings, theirs = (load(None, {**given, "triton.detector": name}).settings for name in (PACKAGED, OTHER))
    pipeline = pipeline_of(settings)
    ensure_generation(broker.connection, topics.generations, "g1", pipeline, partitions=PARTITIONS, now_ms=1)
    begun = dotstream("generations", "begin", "g2", cwd=tmp_path, env=place.other)
    assert begun.returncode == 0, begun.stderr
    known = read_generations(broker.connection, topics.generations)
    assert (known["g2"].detector, known["g2"].state) == (f"{OTHER}@1", GenerationRecord.STATE_BUILDING)
    place.fill("g1", settings)
    place.fill("g2", theirs)
    producer = Producer(broker.connection.config())
    decided = DotRecord(pin_id="a", version=1, generation="g1", epoch=1, decision=1)
    producer.produce(topics.dots, decided.SerializeToString(), b"a")
    assert producer.flush(20) == 0
    return place


Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(place: Place) -> Iterator[Serve]:
    """Starts `dotstream serve` and waits until it is ready."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DOTSTREAM_")}
    running: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []

    def begin(environment: dict[str, str], *options: str) -> httpx.Client:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "ops.cli", "serve", "--port", str(port), *options]
        running.append(subprocess.Popen(command, cwd=ROOT, env={**clean, **environment}))
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False))

        def ready() -> bool:
            assert running[-1].poll() is None
            try:
                return clients[-1].get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, 60)
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
    for process in running:
        process.terminate()
    for process in running:
        assert process.wait(30) == 0


def found(api: httpx.Client, object_index: int) -> list[tuple[str, str]]:
    answer = api.post("/search/objects", json={"pin_id": "a", "object_index": object_index, "duplicates": "keep"})
    body: dict[str, Any] = answer.json()
    assert answer.status_code == 200, body
    return sorted((result["pin_id"], result["label"]) for result in body["results"])


def test_object_search_answers_from_the_named_generation_and_dots_from_the_active_one(
    serve: Serve, place: Place
) -> None:
    dots, objects = serve(place.environment), serve(place.other, "--generation", "g2")
    assert [api.get("/readyz").json()["checks"]["generation"] for api in (dots, objects)] == ["g1", "g2"]
    assert found(dots, 0) == [("b", "Chair"), ("c", "Chair")]
    assert [pin for pin, _ in found(objects, 1)] == ["b", "c"]
    assert {label for _, label in found(objects, 1)} <= {"Seat", "Lamp"}
    assert len(objects.get("/pins/a").json()["objects"]) == 2
    assert dots.get("/pins/a/dots").json()["generation"] == "g1"
    elsewhere = objects.get("/pins/a/dots")
    assert (elsewhere.status_code, elsewhere.json()["type"]) == (404, "/problems/dots-elsewhere")
    refused = objects.post("/saves", json={"events": [{"pin_id": "a", "board_id": "b1"}]})
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/takes-no-reports")


def test_a_generation_is_searched_with_its_own_detector_only(place: Place, tmp_path: Path) -> None:
    wrong = dotstream("serve", "--port", "0", "--generation", "g2", cwd=tmp_path, env=place.environment)
    assert (wrong.returncode != 0, "generation g2 was made by scenes@1" in wrong.stderr) == (True, True)
    nowhere = dotstream("serve", "--port", "0", "--generation", "g9", cwd=tmp_path, env=place.environment)
    assert (nowhere.returncode != 0, "no generation 'g9' to search; there are g1, g2" in nowhere.stderr) == (True, True)


def test_a_further_generation_needs_a_first_one(broker: KafkaProcess, topics: TopicNames) -> None:
    with pytest.raises(Misconfigured, match="no generation is active"):
        begin_generation(
            broker.connection, topics.generations, "g2", Pipeline(bytes(32), "d", "e", 8), partitions=4, now_ms=1
        )
