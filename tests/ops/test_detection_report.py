"""What `dotstream eval detection` says of two detectors: figures with intervals, and their differences."""

from __future__ import annotations

import json

import pytest

from ops.detection_report import Measured, as_json, differences, show
from tests.triton_models.detectors.answers import answer, sample
from triton_models.detectors.coco_ap import average_precision
from triton_models.detectors.labels import LabelMap
from triton_models.detectors.metrics import Answer, matched, qualities
from triton_models.detectors.predict import Latency

LABELS = LabelMap({"fashion": ("bag",), "vehicles": ("car",)})
TRUTHS = [sample([(0, 0, 10, 10, 0)])] * 40
FOUND, WRONG = answer([(0, 0, 10, 10, 0, 0.9)]), answer([(50, 50, 60, 60, 0, 0.8)])
CONDITIONS = {"iou": 0.7}


def measured(name: str, answers: list[Answer]) -> Measured:
    return Measured(
        name,
        "by hand",
        "cpu",
        0.5,
        (),
        qualities(matched(TRUTHS, answers, classes=2, iou=0.7), LABELS),
        average_precision(TRUTHS, answers, LABELS.names),
        Latency(1.0, 2.0, 3),
    )


ONE = measured("one", [FOUND if n % 2 else WRONG for n in range(40)])
TWO = measured("two", [FOUND] * 40)


def test_every_share_has_its_interval_and_every_further_detector_its_difference() -> None:
    figures = as_json(CONDITIONS, [ONE, TWO])["figures"]
    assert figures["one overall recall"]["value"] == 0.5
    assert figures["two AP"] == {"value": 1.0, "unit": "share", "interval_95": [1.0, 1.0]}
    difference = figures["two minus one fashion precision"]
    assert difference["value"] == 0.5 and 0.3 < difference["interval_95"][0] < 0.5 < difference["interval_95"][1] < 0.7
    low, high = ONE.groups["fashion"].precision.interval
    assert difference["interval_95"] == pytest.approx([1 - high, 1 - low], abs=1e-6)  # the other never errs
    json.dumps(figures, allow_nan=False)


def test_one_detector_alone_has_no_difference() -> None:
    assert differences([ONE]) == {}


def test_the_table_shows_intervals_and_differences(capsys: pytest.CaptureFixture[str]) -> None:
    show(CONDITIONS, [ONE, TWO])
    shown = capsys.readouterr().out
    show(CONDITIONS, [ONE, measured("mute", [answer([])] * 40)])
    assert "nan" not in capsys.readouterr().out
    assert "1.000 (1.000-1.000)" in shown and "two minus one overall recall: +0.500 [+0.3" in shown
