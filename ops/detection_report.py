"""What `dotstream eval detection` says: figures by detector and group, as JSON or a table like the paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from triton_models.detectors.metrics import OVERALL, Quality
from triton_models.detectors.predict import Latency

PAPER: Mapping[str, Mapping[str, float]] = {
    "Faster R-CNN": {
        "fashion precision": 0.449, "fashion recall": 0.474, "home_decor precision": 0.413, "home_decor recall": 0.466,
        "vehicles precision": 0.676, "vehicles recall": 0.625, "overall precision": 0.426, "overall recall": 0.470,
        "latency": 272,
    },
    "SSD": {
        "fashion precision": 0.473, "fashion recall": 0.387, "home_decor precision": 0.515, "home_decor recall": 0.360,
        "vehicles precision": 0.775, "vehicles recall": 0.775, "overall precision": 0.502, "overall recall": 0.371,
        "latency": 59,
    },
}  # fmt: skip
"""Table 3 of the paper: its own 79 categories and data, on a GPU of 2012 (the text says 93 ms for SSD)."""


@dataclass(frozen=True)
class Measured:
    """One detector on one data set.

    Attributes:
        name, weights, device: of the detector.
        threshold: least score that counted.
        unknown: its classes that the data does not have; their detections were left out.
        groups: quality by group, overall last.
        average_precision: of the COCO API.
        latency: of single pictures.
        reach: its `recall` is the share of objects that an anchor overlaps enough; None but for an SSD's checkpoint.
    """

    name: str
    weights: str
    device: str
    threshold: float
    unknown: Sequence[str]
    groups: Mapping[str, Quality]
    average_precision: Mapping[str, float]
    latency: Latency
    reach: Quality | None = None


def as_json(conditions: Mapping[str, Any], measured: Sequence[Measured]) -> dict[str, Any]:
    """The object of the contract: name, conditions, figures."""
    models = {
        one.name: {
            "weights": one.weights,
            "device": one.device,
            "threshold": one.threshold,
            "classes_not_in_data": list(one.unknown),
        }
        for one in measured
    }
    figures: dict[str, dict[str, Any]] = {}
    for one in measured:
        for group, quality in one.groups.items():
            figures[f"{one.name} {group} precision"] = _share(quality.precision, quality.precision_interval)
            figures[f"{one.name} {group} recall"] = _share(quality.recall, quality.recall_interval)
        for name, value in one.average_precision.items():
            figures[f"{one.name} {name}"] = {"value": _number(value), "unit": "share"}
        if one.reach is not None:
            figures[f"{one.name} anchors reach"] = _share(one.reach.recall, one.reach.recall_interval)
        figures[f"{one.name} latency p50"] = {"value": one.latency.p50, "unit": "ms"}
        figures[f"{one.name} latency p99"] = {"value": one.latency.p99, "unit": "ms"}
    return {"name": "detection", "conditions": {**conditions, "models": models}, "figures": figures}


def show(conditions: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """A table in the form of Table 3, with its figures beside, and the conditions."""
    table = Table(title=f"Detection at {conditions['iou']} IoU (paper's columns: its own data and GPU)")
    table.add_column("")
    for name in [*(one.name for one in measured), *(f"paper: {name}" for name in PAPER)]:
        table.add_column(f"{name}\nprecision", justify="right")
        table.add_column("\nrecall", justify="right")
    groups = dict.fromkeys(group for one in measured for group in one.groups if group != OVERALL)
    for group in [*groups, OVERALL]:
        cells = [cell for one in measured for cell in _cells(one.groups.get(group))]
        cells += [_paper(values, f"{group} {what}") for values in PAPER.values() for what in ("precision", "recall")]
        table.add_row(group.replace("_", " "), *cells)
    for name in ("AP", "AP50", "AP75"):
        table.add_row(name, *(cell for one in measured for cell in (f"{one.average_precision[name]:.3f}", "")))
    if any(one.reach is not None for one in measured):
        table.add_row(
            "objects that an anchor reaches", *(cell for one in measured for cell in ("", _cells(one.reach)[1]))
        )
    table.add_row(
        "latency p50 / p99",
        *(cell for one in measured for cell in (f"{one.latency.p50:.1f} ms", f"{one.latency.p99:.1f} ms")),
        *(cell for values in PAPER.values() for cell in (f"{values['latency']:.0f} ms", "")),
    )
    console = Console(width=max(Console().width, 70 + 50 * len(measured)))
    console.print(table)
    for name, value in conditions.items():
        console.print(f"{name}: {value}", highlight=False)
    for one in measured:
        console.print(f"{one.name}: {one.weights}; on {one.device}, score >= {one.threshold:.2f}", highlight=False)
        if one.unknown:
            console.print(f"  classes that the data does not have: {', '.join(one.unknown)}", highlight=False)


def _cells(quality: Quality | None) -> tuple[str, str]:
    if quality is None:
        return "-", "-"
    low, high = quality.precision_interval
    recall_low, recall_high = quality.recall_interval
    return (
        _with_interval(quality.precision, low, high),
        _with_interval(quality.recall, recall_low, recall_high),
    )


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.2f}-{high:.2f})" if value == value else "-"  # noqa: PLR0124  not NaN


def _paper(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else ""


def _share(value: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {"value": _number(value), "unit": "share", "interval_95": [_number(bound) for bound in interval]}


def _number(value: float) -> float | None:
    """JSON has no NaN: a share of nothing is null."""
    return None if value != value else round(value, 6)  # noqa: PLR0124  NaN is the one value unequal to itself
