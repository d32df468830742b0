"""Shop-the-Look's curated part (section 7 of the paper): products that experts attached to what the query lies on.

A tag names an object of the pin, or a box, or neither, which stands for the whole picture. It belongs to a query when
it names the same object, when its box overlaps the query's by `SAME_OBJECT_IOU`, or when either of the two is the whole
picture. A product is answered only while its own pin is live and passes the filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from discovery import boxes
from discovery.filters import Filters
from discovery.ports import Hit, Index, Tags
from discovery.subjects import SAME_OBJECT_IOU, Subject
from indexer.records import searched_codes, top_category
from indexer.records_pb2 import ObjectRecord
from indexer.tags import Tagged

MAX_PRODUCTS = 20


@dataclass(frozen=True, slots=True)
class Product:
    """A curated product as a hit: its own best code against the query's."""

    pin_id: str
    object_index: int | None
    distance: int
    similarity: float
    record: ObjectRecord


def attached(index: Index, tags: Tags, subject: Subject, filters: Filters) -> list[Hit]:
    """The products attached to the query, the most similar first; none for an uploaded picture.

    Raises:
        Retryable: the tag store is away.
    """
    record, code = subject.record, subject.code
    if record is None or code is None:
        return []
    tagged = dict.fromkeys(tag.product_pin_id for tag in tags.of(record.pin_id) if _belongs(tag, subject))
    found: list[Hit] = []
    for entry in index.pins([pin_id for pin_id in tagged if pin_id != record.pin_id]):
        if len(found) == MAX_PRODUCTS:
            break
        if entry is None or entry.record.deleted:
            continue
        hit = _product(entry.record, code, filters.label)
        if hit is not None and _is_wanted(hit, filters):
            found.append(hit)
    return sorted(found, key=lambda hit: (hit.distance, hit.pin_id))


def _belongs(tag: Tagged, subject: Subject) -> bool:
    box = subject.query.box
    if box is None:
        return True
    if tag.object_index is not None:
        return tag.object_index == subject.known_object
    return tag.box is None or boxes.overlap(tag.box, box) >= SAME_OBJECT_IOU


def _product(record: ObjectRecord, code: bytes, label: str | None) -> Hit | None:
    """The pin's best code, with a label that of its objects of the label; None where it has none of them."""
    labelled = {item.index for item in record.objects if item.label == label}
    places = [place for place in searched_codes(record) if label is None or place[0] in labelled]
    if not places:
        return None
    codes = np.frombuffer(b"".join(bits for _, bits in places), np.uint8).reshape(len(places), -1)
    distances = np.bitwise_count(codes ^ np.frombuffer(code, np.uint8)).sum(axis=1, dtype=np.int64)
    at = int(np.argmin(distances))
    index = places[at][0]
    distance = int(distances[at])
    return Product(record.pin_id, None if index < 0 else index, distance, 1 - distance / (len(code) * 8), record)


def _is_wanted(hit: Hit, filters: Filters) -> bool:
    record = hit.record
    return (
        (filters.buyable is None or record.buyable == filters.buyable)
        and (filters.category is None or top_category(record) == filters.category)
        and filters.passes(hit)
    )
