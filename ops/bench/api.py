"""`dotstream bench api`: latency of the HTTP API at stated rates, with ingest running and 100,000 objects indexed.

Real Triton, real shards, real picture store, the real server; no broker: one process applies records to the shards as
the index worker does, while it sends photographs through the models at a steady rate. The filler of the index is
synthetic (ops/bench/_api_index.py). Loads are open: latency counts from the appointed time. Then 200 clients ask.

Freshness is measured in the ingesting process, from the picture's bytes to the moment a reader of the index finds the
pin, alone and under the load of the clients.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dotstream.errors import Unavailable
from indexer.records_pb2 import DotRecord
from ops.bench import _api_index as index
from ops.bench import _api_saves as saves
from ops.bench._load import Answers, Ask, load
from ops.bench._pictures import distinct, jpegs
from ops.bench._report import Figure, Report, machine, neighbours
from ops.commands.options import say
from ops.private_index import GENERATION, PARTITIONS, Writer, private_settings, private_triton

OBJECTS = 100_000
PHOTOGRAPHS = 40
INGEST_PER_S = 2.0
SECONDS = 15.0
ALONE_S = 10.0
CLIENTS = 200
CLIENT_RATE = 40.0
CLIENT_S = 60.0
START_LIMIT_S = 600.0
JSON = {"Content-Type": "application/json"}
BOUNDARY = "dotstream-bench"


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    shared = neighbours()
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder, ExitStack() as owned:
        data = Path(folder)
        triton = owned.enter_context(private_triton(data))
        files = jpegs(private_settings(data).cache_folder, say)[:PHOTOGRAPHS]
        say(f"filling the index with {OBJECTS} objects")
        ingest = _child(_ingest, data, triton, files, owned)
        pins = _received(ingest)
        served = _child(_serve, data, triton, files, owned)
        address = _received(served)
        report = _Run(address, pins, files, ingest).report()
        report.conditions |= shared
        report.show(as_json=as_json)


def _child(
    target: Callable[..., None], data: Path, triton: str, files: Sequence[bytes], owned: ExitStack
) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_apart, args=(target, theirs, data, triton, files), daemon=True)
    child.start()
    owned.callback(child.join, 10)
    owned.callback(child.kill)
    return ours


def _apart(target: Callable[..., None], *given: object) -> None:
    """Runs in a session of its own, as every part of `dotstream up` does: sessions share the cores as equals."""
    os.setsid()
    target(*given)


def _received(pipe: Connection) -> Any:
    if not pipe.poll(START_LIMIT_S):
        raise Unavailable("a process of the benchmark did not start; its errors are above")
    return pipe.recv()


class _Run:
    """The loads over a served index."""

    def __init__(self, address: str, pins: Mapping[str, list[int]], files: Sequence[bytes], ingest: Connection) -> None:
        self._address = address
        self._pins = [(pin_id, objects) for pin_id, objects in pins.items() if objects]
        self._files = files
        self._ingest = ingest
        self._random = np.random.default_rng(1)

    def report(self) -> Report:
        say("freshness without load")
        alone = self._fresh(ALONE_S)
        self._ingest.send("go")
        figures: dict[str, Figure] = {}
        failures: Counter[str] = Counter()
        for name, ask_of, rate, percent, limit in self._routes():
            say(f"{name}: {rate:g}/s for {SECONDS:g} s")
            load(self._address, ask_of, rate=rate, seconds=2, connections=4)
            answers = load(self._address, ask_of, rate=rate, seconds=SECONDS, connections=8)
            failures += answers.failures
            figures[f"{name} p50"] = Figure(_share(answers, 50), "ms")
            figures[f"{name} p{percent}"] = Figure(_share(answers, percent), "ms", limit=limit)
        self._ingest.send("stop")
        _received(self._ingest)
        say(f"{CLIENTS} clients for {CLIENT_S:g} s")
        before = self._memory()
        fresh, answers = self._crowd()
        failures += answers.failures
        figures |= {
            f"{CLIENTS} clients p99": Figure(_share(answers, 99), "ms"),
            f"{CLIENTS} clients, errors": Figure(answers.failures.total(), "answers", limit=0),
            "errors of all loads": Figure(failures.total(), "answers", limit=0),
            f"{CLIENTS} clients, growth of memory": Figure((self._memory() - before) / 2**20, "MiB"),
            "freshness alone p99": Figure(float(np.percentile(alone, 99)), "ms"),
            "freshness under clients p99": Figure(
                float(np.percentile(fresh, 99)), "ms", limit=2 * float(np.percentile(alone, 99))
            ),
        }
        conditions = machine() | {
            "index": f"{OBJECTS} synthetic objects, {len(self._pins)} photographs with objects, {PARTITIONS} shards",
            "saves": f"{saves.BOARDS_OF} boards a pin, {saves.PINS_OF} pins a board, 100 candidates, 32 cross features",
            "ingest": f"{INGEST_PER_S:g} photographs/s through Triton, store and shard; no broker",
            "load": f"open loop, {SECONDS:g} s each at the stated rate, 8 connections",
            "clients": f"{CLIENTS} connections, {CLIENT_RATE:g} requests/s together for {CLIENT_S:g} s: "
            "half dots, a quarter pins, a quarter Flashlight by object",
            "errors": ", ".join(f"{name}: {n}" for name, n in failures.most_common()) or "none",
        }
        return Report("api", conditions, figures)

    def _routes(self) -> list[tuple[str, Callable[[int], Ask], float, int, float | None]]:
        """(name, requests, rate per second, percentile that is told, its limit in ms)."""
        return [
            ("dots, 50/s", self._dots, 50.0, 99, 5.0),
            ("Flashlight by object, 10/s", self._known, 10.0, 99, 25.0),
            ("Related Pins, 10/s", self._related, 10.0, 99, 15.0),
            ("Flashlight by crop, 2/s", self._crop, 2.0, 95, 150.0),
            ("Lens, 1/s", self._lens, 1.0, 95, 400.0),
            ("Flashlight among near-copies, 2/s", self._among_copies, 2.0, 99, None),
        ]

    def _dots(self, number: int) -> Ask:
        return Ask("GET", f"/pins/{self._pins[number % len(self._pins)][0]}/dots")

    def _known(self, number: int) -> Ask:
        return _asked(
            "/search/flashlight", {"pin_id": _filler(number), "object_index": number % index.OBJECTS, "k": 24}
        )

    def _among_copies(self, number: int) -> Ask:
        """Of a photograph: ingest has filled the index with near-copies of it, which are grouped under one another."""
        pin_id, objects = self._pins[number % len(self._pins)]
        return _asked("/search/flashlight", {"pin_id": pin_id, "object_index": objects[number % len(objects)], "k": 24})

    def _related(self, number: int) -> Ask:
        return Ask("GET", f"/pins/{_filler(number)}/related?k=25")

    def _crop(self, number: int) -> Ask:
        pin_id, _ = self._pins[number % len(self._pins)]
        x, y = self._random.uniform(0, 0.5, 2)
        box = [float(x), float(y), float(x) + 0.4, float(y) + 0.4]
        return _asked("/search/flashlight", {"pin_id": pin_id, "box": box, "k": 24})

    def _lens(self, number: int) -> Ask:
        picture = distinct(self._files[number % len(self._files)], 10**6 + number)
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'.encode()
        body = head + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
        return Ask("POST", "/lens", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})

    def _mixed(self, number: int) -> Ask:
        if number % 4 == 0:
            return self._known(number)
        if number % 4 == 1:
            return Ask("GET", f"/pins/{self._pins[number % len(self._pins)][0]}")
        return self._dots(number)

    def _crowd(self) -> tuple[list[float], Answers]:
        found: list[Answers] = []

        def ask() -> None:
            found.append(load(self._address, self._mixed, rate=CLIENT_RATE, seconds=CLIENT_S, connections=CLIENTS))

        crowd = threading.Thread(target=ask)
        self._ingest.send("go")
        crowd.start()
        crowd.join()
        self._ingest.send("stop")
        return list(_received(self._ingest)), found[0]

    def _fresh(self, seconds: float) -> list[float]:
        self._ingest.send("go")
        time.sleep(seconds)
        self._ingest.send("stop")
        return list(_received(self._ingest))

    def _memory(self) -> int:
        """Resident bytes of the API's process, which is the newest child."""
        return max(psutil.Process().children(), key=lambda child: child.create_time()).memory_info().rss


