"""Whether a pin holds a dominant visual object, by the paper's rule (section 6, object detection for recommendation).

The proposals are the detector's after non-maximum suppression, which is what an object record holds; objects that
people cropped are none of them. The largest counts: it is dominant when it covers at least 25 % of the pin's picture or
its confidence is at least 0.9. A smaller proposal does not count, however confident.
"""

from __future__ import annotations

from collections.abc import Iterable

from discovery import boxes
from indexer.records_pb2 import DetectedObject


def dominant_object(objects: Iterable[DetectedObject]) -> DetectedObject | None:
    """The dominant object among a record's objects; None when there is none."""
    proposals = [one for one in objects if one.source == DetectedObject.SOURCE_DETECTOR]
    at = boxes.dominant([(boxes.of_message(one.box), one.score) for one in proposals])
    return None if at is None else proposals[at]
