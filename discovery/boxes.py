"""Boxes that people draw: checked once, at the edge, with an error that says what is wrong.

Boxes are x0, y0, x1, y1 in 0..1 of the upright picture, origin at top left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from discovery.ports import Box
from indexer.records_pb2 import Box as BoxMessage

MIN_SIDE = 0.005
"""Below this share of the picture a side holds a pixel or two: nothing could be seen in it."""

DOMINANT_SHARE = 0.25
DOMINANT_SCORE = 0.9
_FLOAT32 = 1e-6  # corners and scores of records are float32, in which 0.9 is 0.89999998


class BadBox(ValueError):
    """The box is inverted, outside of the picture, or empty; the message says which."""


def check(values: Sequence[float]) -> Box:
    """The box that four numbers make.

    Raises:
        BadBox: not four finite numbers, inverted, outside of the picture, or with a side under `MIN_SIDE`.
    """
    if len(values) != 4:
        raise BadBox(f"a box has 4 numbers x0, y0, x1, y1; these are {len(values)}")
    x0, y0, x1, y1 = (float(v) for v in values)
    if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
        raise BadBox("a box has finite numbers")
    if x1 < x0 or y1 < y0:
        raise BadBox(f"the box is inverted: x0 {x0:g} and x1 {x1:g}, y0 {y0:g} and y1 {y1:g}; x0 < x1 and y0 < y1")
    if x0 < 0 or y0 < 0 or x1 > 1 or y1 > 1:
        raise BadBox(f"the box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] lies outside of the picture; corners are in 0..1")
    if x1 - x0 < MIN_SIDE or y1 - y0 < MIN_SIDE:
        raise BadBox(f"the box is empty: {x1 - x0:g} wide and {y1 - y0:g} high; at least {MIN_SIDE} of the picture")
    return (x0, y0, x1, y1)


def parse(text: str) -> Box:
    """The box in a form field or on a command line: "x0,y0,x1,y1", with or without brackets.

    Raises:
        BadBox: as `check`, or something in it is no number.
    """
    if len(text) > 200:
        raise BadBox("a box is written x0,y0,x1,y1")
    try:
        return check([float(part) for part in text.strip().strip("[]()").split(",")])
    except BadBox:
        raise
    except ValueError:
        raise BadBox(f"{text!r} is no box; write x0,y0,x1,y1") from None


def of_message(box: BoxMessage) -> Box:
    """The plain box of a record."""
    return (box.x0, box.y0, box.x1, box.y1)


def area(box: Box) -> float:
    """Share of the picture, 0..1."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = area(one) + area(other) - shared
    return shared / union if union > 0 else 0.0


def dominant(objects: Sequence[tuple[Box, float]]) -> int | None:
    """The index of the dominant object: the largest one, if it covers >= 25 % of the picture or scores >= 0.9.

    Of equally large ones the more certain counts, then the first.

    Args:
        objects: (box, detector score) after non-maximum suppression.

    Source: section 6 of the paper.
    """
    if not objects:
        return None
    at = max(range(len(objects)), key=lambda i: (area(objects[i][0]), objects[i][1]))
    box, score = objects[at]
    return at if area(box) >= DOMINANT_SHARE - _FLOAT32 or score >= DOMINANT_SCORE - _FLOAT32 else None