def _filler(number: int) -> str:
    return f"filler-{number * 37 % (OBJECTS // index.OBJECTS)}"


def _asked(path: str, body: Mapping[str, object]) -> Ask:
    return Ask("POST", path, json.dumps(body).encode(), JSON)


def _share(answers: Answers, percent: int) -> float:
    return float(np.percentile(answers.times, percent))


def _ingest(pipe: Connection, data: Path, triton: str, files: Sequence[bytes]) -> None:
    """A process: fills the index, tells the photographs' objects, then ingests whenever it is told to."""
    from ops.models import code_bits, triton_client, vision_settings
    from triton_models.calls import Unobserved
    from triton_models.pipeline import Vision

    settings = private_settings(data, triton)
    vision = Vision(triton_client(settings, Unobserved()), vision_settings(settings))
    bits, feature = code_bits(settings), "bench/codes"
    writer = Writer(data, bits, feature)
    batch: list[Any] = []
    for record in index.filler(OBJECTS // index.OBJECTS + 1, bits, feature):
        batch.append(record)
        if len(batch) == index.BATCH:
            writer.apply(batch)
            batch.clear()
    writer.apply(batch)
    saves.fill(settings, OBJECTS // index.OBJECTS + 1)
    about = ["photograph", "bench"]
    photographs = [
        writer.photograph(f"photo-{number}", file, vision, annotations=about) for number, file in enumerate(files)
    ]
    dots = [index.dots_of(record, {}).SerializeToString() for record in photographs]
    (data / "dots.json").write_text(json.dumps([one.hex() for one in dots]))
    reader = writer.reader("ingest")
    reader.refresh()
    pipe.send({record.pin_id: [item.index for item in record.objects] for record in photographs})
    numbers = itertools.count()
    while True:
        pipe.recv()  # go
        fresh: list[float] = []
        begun = time.monotonic()
        while not pipe.poll(max(0.0, begun + len(fresh) / INGEST_PER_S - time.monotonic())):
            number = next(numbers)
            started = time.monotonic()
            writer.photograph(f"new-{number}", distinct(files[number % len(files)], number), vision)
            reader.refresh()
            if reader.pin(f"new-{number}") is None:
                raise Unavailable(f"new-{number} is not in the index")
            fresh.append((time.monotonic() - started) * 1000)
        pipe.recv()  # stop
        pipe.send(fresh)


class _Dots:
    """Topic `dots` as the records of the photographs (producers/whole_topic.py)."""

    def __init__(self, records: Sequence[DotRecord]) -> None:
        from producers.whole_topic import Logged

        self._records = [
            Logged(0, offset, record.pin_id.encode(), record.SerializeToString(), 0)
            for offset, record in enumerate(records)
        ]
        self._at = 0

    def open(self) -> Any:
        from producers.whole_topic import Extent

        return Extent("bench", {0: 0}, {0: len(self._records)})

    def start(self, positions: Mapping[int, int]) -> None:
        self._at = positions.get(0, 0)

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Any], Mapping[int, int]]:
        found = self._records[self._at : self._at + limit]
        self._at += len(found)
        if not found:
            time.sleep(min(wait_s, 0.5))
        return found, {0: self._at} if found else {}

    def end(self, partition: int) -> int:
        return len(self._records) if partition == 0 else 0

    def close(self) -> None: ...


