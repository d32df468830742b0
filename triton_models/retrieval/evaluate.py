"""`dotstream eval retrieval` without its printing: from labelled pictures to the rows of Table 1.

Each representation is evaluated raw (L2, L1) and binarised (Hamming): by sign, as the paper does, and at median
thresholds. These are stored with a model or calibrated on pictures that are no part of the evaluation where the data
has such a split; only where it has none, on the gallery, and the result says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from triton_models.data.manifest import Labelled
from triton_models.data.problems import Problem, summary
from triton_models.data.seeds import shuffled
from triton_models.embedders.codes import BitStatistics, Floats, medians, pack, statistics
from triton_models.embedders.pictures import usable
from triton_models.retrieval.distances import Distance, nearest
from triton_models.retrieval.features import PIXELS, Asked, Extracted, Extractor, grouped
from triton_models.retrieval.measure import DEPTHS, Estimate, Hits, estimates, hits, numbered
from triton_models.retrieval.protocol import Protocol, Split, split

CALIBRATION_PICTURES = 1000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the representation.
        type: "raw", "sign" or "median".
        distance: which.
        precision: at 1, 5 and 10.
        hits: of each query, for differences between rows.
        bytes: of one picture's feature or code.
    """

    name: str
    weights: str
    type: str
    distance: Distance
    precision: list[Estimate]
    hits: Hits
    bytes: int


@dataclass
class Evaluation:
    """A finished evaluation.

    Attributes:
        pictures: that were used, in the order of all places.
        split: queries and gallery.
        objects: number of each query's object.
        rows: of the table.
        extracted: features, by representation.
        bits: (name, weights, type) -> statistics of the codes of the gallery.
        calibrated_on: what median thresholds were taken from, by (name, weights).
        problems: pictures that were left out.
        distance_seconds: of all rankings.
    """

    pictures: list[Labelled]
    split: Split
    objects: NDArray[np.int64]
    rows: list[Row] = field(default_factory=list)
    extracted: list[Extracted] = field(default_factory=list)
    bits: dict[tuple[str, str, str], BitStatistics] = field(default_factory=dict)
    calibrated_on: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    distance_seconds: float = 0.0

    def row(self, name: str, kind: str, distance: Distance, weights: str = "default") -> Row:
        """The row of a representation.

        Raises:
            Misconfigured: it was not evaluated.
        """
        wanted = (name, weights, kind, distance)
        for one in self.rows:
            if (one.name, one.weights, one.type, one.distance) == wanted:
                return one
        raise Misconfigured(f"{wanted} was not evaluated")


def evaluate(
    pictures: Sequence[Labelled],
    asked: Sequence[Asked],
    protocol: Protocol,
    *,
    cache: Path,
    calibration: Sequence[Labelled] = (),
    batch: int = 32,
    device: str = "auto",
    say: Say = lambda _line: None,
) -> Evaluation:
    """Evaluates representations on the same queries and gallery.

    Args:
        pictures: the evaluation's.
        asked: what to evaluate.
        protocol: how queries are drawn.
        cache: folder of downloaded weights.
        calibration: other pictures, for median thresholds; a thousand of them are used.
        batch: pictures of one pass.
        device: of the networks.
        say: told in a line what is being done.

    Raises:
        Misconfigured, Unavailable: data or weights are not there.
    """
    good, problems = usable(pictures)
    if len(good) < 2:
        raise Misconfigured(
            f"{len(good)} of {len(pictures)} pictures can be decoded, an evaluation needs more: {summary(problems)}"
        )
    sides = split([one.label for one in good], [one.object for one in good], protocol)
    names = numbered([one.object for one in good])
    result = Evaluation(good, sides, names[sides.queries], problems=problems)
    sample = _sample(calibration, protocol.seed)
    for group in grouped(asked):
        extractor = Extractor(group, cache, protocol.seed, device)
        for extracted, thresholds in _extract(extractor, sample, batch, result, say):
            result.extracted.append(extracted)
            _rank(result, extracted, thresholds, names, protocol.seed)
    return result


def _extract(
    extractor: Extractor, sample: Sequence[Labelled], batch: int, result: Evaluation, say: Say
) -> list[tuple[Extracted, Floats]]:
    say(f"{', '.join(one.name for one in extractor.asked)}: {extractor.origin}")

    def progress(name: str, done: int, of: int) -> None:
        if done == of or done % (batch * 20) == 0:
            say(f"{name}: {done} of {of} pictures")

    began = time.monotonic()
    features, kept = extractor.pictures(result.pictures, batch, [], progress)
    if len(kept) != len(result.pictures):
        raise Misconfigured("pictures changed while they were evaluated")
    seconds = time.monotonic() - began
    missing = [one for one in extractor.asked if one.name not in extractor.thresholds]
    calibrated = extractor.pictures(sample, batch, [], lambda *_: None)[0] if sample and missing else {}
    outcome = []
    for one in extractor.asked:
        rows = features[one.name]
        stored = extractor.thresholds.get(one.name)
        thresholds, said = _thresholds(stored, calibrated.get(one.name), rows[result.split.gallery])
        result.calibrated_on[one.name, one.weights] = said
        outcome.append((Extracted(one, rows, extractor.origin, extractor.trained, stored, seconds), thresholds))
    return outcome


def _thresholds(
    stored: np.ndarray | None, calibrated: np.ndarray | None, gallery: np.ndarray
) -> tuple[np.ndarray, str]:
    if stored is not None:
        return stored, "stored with the model"
    if calibrated is not None:
        return medians(calibrated), f"{len(calibrated)} pictures of another split"
    return medians(gallery), f"the gallery itself ({len(gallery)} pictures)"


def _rank(result: Evaluation, extracted: Extracted, thresholds: Floats, objects: NDArray[np.int64], seed: int) -> None:
    labels = numbered([one.label for one in result.pictures])
    queries, gallery = result.split.queries, result.split.gallery
    name, weights = extracted.asked.name, extracted.asked.weights
    features = extracted.features
    forms: list[tuple[str, Distance, NDArray[np.float32] | NDArray[np.uint8]]] = [
        ("raw", "L2", features),
        ("raw", "L1", features),
        ("median", "Hamming", pack(features, thresholds)),
    ]
    result.bits[name, weights, "median"] = statistics(features[gallery], thresholds)
    if name != PIXELS:  # a pixel has no sign
        forms.insert(2, ("sign", "Hamming", pack(features)))
        result.bits[name, weights, "sign"] = statistics(features[gallery])
    for kind, distance, values in forms:
        began = time.monotonic()
        found = nearest(values[queries], values[gallery], distance, DEPTHS[-1], objects[queries], objects[gallery])
        result.distance_seconds += time.monotonic() - began
        seen = hits(found, labels[queries], labels[gallery])
        precision = estimates(seen, result.objects, seed)
        size = int(values.shape[1] * values.dtype.itemsize)
        result.rows.append(Row(name, weights, kind, distance, precision, seen, size))


def _sample(pictures: Sequence[Labelled], seed: int) -> list[Labelled]:
    """A thousand of them that decode, drawn by the seed."""
    by_path = {str(one.path): one for one in pictures}
    chosen = shuffled(seed, list(by_path), "calibration")[:CALIBRATION_PICTURES]
    return usable([by_path[path] for path in chosen])[0]
