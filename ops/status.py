"""What the running parts say of themselves: lag, counts and freshness out of their /metrics."""

from __future__ import annotations

import http.client
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

PREFIX = "dotstream_"


def measured(stack: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to each part of stack.json its `lag` and `dead_letters`, and to the whole `counts` and `freshness`.

    A part whose /metrics does not answer is left as it is.
    """
    parts = {name: dict(part) for name, part in stack["parts"].items()}
    samples: list[Sample] = []
    for part in parts.values():
        found = _scrape(part.get("metrics"))
        if found:
            part["lag"] = int(sum(s.value for s in found if s.name == PREFIX + "consumer_lag_records"))
            part["dead_letters"] = int(sum(s.value for s in found if s.name == PREFIX + "dead_letters_total"))
        samples += found
    return {"parts": parts, "counts": _counts(samples), "freshness": freshness(samples)}


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


def _scrape(url: str | None) -> list[Sample]:
    if not url:
        return []
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=2)
    try:
        connection.request("GET", place.path)
        text = connection.getresponse().read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()