def _serve(pipe: Connection, data: Path, triton: str, files: Sequence[bytes]) -> None:  # noqa: ARG001  as `_child` calls
    """A process: the API over the index in `data`."""
    from prometheus_client import CollectorRegistry

    from discovery.api import create_app
    from discovery.dot_store import DotStore
    from discovery.dot_view import DotView
    from discovery.eyes import TritonEyes
    from discovery.server import free_port, server
    from discovery.services import Limits, Services
    from dotstream.clock import SystemClock
    from dotstream.memory import settle
    from indexer.reader import IndexReader
    from indexer.search import warm
    from ops.models import code_bits, picture_limits, pictures_of, triton_client, vision_settings
    from ops.related import co_occurrence_of
    from triton_models.calls import Unobserved

    settings = private_settings(data, triton)
    warm(code_bits(settings))
    records = [DotRecord.FromString(bytes.fromhex(one)) for one in json.loads((data / "dots.json").read_text())]
    home = data / "index" / GENERATION
    services = Services(
        index=IndexReader(home, PARTITIONS, clock=SystemClock(), lease_s=5.0, name="api"),
        dots=DotView(DotStore(data / "dots"), _Dots(records)),
        pictures=pictures_of(settings),
        eyes=TritonEyes(triton_client(settings, Unobserved()), vision_settings(settings), picture_limits(settings)),
        registry=CollectorRegistry(),
        boot="bench",
        together=co_occurrence_of(settings),
        related_model=saves.MODEL,
        limits=Limits(requests_per_s=0),
    )
    port = free_port("127.0.0.1")
    running = server(create_app(services), "127.0.0.1", port)

    def tell() -> None:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:  # noqa: S310  our own address
                    if answer.status == 200:
                        pipe.send(address)
                        return
            except OSError:
                time.sleep(0.05)

    threading.Thread(target=tell, daemon=True).start()
    settle()
    running.run()
