"""Every metric of the stream workers, declared once: name, unit, and what to do when it looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from triton_models.breaker import State

FRESHNESS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DOT_OUTCOMES = (
    "signals",
    "cold_start",
    "no_objects",
    "low_score",
    "low_similarity",
    "low_annotation",
    "low_conformity",
)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class WorkerMetrics:
    """The metrics of one worker process, all labelled with its role."""

    def __init__(self, role: str, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dotstream_{name}", text, ["role", *labels], registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"dotstream_{name}", text, ["role", *labels], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"dotstream_{name}", text, ["role", *labels], buckets=buckets, registry=registry)

        self.role = role
        self.consumed = counter("consumed_records", "Records read and settled.").labels(role)
        self.published = counter("published_records", "Records written and committed.").labels(role)
        self._dead = counter(
            "dead_letters", "Records sent to the dead letters. Rising: `dotstream dead list`.", "reason"
        )
        self._errors = counter(
            "retryable_errors", "Errors after which work is tried again. Rising: look at the named kind.", "kind"
        )
        self.rebuilds = counter("log_rebuilds", "Times the Kafka clients were rebuilt after an error.").labels(role)
        self.batch_size = histogram("batch_records", "Records in one batch.", SIZE_BUCKETS).labels(role)
        self._stage = histogram("stage_seconds", "Time spent in a stage of the work.", STAGE_BUCKETS, "stage")
        self._lag = gauge("consumer_lag_records", "Records behind the end. Rising: add workers.", "topic", "partition")
        self.oldest_seconds = gauge(
            "oldest_unprocessed_seconds", "Age of the oldest event taken but not settled; 0 when there is none."
        ).labels(role)
        self._freshness = histogram(
            "freshness_seconds", "From the event's own time to the named stage.", FRESHNESS_BUCKETS, "stage"
        )
        self._device_failures = counter(
            "device_failures", "Searches that failed on the GPU and were answered by the CPU; see the log.", "reason"
        )
        self._device_bytes = gauge("device_bytes", "Codes and offsets on the GPU.").labels(role)
        self._device_rows_left = gauge(
            "device_rows_left", "Codes that did not fit on the GPU. Above 0: raise index.device_bytes."
        ).labels(role)
        self._cache = counter("vision_cache_requests", "Look-ups of vision results by outcome.", "outcome")
        self._triton = counter("triton_requests", "Calls to Triton by model and outcome.", "model", "outcome")
        self._triton_rows = counter("triton_rows", "Pictures or crops sent to Triton.", "model")
        self._breaker = gauge("triton_breaker", "1 for the circuit breaker's present state.", "model", "state")
        self._triton_retries = counter("triton_retries", "Calls to Triton that were tried again.", "model")
        self._triton_seconds = histogram("triton_seconds", "Time of one call to Triton.", STAGE_BUCKETS, "model")
        self._index = gauge("index_size", "What the shards of this worker hold.", "partition", "kind")
        self._offsets = gauge("index_offset", "Applied and durable offset of a shard.", "partition", "kind")
        self._state_offsets = gauge(
            "state_offset", "Applied and durable offset of a worker's local state.", "topic", "partition", "kind"
        )
        self._coverage = gauge(
            "dot_pins",
            "Live pins by what their dots came to: shown by `signals` or `cold_start`, or why none is.",
            "partition",
            "outcome",
        )
        self._covered: set[int] = set()
        self._again = counter(
            "dots_decided_again",
            "Pins whose dots were decided again, by what made them due; `not now`: put off.",
            "trigger",
        )
        self._crop_objects = counter(
            "crop_objects", "Boxes that many people cropped: `added` to their pin, or why they could not be.", "outcome"
        )
        self.paused = gauge("paused", "1 while the worker waits for something that is away; its log says what.").labels(
            role
        )

    def dead(self, reason: str) -> None:
        self._dead.labels(self.role, reason).inc()

    def error(self, kind: str) -> None:
        self._errors.labels(self.role, kind).inc()

    def stage(self, name: str, seconds: float) -> None:
        self._stage.labels(self.role, name).observe(seconds)

    def lag(self, topic: str, partition: int, records: int) -> None:
        self._lag.labels(self.role, topic, str(partition)).set(records)

    def forget_lag(self) -> None:
        """Partitions have gone: what stays assigned is set again at the next look."""
        self._lag.clear()

    def freshness(self, stage: str, milliseconds: int) -> None:
        """Clocks differ: an event from the future counts as fresh, never as negative."""
        self._freshness.labels(self.role, stage).observe(max(0, milliseconds) / 1000)

    def fell_back(self, reason: str) -> None:
        """The CPU answered a search that failed on the GPU."""
        self._device_failures.labels(self.role, reason).inc()

    def holds(self, held: int, left: int) -> None:
        """So many bytes lie on the GPU, and so many rows of the last search did not fit."""
        self._device_bytes.set(held)
        self._device_rows_left.set(left)

    def cache(self, outcome: str) -> None:
        self._cache.labels(self.role, outcome).inc()

    def index(self, partition: int, *, sizes: dict[str, int], offsets: dict[str, int]) -> None:
        for kind, value in sizes.items():
            self._index.labels(self.role, str(partition), kind).set(value)
        for kind, value in offsets.items():
            self._offsets.labels(self.role, str(partition), kind).set(value)

    def state(self, topic: str, partition: int, *, applied: int, durable: int) -> None:
        self._state_offsets.labels(self.role, topic, str(partition), "applied").set(applied)
        self._state_offsets.labels(self.role, topic, str(partition), "durable").set(durable)

    def coverage(self, pins: Mapping[int, Mapping[str, int]]) -> None:
        """Partition -> outcome -> pins (consumers/dot_ledger.py); other partitions are another worker's to tell of."""
        for partition in self._covered - pins.keys():
            for outcome in DOT_OUTCOMES:
                self._coverage.remove(self.role, str(partition), outcome)
        self._covered = set(pins)
        for partition, counts in pins.items():
            for outcome in DOT_OUTCOMES:
                self._coverage.labels(self.role, str(partition), outcome).set(counts.get(outcome, 0))

    def decided_again(self, trigger: str) -> None:
        self._again.labels(self.role, trigger).inc()

    def crop_objects(self, outcome: str, count: int) -> None:
        self._crop_objects.labels(self.role, outcome).inc(count)

    def inferred(self, model: str, *, rows: int, seconds: float, retries: int, outcome: str) -> None:
        """See `triton_models.calls.Observer`."""
        self._triton.labels(self.role, model, outcome).inc()
        self._triton_rows.labels(self.role, model).inc(rows)
        self._triton_seconds.labels(self.role, model).observe(seconds)
        if retries:
            self._triton_retries.labels(self.role, model).inc(retries)

    def breaker_changed(self, model: str, state: State) -> None:
        """See `triton_models.calls.Observer`."""
        for each in type(state):
            self._breaker.labels(self.role, model, each.name.lower()).set(each == state)
