"""`dotstream bench index`: the store side of the index, beside what the machine gives without it and beside peers.

Ingest: logged records of pins with a whole picture and three objects, decoded and applied in batches and synced every
100 ms, in interleaved windows with the same bytes put into a plain file and RocksDB; and partitions at once, a process
each. Then one large shard: size on disk, opening, opening after its writer was killed, search and visibility in another
process while 5,000 codes/s come in, and compaction after a third of its pins changed. Then how long very many
compactions of small segments hold the writer's lock while pins are updated without pause. Then stores that people use,
at a smaller size, codes only: durable appends, one exact query, and append-to-found.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from indexer.compaction import Compacted
from indexer.search import warm
from ops.bench._index_ingest import BATCH, code_bytes, disk_bytes, fill, ingest, together_codes_s
from ops.bench._index_live import PACE_CODES_S, live
from ops.bench._index_lock import COMPACTIONS, SLOTS, held
from ops.bench._index_peers import PEERS, Peer
from ops.bench._index_world import BITS, CODES, GENERATION, OBJECTS, Ours, open_shard, records
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say

PINS = 250_000
WINDOWS = 3
WINDOW_PINS = 25_000
PARTITIONS = 2
LIVE_S = 15.0
PEER_CODES = 50_000
PEER_BATCH = 2_000
PEER_QUERIES = 20
APPENDED = 50


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    measure().show(as_json=as_json)


def measure(
    pins: int = PINS,
    window_pins: int = WINDOW_PINS,
    live_s: float = LIVE_S,
    peer_codes: int = PEER_CODES,
    compactions: int = COMPACTIONS,
) -> Report:
    """Runs it at these sizes."""
    warm(BITS)
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        home = Path(folder)
        say("ingest, and the same bytes without an index")
        figures |= _ingest(home / "ingest", window_pins)
        say(f"a shard of {pins * CODES} codes")
        figures |= _large(home / GENERATION, pins, live_s)
        shutil.rmtree(home / GENERATION)
        say(f"{compactions} compactions while pins are updated")
        figures |= _lock(home / "lock" / GENERATION, compactions)
        say(f"peers at {peer_codes} codes")
        figures |= _peers(home / "peers", peer_codes)
    conditions = machine() | {
        "codes": f"{BITS} bits, random; {CODES} a pin: the whole picture and {OBJECTS} objects",
        "ingest": f"{WINDOWS} windows of {window_pins} pins, batches of {BATCH}, synced every 100 ms, medians",
        "partitions": f"{PARTITIONS} at once, a process each, {window_pins} pins in each",
        "shard": f"{pins} pins, {pins * CODES} codes",
        "live": f"{live_s:g} s each, the writer in a process of its own, {PACE_CODES_S} codes/s",
        "lock": f"segments of {SLOTS} slots, updates without pause; peer: what a process of its own waited for a core",
        "peers": f"{peer_codes} codes, durable batches of {PEER_BATCH}, k = 10, medians",
        "disk": "the folder for temporary files",
    }
    return Report("index", conditions, figures)


def _ingest(folder: Path, pins: int) -> dict[str, Figure]:
    windows = []
    for number in range(WINDOWS):
        windows.append(ingest(folder / str(number), pins))
        shutil.rmtree(folder / str(number))
    applied = statistics.median(window.apply for window in windows)
    raw = statistics.median(window.raw for window in windows)
    both = statistics.median(window.whole for window in windows)
    ratio = statistics.median(window.raw / window.apply for window in windows)
    together = statistics.median(together_codes_s(folder, pins, PARTITIONS) for _ in range(WINDOWS))
    computed = statistics.median(window.apply_cpu for window in windows)
    raw_computed = statistics.median(window.raw_cpu for window in windows)
    return {
        "ingest, objects": Figure(pins * OBJECTS / applied, "objects/s", limit=60_000),
        "ingest, codes": Figure(pins * CODES / applied, "codes/s", peer=pins * CODES / raw),
        "ingest, codes, from logged bytes": Figure(pins * CODES / both, "codes/s", peer=pins * CODES / raw),
        f"ingest, codes, from logged bytes, {PARTITIONS} partitions": Figure(together, "codes/s"),
        "ingest over the same bytes": Figure(ratio, "ratio", limit=0.8),
        "ingest, computing": Figure(computed / pins * 1e6, "µs/pin", peer=raw_computed / pins * 1e6),
    }


def _large(generation: Path, pins: int, live_s: float) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    shard = open_shard(generation)
    seconds = 0.0
    stream = records(pins)
    while chunk := list(islice(stream, 10_000)):
        seconds += fill(shard, chunk)
    figures["ingest into the large shard"] = Figure(pins * CODES / seconds, "codes/s")
    shard.close()
    size, codes = disk_bytes(generation), code_bytes(pins)
    figures["size on disk"] = Figure(size / codes, "of the codes", limit=1.1 + 200 * pins * CODES / codes)
    figures["size on disk without the codes"] = Figure((size - codes) / (pins * CODES), "bytes/code")
    figures["opening"] = Figure(_opening(generation), "s", limit=1.0)
    figures["opening after a kill"] = Figure(_recovery(generation, pins), "s", limit=2.0)
    seen = live(generation, pins + 4_000, live_s)
    figures |= {
        "search, nothing coming in, p50": Figure(_share(seen.idle_ms, 50), "ms"),
        "search, nothing coming in, p99": Figure(_share(seen.idle_ms, 99), "ms"),
        "search, codes coming in, p50": Figure(_share(seen.busy_ms, 50), "ms"),
        "search, codes coming in, p99": Figure(_share(seen.busy_ms, 99), "ms", limit=1.2 * _share(seen.idle_ms, 99)),
        "search, nothing coming in, computing, p99": Figure(_share(seen.idle_cpu_ms, 99), "ms"),
        "search, codes coming in, computing, p99": Figure(
            _share(seen.busy_cpu_ms, 99), "ms", limit=1.2 * _share(seen.idle_cpu_ms, 99)
        ),
        "codes coming in": Figure(seen.pace, "codes/s", limit=PACE_CODES_S),
        "append to visible in the writer, p50": Figure(_share(seen.applied_ms, 50), "ms"),
        "append to visible in the writer, p99": Figure(_share(seen.applied_ms, 99), "ms", limit=10.0),
        "append to visible elsewhere, p50": Figure(_share(seen.visible_ms, 50), "ms"),
        "append to visible elsewhere, p99": Figure(_share(seen.visible_ms, 99), "ms", limit=100.0),
    }
    return figures | _compaction(generation, pins)


def _opening(generation: Path) -> float:
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        shard = open_shard(generation)
        taken.append(time.perf_counter() - begun)
        shard.abandon()
    return statistics.median(taken)


def _recovery(generation: Path, pins: int) -> float:
    """Opens what a writer left that ended between syncs, with 100 ms and more of commits behind the last one."""
    shard = open_shard(generation)
    logged = list(records(4_000, start=pins, first=pins))
    for at in range(0, len(logged), BATCH):
        shard.apply(logged[at : at + BATCH])
    shard.abandon()  # leaves on the disk what a kill leaves
    begun = time.perf_counter()
    again = open_shard(generation)
    taken = time.perf_counter() - begun
    again.close()
    return taken


def _compaction(generation: Path, pins: int) -> dict[str, Figure]:
    """Updates a third of the pins of every segment, then compacts while more come in."""
    shard = open_shard(generation)
    start = shard.applied_offset + 1
    stream = records(pins // 3, start=start, every=3, version=9)
    while chunk := list(islice(stream, 10_000)):
        fill(shard, chunk)
    before = shard.counts()
    done: list[Compacted] = []
    begun = time.perf_counter()
    while (compacted := shard.compact(0.2)) is not None:
        done.append(compacted)
        shard.sync()
    seconds = time.perf_counter() - begun
    after = shard.counts()
    shard.close()
    moved = sum(each.kept for each in done)
    return {
        "compaction, dead slots before": Figure(before["dead_slots"], "slots"),
        "compaction, dead slots after": Figure(after["dead_slots"], "slots"),
        "compaction, codes moved": Figure(moved / seconds, "codes/s"),
        "compaction of whole segments, lock held at most": Figure(
            max((each.held_s for each in done), default=0) * 1000, "ms", limit=10.0
        ),
    }


def _lock(generation: Path, compactions: int) -> dict[str, Figure]:
    """How long many compactions hold the lock; peer: how long the machine lets any process wait for a core."""
    found = held(generation, compactions=compactions)
    count = len(found.seconds) + len(found.computed)
    figures = {"compactions under updates": Figure(count, "compactions", limit=compactions)}
    for name, percent in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("at most", 100)):
        limit = 10.0 if percent == 99.9 else None
        value, peer = _share(found.seconds, percent) * 1000, _share(found.stalls, percent) * 1000
        figures[f"compaction, lock held, {name}"] = Figure(value, "ms", peer=peer, limit=limit)
        computed = _share(found.computed, percent) * 1000
        figures[f"compaction, computing under the lock, {name}"] = Figure(computed, "ms", limit=limit)
    return figures | {"updates meanwhile": Figure(found.pins * CODES / found.taken, "codes/s")}


def _share(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent))


def _peers(folder: Path, count: int) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    makers: dict[str, Callable[[Path, int], Peer]] = {"dotstream": Ours, **PEERS}
    random = np.random.default_rng(3)
    codes = random.integers(0, 256, (count + APPENDED, BITS // 8), np.uint8)
    for name, make in makers.items():
        home = folder / name.replace(" ", "-")
        home.mkdir(parents=True)
        peer = make(home, BITS // 8)
        taken = 0.0
        for at in range(0, count, PEER_BATCH):
            rows = peer.rows(codes[at : min(at + PEER_BATCH, count)])
            begun = time.perf_counter()
            peer.add(rows)
            taken += time.perf_counter() - begun
        figures[f"{name}, durable appends"] = Figure(count / taken, "codes/s")
        asked: list[float] = []
        for n in range(PEER_QUERIES):
            begun = time.perf_counter()
            found = peer.nearest(codes[n], 10)
            asked.append((time.perf_counter() - begun) * 1000)
            assert found[0] == n, f"{name} did not find a code that it holds"  # noqa: S101  a wrong peer is no peer
        figures[f"{name}, one query"] = Figure(statistics.median(asked), "ms")
        visible: list[float] = []
        for n in range(count, count + APPENDED):
            rows = peer.rows(codes[n : n + 1])
            begun = time.perf_counter()
            peer.add(rows)
            while n not in peer.nearest(codes[n], 1):
                pass
            visible.append((time.perf_counter() - begun) * 1000)
        figures[f"{name}, append to found"] = Figure(statistics.median(visible), "ms")
        say(f"{name} done")
    return figures
