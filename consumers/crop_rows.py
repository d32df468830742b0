"""The crops that people made on one pin: which are remembered, and which boxes many of them agree on (section 1, P47).

A crop is a vote for a box. A row holds the votes of one pin as a set of (person, box) with the latest time of each, so
that it is the same whatever the order and the repetitions of the events. It is bounded: the newest `PER_PERSON` of each
person, and of these the newest `PER_PIN`, none older than `WINDOW_MS` at the log's time of the last event of the pin.

Row, big endian, version 1: version u8, then for each vote, ascending by (time, person, box):

    person 8 bytes | time i64 ms | x0, y0, x1, y1 f32
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.errors import ForeignFormat
from producers.events_pb2 import EngagementEvent

FORMAT = 1
PER_PERSON = 4
PER_PIN = 64
WINDOW_MS = 30 * 86_400_000
_VOTE = struct.Struct(">8sq4f")

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0..1 of the upright picture."""


@dataclass(frozen=True, order=True, slots=True)
class Vote:
    """One person's crop; `time` in Unix milliseconds."""

    time: int
    person: bytes
    box: Box


@dataclass(frozen=True, slots=True)
class Agreed:
    """A box that `people` distinct people cropped."""

    box: Box
    people: int


def vote_of(event: EngagementEvent, logged_ms: int) -> Vote:
    """The vote of a crop event.

    A person is a user, else a request, as far as the event names one; events without either count one by one. Only a
    hash of them is kept. A time after the log's own is that: a clock that is wrong must not age all others.
    """
    box = _f32(event.box.x0, event.box.y0, event.box.x1, event.box.y1)
    if event.user_id:
        who = f"u{event.user_id}"
    elif event.request_id:
        who = f"r{event.request_id}"
    else:
        who = f"e{event.event_time}/{box}"
    return Vote(min(event.event_time, logged_ms), hashlib.blake2b(who.encode(), digest_size=8).digest(), box)


def joined(votes: Iterable[Vote], now_ms: int) -> list[Vote]:
    """The set that a row holds of these votes at a time, ascending; empty when all are older than the window."""
    latest: dict[tuple[bytes, Box], Vote] = {}
    for vote in recent(votes, now_ms):
        known = latest.get((vote.person, vote.box))
        if known is None or vote.time > known.time:
            latest[vote.person, vote.box] = vote
    newest_first = sorted(latest.values(), reverse=True)
    kept: list[Vote] = []
    counts: dict[bytes, int] = {}
    for vote in newest_first:
        if len(kept) == PER_PIN:
            break
        if counts.get(vote.person, 0) < PER_PERSON:
            counts[vote.person] = counts.get(vote.person, 0) + 1
            kept.append(vote)
    return kept[::-1]


def recent(votes: Iterable[Vote], now_ms: int) -> list[Vote]:
    """Those that are within the window at a time, Unix ms."""
    return [vote for vote in votes if vote.time >= now_ms - WINDOW_MS]


def pack(votes: Sequence[Vote]) -> bytes:
    """A row's bytes."""
    return bytes([FORMAT]) + b"".join(_VOTE.pack(vote.person, vote.time, *vote.box) for vote in votes)


def unpack(row: bytes | None) -> list[Vote]:
    """The votes of a row; none of an absent one.

    Raises:
        ForeignFormat: the row is of another version.
    """
    if row is None:
        return []
    if row[0] != FORMAT:
        raise ForeignFormat(f"crops in format {row[0]}; this software reads format {FORMAT}")
    return [Vote(time, person, (x0, y0, x1, y1)) for person, time, x0, y0, x1, y1 in _VOTE.iter_unpack(row[1:])]


def agreed(votes: Sequence[Vote], *, people_min: int, iou_min: float) -> list[Agreed]:
    """The boxes on which enough people agree, most people first.

    Again and again the vote that most people overlap by at least `iou_min` gathers them; each person counts once, with
    the newest of the gathered votes, and the box is the median of these, corner by corner. Ties go to the first vote
    of the row, so that the same row gives the same boxes.

    Args:
        votes: of one pin.
        people_min: least number of distinct people.
        iou_min: intersection over union from which two boxes are of the same thing, 0..1.
    """
    left = list(votes)
    found: list[Agreed] = []
    while left:
        boxes = np.array([vote.box for vote in left], np.float64)
        near = overlaps(boxes, boxes) >= iou_min
        people = [len({left[i].person for i in np.flatnonzero(row)}) for row in near]
        best = int(np.argmax(people))
        if people[best] < people_min:
            break
        gathered = [left[i] for i in np.flatnonzero(near[best])]
        newest = {vote.person: vote.box for vote in sorted(gathered)}
        x0, y0, x1, y1 = (float(corner) for corner in np.median(np.array(list(newest.values())), axis=0))
        found.append(Agreed((x0, y0, x1, y1), len(newest)))
        left = [vote for vote, is_near in zip(left, near[best], strict=True) if not is_near]
    return found


def overlaps(some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each of `some` [n, 4] with each of `others` [m, 4]: float64 [n, m]."""
    corner = np.maximum(some[:, None, :2], others[None, :, :2])
    shared = np.prod(np.clip(np.minimum(some[:, None, 2:], others[None, :, 2:]) - corner, 0, None), axis=2)
    areas = np.prod(some[:, 2:] - some[:, :2], axis=1)[:, None] + np.prod(others[:, 2:] - others[:, :2], axis=1)[None]
    union = areas - shared
    result: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _f32(*corners: float) -> Box:
    x0, y0, x1, y1 = (struct.unpack(">f", struct.pack(">f", corner))[0] for corner in corners)
    return x0, y0, x1, y1
