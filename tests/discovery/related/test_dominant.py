"""The paper's rule for a dominant object, case by case."""

from __future__ import annotations

import pytest

from discovery.related.dominant import dominant_object
from indexer.records_pb2 import Box, DetectedObject


def proposal(index: int, width: float, height: float, score: float, crops: bool = False) -> DetectedObject:
    source = DetectedObject.SOURCE_CROPS if crops else DetectedObject.SOURCE_DETECTOR
    return DetectedObject(index=index, box=Box(x0=0, y0=0, x1=width, y1=height), score=score, source=source)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([], None),
        ([proposal(0, 0.5, 0.5, 0.3)], 0),  # exactly 25 %
        ([proposal(0, 0.5, 0.49, 0.3)], None),
        ([proposal(0, 0.1, 0.1, 0.9)], 0),  # exactly 0.9, as float32
        ([proposal(0, 0.1, 0.1, 0.89)], None),
        ([proposal(0, 0.1, 0.1, 0.99), proposal(1, 0.3, 0.3, 0.5)], None),  # only the largest is asked
        ([proposal(0, 0.1, 0.1, 0.5), proposal(1, 0.3, 0.3, 0.95)], 1),
        ([proposal(0, 0.6, 0.6, 0.5), proposal(1, 0.6, 0.6, 0.8)], 1),  # equally large: the more confident
        ([proposal(0, 0.6, 0.6, 0.5), proposal(1, 0.6, 0.6, 0.5)], 0),  # equal in both: the lower index
        ([proposal(0, 1.0, 1.0, 1.0, crops=True)], None),
        ([proposal(0, 1.0, 1.0, 1.0, crops=True), proposal(1, 0.6, 0.6, 0.4)], 1),
    ],
)
def test_the_rule(objects: list[DetectedObject], expected: int | None) -> None:
    found = dominant_object(objects)
    assert (None if found is None else found.index) == expected
