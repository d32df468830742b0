"""`dotstream bench pipeline`: the whole pipeline against what the same Triton gives to a closed loop of ready tensors.

One private stack, interleaved windows. Closed loop: threads that send ready tensors of the same pictures, at the best
concurrency found beforehand. Pipeline: a burst of pins with distinct picture files (so that no result is cached),
timed from the first to the last dot record. Lone pins: one at a time with the stack idle, event to dot as a consumer of
`dots` sees it, beside the time of the same picture's own two Triton calls. Idle: CPU time of every Python process.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import Consumer, TopicPartition

from dotstream.errors import Unavailable
from ops.bench._closed import best_shape, call, closed_loop
from ops.bench._pictures import distinct, jpegs, ready
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say
from ops.local.stack import LocalStack, local_stack
from ops.models import triton_client, vision_settings
from ops.settings import Settings, load
from producers.events_pb2 import PinEvent
from producers.publisher import Publisher
from triton_models.calls import Unobserved
from triton_models.client import TritonClient

WINDOWS = 5
CLOSED_S = 8.0
BURST = 300
LONE = 40
IDLE_S = 10.0
LIMIT_S = 120.0


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        loaded = load(None, {"data": Path(folder), "api.port": 0})
        stop = threading.Event()
        with local_stack(loaded, progress=say) as stack:
            stack.start(stop)
            watching = threading.Thread(target=stack.watch, args=(stop,), daemon=True)
            watching.start()
            try:
                _measure(stack).show(as_json=as_json)
            finally:
                stop.set()
                watching.join(10)


def _measure(stack: LocalStack) -> Report:
    settings = stack.settings.model_copy(
        update={"triton": stack.settings.triton.model_copy(update={"address": stack.triton})}
    )
    files = jpegs(settings.cache_folder, say)
    bench = Bench(stack, settings, files)
    try:
        return bench.run()
    finally:
        bench.close()


@dataclass(frozen=True)
class Window:
    closed: float  # pictures/s
    pipeline: float  # pins/s


class Bench:
    """One run over a started stack."""

    def __init__(self, stack: LocalStack, settings: Settings, files: Sequence[bytes]) -> None:
        self._stack = stack
        self._settings = settings
        self._files = files
        self._client: TritonClient = triton_client(settings, Unobserved())
        self._ready = ready(self._client, files, vision_settings(settings))
        self._publisher = Publisher(stack.connection)
        self._dots = DotWatch(stack)
        self._number = 0

    def close(self) -> None:
        self._dots.close()
        self._publisher.close()
        self._client.close()

    def run(self) -> Report:
        say("warming up")
        self._burst(60)
        shape = best_shape(self._client, self._ready)
        windows = []
        spent: dict[str, float] = {}
        for number in range(WINDOWS):
            closed = closed_loop(self._client, self._ready, shape, CLOSED_S)
            before = cpu_by_part(self._stack)
            windows.append(Window(closed, self._burst(BURST)))
            for part, seconds in cpu_by_part(self._stack).items():
                spent[part] = spent.get(part, 0.0) + seconds - before.get(part, 0.0)
            say(f"window {number + 1}: closed {windows[-1].closed:.1f}/s, pipeline {windows[-1].pipeline:.1f}/s")
        lone, own = self._lone(LONE)
        idle = self._idle(IDLE_S)
        closed = statistics.median(w.closed for w in windows)
        crops = statistics.mean(len(r.crops) for r in self._ready)
        conditions = machine() | {
            "pictures": f"{len(self._files)} photographs, {crops:.2f} crops each with the whole",
            "closed loop": str(shape),
            "windows": f"{WINDOWS}, interleaved, medians; pipeline bursts of {BURST} pins",
            "lone pins": LONE,
        }
        return Report(
            "pipeline",
            conditions,
            {
                "pipeline": Figure(statistics.median(w.pipeline for w in windows), "pins/s", peer=closed),
                "pipeline over closed loop": Figure(
                    statistics.median(w.pipeline / w.closed for w in windows), "ratio", limit=1.0
                ),
                "event to dot p50": Figure(_percentile(lone, 50), "ms", peer=_percentile(own, 50)),
                "event to dot p99": Figure(_percentile(lone, 99), "ms", peer=_percentile(own, 99)),
                "event to dot over own calls": Figure(
                    _percentile(lone, 50) / _percentile(own, 50), "ratio of p50", limit=1.0
                ),
                "idle Python processes": Figure(idle, "% of one core"),
            }
            | {
                f"CPU of {part}": Figure(seconds * 1000 / (WINDOWS * BURST), "ms per pin")
                for part, seconds in spent.items()
            },
        )

    def _publish(self, picture: int) -> str:
        self._number += 1
        pin_id = f"bench-{uuid.uuid4()}"
        data = distinct(self._files[picture % len(self._files)], self._number)
        now = time.time_ns() // 1_000_000
        self._publisher.pin(
            PinEvent(
                pin_id=pin_id,
                kind=PinEvent.KIND_CREATED,
                image=PinEvent.Image(inline=data),
                board_id="bench",
                annotations=["bench"],
                event_time=now,
                version=now,
            )
        )
        return pin_id

    def _burst(self, count: int) -> float:
        """Pins per second between the first and the last dot record of a burst."""
        wanted = {self._publish(number) for number in range(count)}
        self._publisher.flush(LIMIT_S)
        times = sorted(self._dots.wait(wanted).values())
        return (count - 1) / (times[-1] - times[0])

    def _lone(self, count: int) -> tuple[list[float], list[float]]:
        """(event to dot, own Triton calls) of single pins, milliseconds."""
        lone, own = [], []
        for number in range(count):
            started = time.monotonic()
            call(self._client, [self._ready[number % len(self._ready)]])
            own.append((time.monotonic() - started) * 1000)
            started = time.monotonic()
            pin_id = self._publish(number)
            self._publisher.flush(LIMIT_S)
            lone.append((self._dots.wait({pin_id})[pin_id] - started) * 1000)
        return lone, own

    def _idle(self, seconds: float) -> float:
        """Share of one core that all Python processes of the stack use together while nothing happens, in percent."""
        pythons = [
            p for p in psutil.Process().children(recursive=True) if "python" in p.name() or "triton_python" in p.name()
        ]
        before = {p.pid: sum(p.cpu_times()[:2]) for p in pythons}
        self._dots.pause(seconds)
        return sum(sum(p.cpu_times()[:2]) - before[p.pid] for p in pythons) / seconds * 100


def cpu_by_part(stack: LocalStack) -> dict[str, float]:
    """CPU seconds that each part of the stack has used, its child processes included."""
    found = {}
    for part, facts in stack.facts()["parts"].items():
        if facts["pid"]:
            process = psutil.Process(facts["pid"])
            family = [process, *process.children(recursive=True)]
            found[part] = float(sum(sum(p.cpu_times()[:2]) for p in family))
    return found


class DotWatch:
    """A consumer of `dots` that remembers when each pin's record came, in monotonic seconds."""

    def __init__(self, stack: LocalStack) -> None:
        config: dict[str, Any] = {"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed"}
        self._consumer = Consumer(stack.connection.config(**config))
        known = self._consumer.list_topics("dots", timeout=LIMIT_S).topics["dots"].partitions
        parts = [TopicPartition("dots", number) for number in known]
        for part in parts:
            part.offset = self._consumer.get_watermark_offsets(part, timeout=LIMIT_S)[1]
        self._consumer.assign(parts)

    def wait(self, wanted: set[str]) -> dict[str, float]:
        """Blocks until every pin has its record.

        Raises:
            Unavailable: not within the limit.
        """
        times: dict[str, float] = {}
        deadline = time.monotonic() + LIMIT_S
        while len(times) < len(wanted):
            if time.monotonic() > deadline:
                raise Unavailable(f"{len(times)} of {len(wanted)} dot records came within {LIMIT_S:.0f} s")
            first = self._consumer.poll(0.5)
            for message in [] if first is None else [first, *self._consumer.consume(500, 0)]:
                pin_id = (message.key() or b"").decode()
                if message.error() is None and pin_id in wanted:
                    times.setdefault(pin_id, time.monotonic())
        return times

    def pause(self, seconds: float) -> None:
        """Waits while nothing is expected."""
        self._consumer.poll(seconds)

    def close(self) -> None:
        self._consumer.close()


def _percentile(values: Sequence[float], share: int) -> float:
    return float(np.percentile(values, share))
