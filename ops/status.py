"""What the running parts say of themselves: readiness by /readyz; lag, counts and freshness out of their /metrics."""

from __future__ import annotations

import http.client
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

PREFIX = "dotstream_"
ANSWER_LIMIT_S = 2.0


def measured(stack: Mapping[str, Any]) -> dict[str, Any]:
    """What stack.json says, corrected and completed by what each part answers now, all asked side by side.

    Returns:
        `ready`, of the whole; `parts` with `ready`, `lag` and `dead_letters`; `counts` and `freshness`. A part that
        does not answer /readyz with 200 in time is not ready, and one whose /metrics does not answer has no figures.
    """
    parts = {name: dict(part) for name, part in stack["parts"].items()}
    samples: list[Sample] = []
    with ThreadPoolExecutor(max(1, len(parts))) as asking:
        answers = asking.map(lambda name: _asked(_address(name, parts[name], stack)), parts)
    for part, (ready, found) in zip(parts.values(), answers, strict=True):
        part["ready"] = part["ready"] and ready
        if found:
            part["lag"] = int(sum(s.value for s in found if s.name == PREFIX + "consumer_lag_records"))
            part["dead_letters"] = int(sum(s.value for s in found if s.name == PREFIX + "dead_letters_total"))
        samples += found
    ready = stack["ready"] and all(part["ready"] for part in parts.values())
    return {"ready": ready, "parts": parts, "counts": _counts(samples), "freshness": freshness(samples)}


def _address(name: str, part: Mapping[str, Any], stack: Mapping[str, Any]) -> str | None:
    """Where the part serves /readyz, "host:port"; None for those that the supervisor asks in their own ways."""
    url = stack.get("api") if name == "api" else part.get("metrics")
    return urlsplit(url).netloc if url else None


def _asked(address: str | None) -> tuple[bool, list[Sample]]:
    """Whether the part says that it is ready, and its figures; a silent one is not asked a second time."""
    if address is None:
        return True, []
    status, _ = _get(address, "/readyz")
    if status is None:
        return False, []
    _, text = _get(address, "/metrics")
    try:
        found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        found = []
    return status == http.client.OK, found


def freshness(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Stage -> p50_ms, p99_ms and count, estimated within the histogram's buckets as Prometheus does."""
    buckets: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for sample in samples:
        if sample.name == PREFIX + "freshness_seconds_bucket":
            buckets[sample.labels["stage"]][float(sample.labels["le"])] += sample.value
    return {
        stage: {
            "p50_ms": round(quantile(0.5, counts) * 1000),
            "p99_ms": round(quantile(0.99, counts) * 1000),
            "count": int(max(counts.values())),
        }
        for stage, counts in buckets.items()
        if max(counts.values()) > 0
    }


def quantile(share: float, cumulative: Mapping[float, float]) -> float:
    """The value below which `share` of the observations lie; within a bucket they are taken as spread evenly.

    Args:
        share: 0..1.
        cumulative: upper bound of each bucket -> observations up to it, the last bound infinite.
    """
    bounds = sorted(cumulative)
    wanted = share * cumulative[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted and cumulative[bound] > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (cumulative[bound] - below)
        low, below = bound, cumulative[bound]
    return low


def _counts(samples: Iterable[Sample]) -> dict[str, int]:
    """What the index holds, by kind."""
    counts: dict[str, int] = defaultdict(int)
    for sample in samples:
        if sample.name == PREFIX + "index_size":
            counts[sample.labels["kind"]] += int(sample.value)
    return dict(counts)


def _get(address: str, path: str) -> tuple[int | None, str]:
    """Status and text of the answer; None when there is no answer in time."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()
