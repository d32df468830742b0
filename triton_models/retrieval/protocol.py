"""Who asks and who is found: section 4's protocol and its Pascal variant, by a split that the seed decides.

Some pictures are queries, all others are the gallery. A result is relevant when its label is the query's. Where several
pictures show the same object, the query's own object is left out of its results: to find it again would be no merit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from triton_models.data.seeds import generator

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """How queries are drawn.

    Attributes:
        queries: so many at random (the paper's 2,000), at most half of the pictures; ignored when `per_class` is given.
        per_class: so many of each class (the paper's 25 on Pascal VOC 2011), at most half of a class.
        seed: of the draw.
    """

    queries: int = 2000
    per_class: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 1 or (self.per_class is not None and self.per_class < 1):
            raise Misconfigured(f"at least one query is needed: {self}")


@dataclass(frozen=True)
class Split:
    """Places of pictures in the data's order.

    Attributes:
        queries: sorted.
        gallery: in random order, so that equal distances, which are ranked by it, favour no label.
        unanswerable: pictures that may not be queries, as the gallery holds nothing relevant to them: it has no other
            object of their label. They stay in the gallery.
    """

    queries: Places
    gallery: Places
    unanswerable: int


def split(labels: Sequence[str], objects: Sequence[str], protocol: Protocol) -> Split:
    """Draws queries and gallery.

    Args:
        labels: of each picture.
        objects: of each picture; those of one object share it.
        protocol: how.

    Raises:
        Misconfigured: no label has two objects.
    """
    objects_of: dict[str, set[str]] = {}
    for label, thing in zip(labels, objects, strict=True):
        objects_of.setdefault(label, set()).add(thing)
    answerable = np.array([len(objects_of[label]) > 1 for label in labels])
    if not answerable.any():
        raise Misconfigured("no label has pictures of two objects: nothing relevant can be found")
    order = generator(protocol.seed, "queries").permutation(len(labels))
    drawn = _per_class(order, labels, answerable, protocol.per_class) if protocol.per_class else None
    if drawn is None:
        candidates = order[answerable[order]]
        drawn = candidates[: min(protocol.queries, len(labels) // 2)]
    asked = np.zeros(len(labels), bool)
    asked[drawn] = True
    lonely = _without_answer(asked, labels, objects)
    asked[lonely] = False
    gallery = generator(protocol.seed, "gallery").permutation(np.flatnonzero(~asked))
    return Split(np.flatnonzero(asked), gallery, int((~answerable).sum()) + len(lonely))


def _without_answer(asked: NDArray[np.bool_], labels: Sequence[str], objects: Sequence[str]) -> list[int]:
    """Queries of which the draw left no other object of their label in the gallery."""
    left: dict[str, set[str]] = {}
    for place in np.flatnonzero(~asked).tolist():
        left.setdefault(labels[place], set()).add(objects[place])
    return [place for place in np.flatnonzero(asked).tolist() if left.get(labels[place], set()) <= {objects[place]}]


def _per_class(order: Places, labels: Sequence[str], answerable: NDArray[np.bool_], count: int) -> Places:
    size: dict[str, int] = {}
    for label in labels:
        size[label] = size.get(label, 0) + 1
    taken: dict[str, int] = {}
    drawn = []
    for place in order:
        label = labels[place]
        if answerable[place] and taken.get(label, 0) < min(count, size[label] // 2):
            taken[label] = taken.get(label, 0) + 1
            drawn.append(place)
    return np.array(drawn, np.int64)
