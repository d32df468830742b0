"""What `dotstream eval detection` says: figures by detector and group, as JSON or a table like the paper's Table 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from triton_models.detectors.metrics import OVERALL, Quality
from triton_models.detectors.predict import Latency
from triton_models.detectors.resampling import Estimate

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
    average_precision: Mapping[str, Estimate]
    latency: Latency
    reach: Quality | None = None

    def estimates(self) -> dict[str, Estimate]:
        """All figures that have an interval, by name; of the pictures, not of the anchors."""
        shares = {
            f"{group} {what}": estimate
            for group, quality in self.groups.items()
            for what, estimate in (("precision", quality.precision), ("recall", quality.recall))
        }
        return {**shares, **self.average_precision}


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
        for name, estimate in one.estimates().items():
            figures[f"{one.name} {name}"] = _figure(estimate, "share")
        if one.reach is not None:
            figures[f"{one.name} anchors reach"] = _figure(one.reach.recall, "share")
        figures[f"{one.name} latency p50"] = {"value": one.latency.p50, "unit": "ms"}
        figures[f"{one.name} latency p99"] = {"value": one.latency.p99, "unit": "ms"}
    for said, estimate in differences(measured).items():
        figures[said] = _figure(estimate, "difference of shares")
    return {"name": "detection", "conditions": {**conditions, "models": models}, "figures": figures}


def differences(measured: Sequence[Measured]) -> dict[str, Estimate]:
    """What each further detector has more than the first, on the same draws of pictures."""
    first, *others = measured
    base = first.estimates()
    return {
        f"{other.name} minus {first.name} {name}": estimate.minus(base[name])
        for other in others
        for name, estimate in other.estimates().items()
        if name in base
    }


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
        table.add_row(name, *(cell for one in measured for cell in (_said(one.average_precision[name]), "")))
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
    for said, estimate in differences(measured).items():
        if math.isnan(estimate.value):  # one of the two has nothing to share
            continue
        low, high = estimate.interval
        console.print(f"{said}: {estimate.value:+.3f} [{low:+.3f}, {high:+.3f}]", highlight=False)
    for name, value in conditions.items():
        console.print(f"{name}: {value}", highlight=False)
    for one in measured:
        console.print(f"{one.name}: {one.weights}; on {one.device}, score >= {one.threshold:.2f}", highlight=False)
        if one.unknown:
            console.print(f"  classes that the data does not have: {', '.join(one.unknown)}", highlight=False)


def _cells(quality: Quality | None) -> tuple[str, str]:
    return ("-", "-") if quality is None else (_said(quality.precision), _said(quality.recall))


def _said(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "-"
    low, high = estimate.interval
    return f"{estimate.value:.3f} ({low:.3f}-{high:.3f})"


def _paper(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else ""


def _figure(estimate: Estimate, unit: str) -> dict[str, Any]:
    return {
        "value": _number(estimate.value),
        "unit": unit,
        "interval_95": [_number(bound) for bound in estimate.interval],
    }


def _number(value: float) -> float | None:
    """JSON has no NaN: a share of nothing is null."""
    return None if math.isnan(value) else round(value, 6)
