"""Ingest for `dotstream bench index`: a shard, and beside it what writing the same bytes takes without any thought."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dotstream.clock import SystemClock
from indexer.arbitration import Logged
from indexer.catalogue import FAMILIES, Catalogue
from indexer.follower import committed
from indexer.records import decode, encode
from indexer.shard import Shard
from indexer.shard_upkeep import SYNC_EVERY_S
from ops.bench._index_world import BITS, CODES, FEATURE, GENERATION, open_shard, records

BATCH = 512
START_LIMIT_S = 300.0


def fill(shard: Shard, logged: Sequence[Logged]) -> float:
    """Applies decoded records in the worker's batches, synced in groups; seconds until the last one is durable."""
    begun = time.perf_counter()
    for at in range(0, len(logged), BATCH):
        shard.apply(logged[at : at + BATCH])
        shard.maybe_sync()
    shard.sync()
    return time.perf_counter() - begun


@dataclass(frozen=True, slots=True)
class Ingest:
    """Seconds for so many pins, and those that the process computed of them, waits for a core and the disk left out.

    Attributes:
        whole: from logged bytes to the last one durable.
        apply, apply_cpu: of these, without taking the bytes apart.
        raw, raw_cpu: the same bytes into a plain file and RocksDB.
    """

    whole: float
    apply: float
    apply_cpu: float
    raw: float
    raw_cpu: float


def ingest(folder: Path, pins: int) -> Ingest:
    """Measures it once: as in the worker, each batch is decoded and then applied."""
    values = _logged(pins)
    shard = open_shard(folder / GENERATION)
    begun, own = time.perf_counter(), time.process_time()
    decoding, decoding_cpu = _take_in(shard, values)
    whole, whole_cpu = time.perf_counter() - begun, time.process_time() - own
    shard.close()
    return Ingest(whole, whole - decoding, whole_cpu - decoding_cpu, *_raw(folder, pins))


def together_codes_s(folder: Path, pins: int, partitions: int) -> float:
    """Codes a second from logged bytes to durable, of partitions that take in so many pins each at the same time, each
    in a process of its own, as index workers do.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(partitions + 1)
    workers = [
        context.Process(target=_partition, args=(folder / GENERATION, partition, pins, start))
        for partition in range(partitions)
    ]
    try:
        for worker in workers:
            worker.start()
        start.wait(START_LIMIT_S)
        begun = time.perf_counter()
        start.wait(START_LIMIT_S)
        taken = time.perf_counter() - begun
        for worker in workers:
            worker.join(START_LIMIT_S)
    finally:
        for worker in workers:
            worker.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return partitions * pins * CODES / taken


def _partition(generation: Path, partition: int, pins: int, start: Barrier) -> None:
    """One process: waits until all are ready, takes its pins in, and waits for the others."""
    shard = open_shard(generation, partition)
    values = _logged(pins)
    start.wait(START_LIMIT_S)
    _take_in(shard, values)
    start.wait(START_LIMIT_S)
    shard.close()


def _logged(pins: int) -> list[tuple[bytes, bytes]]:
    """Keys and bytes of so many pins, as they lie in the log."""
    return [(one.key, encode(one.record)) for one in records(pins) if one.record is not None]


def _take_in(shard: Shard, values: Sequence[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Decodes and applies what was logged, batch by batch, until it is durable. Seconds of decoding, and of computing
    for it.
    """
    decoding = decoding_cpu = 0.0
    for at in range(0, len(values), BATCH):
        started, started_cpu = time.perf_counter(), time.process_time()
        batch = [
            Logged(n, key, decode(key, value, generation=GENERATION, bits=BITS, feature=FEATURE), n)
            for n, (key, value) in enumerate(values[at : at + BATCH], at)
        ]
        decoding += time.perf_counter() - started
        decoding_cpu += time.process_time() - started_cpu
        shard.apply(batch)
        shard.maybe_sync()
    shard.sync()
    return decoding, decoding_cpu


def _raw(folder: Path, pins: int) -> tuple[float, float]:
    """Seconds, and those of computing, to put the shard's codes into a mapped file and its catalogue's entries into
    RocksDB, in as many batches and synced as often as a shard is, all of it made ready beforehand: each batch has the
    entries of the same pins as the shard's own.
    """
    batches = -(-pins // BATCH)
    commits: list[dict[str, tuple[list[bytes], list[bytes]]]] = [{} for _ in range(batches)]
    with committed(folder / GENERATION / "0", 0, SystemClock()) as version:
        codes = np.concatenate([segment.codes[:length] for segment, length in version.view.segments])
        for family in FAMILIES:
            with version.catalogue.scan(family) as found:
                for key, value in found:
                    commit = commits[min(pins - 1, _pin_of(family, key, value)) // BATCH]
                    keys, values = commit.setdefault(family, ([], []))
                    keys.append(key)
                    values.append(value)
    catalogue = Catalogue(folder / "raw")
    file = _preallocated(folder / "raw.codes", codes.nbytes)
    try:
        return _write(codes, commits, catalogue, file)
    finally:
        catalogue.close()
        os.close(file)


def _pin_of(family: str, key: bytes, value: bytes) -> int:
    """The number of the pin that brought an entry; for an entry of no one pin, one behind all."""
    _, found, number = (value if family == "slots" else key).rpartition(b"pin-")
    return int(number) if found else sys.maxsize


def _preallocated(path: Path, size: int) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(file, 0, size)
    return file


def _write(
    codes: npt.NDArray[np.uint8],
    commits: Sequence[Mapping[str, tuple[list[bytes], list[bytes]]]],
    catalogue: Catalogue,
    file: int,
) -> tuple[float, float]:
    with mmap.mmap(file, codes.nbytes) as mapped:
        target = np.frombuffer(mapped, np.uint8).reshape(codes.shape)
        begun, own = time.perf_counter(), time.process_time()
        synced = begun
        for n, commit in enumerate(commits):
            rows = slice(n * BATCH * CODES, (n + 1) * BATCH * CODES)
            target[rows] = codes[rows]
            batch = catalogue.batch()
            for family, (keys, values) in commit.items():
                batch.put_many(family, keys, values)
            catalogue.write(batch)
            if time.perf_counter() - synced >= SYNC_EVERY_S or n == len(commits) - 1:
                os.fdatasync(file)
                catalogue.sync()
                synced = time.perf_counter()
        taken = (time.perf_counter() - begun, time.process_time() - own)
        del target
    return taken


def disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def code_bytes(pins: int) -> int:
    """Bytes of the codes of so many pins."""
    return pins * CODES * BITS // 8
