"""Light-weight re-ranking of Flashlight's candidates (section 7 of the paper) and near-duplicate suppression.

    score = similarity + annotations * A + category * C + engagement * E

    similarity  1 - Hamming distance / bits of the best matching code                                    (0..1)
    A           cosine of the annotations of the query's pin and the result, weighted by idf             (0..1)
    C           cosine of their category weights                                                         (0..1)
    E           n / (n + E_HALF), n the decayed engagement of this result for this query object          (0..1)

    idf(a) = ln((1 + N) / (1 + df(a))), as in indexer/signals.py

A crop of an uploaded picture has no metadata: A and C are then 0 and the order is that of the codes, as the paper has
it. The weights are `Weights`; they are small, because the metadata is that of the whole picture, not of the crop.

Two results are near-duplicates when they show the same picture (sha256) or when the codes of their whole pictures
differ in at most `near_duplicate` of the bits. The best ranked of them stays and names the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from discovery.ports import Hit
from indexer.records_pb2 import ObjectRecord
from indexer.signals import DocumentFrequency

E_HALF = 5.0
"""Engagement at which a result gets half of the boost: five clicks of today, say."""
DUPLICATES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Weights:
    """What each part adds to the similarity at most, and when pictures are near-duplicates.

    Attributes:
        annotations, category, engagement: of the formula above.
        near_duplicate: share of the bits of the whole picture's code.
    """

    annotations: float = 0.05
    category: float = 0.03
    engagement: float = 0.10
    near_duplicate: float = 0.10


@dataclass(frozen=True, slots=True)
class Ranked:
    """A result with its score.

    Attributes:
        hit: the best code of its pin.
        score: by the formula; results are in its order.
        engagement: E of the formula.
        curated: an expert attached it to the query.
        duplicates: pins with nearly the same picture, best first.
    """

    hit: Hit
    score: float
    engagement: float = 0.0
    curated: bool = False
    duplicates: Sequence[str] = field(default=())


def rerank(
    hits: Sequence[Hit],
    query: ObjectRecord | None,
    engagement: Mapping[str, float],
    weights: Weights,
    document_frequency: DocumentFrequency,
) -> list[Ranked]:
    """The hits by score, best first; ties by distance and pin.

    `query` is the record of the query's pin, None for an uploaded picture; `engagement` is result pin -> decayed
    engagement for this query object.
    """
    cosines = _annotation_cosines(query, hits, document_frequency) if weights.annotations else [0.0] * len(hits)
    ranked: list[Ranked] = []
    for hit, words in zip(hits, cosines, strict=True):
        category = 0.0 if query is None else cosine(query.category_weights, hit.record.category_weights)
        engaged = saturated(engagement.get(hit.pin_id, 0.0))
        score = (
            hit.similarity + weights.annotations * words + weights.category * category + weights.engagement * engaged
        )
        ranked.append(Ranked(hit, score, engaged))
    return sorted(ranked, key=lambda one: (-one.score, one.hit.distance, one.hit.pin_id))


def saturated(engagement: float) -> float:
    """E of the formula, 0..1."""
    return engagement / (engagement + E_HALF)


def cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Of two sparse vectors without negative weights, 0..1; 0 when one is empty."""
    shared = sum(weight * other[name] for name, weight in one.items() if name in other)
    if shared <= 0:
        return 0.0
    return shared / math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in other.values()))


def _annotation_cosines(
    query: ObjectRecord | None, hits: Sequence[Hit], document_frequency: DocumentFrequency
) -> list[float]:
    own = set() if query is None else set(query.annotations)
    if not own or not hits:
        return [0.0] * len(hits)
    every = own.union(*(hit.record.annotations for hit in hits))
    documents, frequencies = document_frequency(sorted(every))
    idf = {name: math.log((1 + documents) / (1 + min(documents, frequencies.get(name, 0)))) for name in every}
    wanted = {name: idf[name] for name in own}
    return [cosine(wanted, {name: idf[name] for name in set(hit.record.annotations)}) for hit in hits]


def grouped(ranked: Sequence[Ranked], k: int, share: float) -> list[Ranked]:
    """The k best of which no two are near-duplicates; each names those that it stands for.

    `share`: of the bits of the whole picture's code in which near-duplicates differ at most.
    """
    if not ranked:
        return []
    codes = whole_codes([one.hit.record for one in ranked])
    limit = share * codes.shape[1] * 8
    leaders: list[int] = []
    showing: dict[bytes, int] = {}
    followers: dict[int, list[str]] = {}
    for at, one in enumerate(ranked):
        sha256 = one.hit.record.image_sha256
        leader = _nearest_leader(codes, leaders, at, limit)
        if leader is None:
            leader = showing.get(sha256)
        if leader is not None:
            followers[leader].append(one.hit.pin_id)
        elif len(leaders) < k:
            leaders.append(at)
            showing[sha256] = at
            followers[at] = []
    return [
        Ranked(one.hit, one.score, one.engagement, one.curated, tuple(followers[at][:DUPLICATES_NAMED]))
        for at, one in ((at, ranked[at]) for at in leaders)
    ]


def whole_codes(records: Sequence[ObjectRecord]) -> npt.NDArray[np.uint8]:
    """The codes of whole pictures, uint8 [n, bits / 8]."""
    return np.frombuffer(b"".join(record.codes[0].bits for record in records), np.uint8).reshape(len(records), -1)


def differing_bits(codes: npt.NDArray[np.uint8], code: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Hamming distances of codes, uint8 [n, bytes], from one code, uint8 [bytes]: int64 [n]."""
    counted: npt.NDArray[np.int64] = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    return counted


def _nearest_leader(codes: npt.NDArray[np.uint8], leaders: Sequence[int], at: int, limit: float) -> int | None:
    if not leaders:
        return None
    distances = differing_bits(codes[leaders], codes[at])
    nearest = int(np.argmin(distances))
    return leaders[nearest] if distances[nearest] <= limit else None
