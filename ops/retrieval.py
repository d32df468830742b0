"""How `dotstream eval retrieval` shows its result: Table 1 with intervals, the contract's JSON, and the two plots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotstream.errors import Misconfigured
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say

if TYPE_CHECKING:
    from triton_models.retrieval.evaluate import Evaluation, Row
    from triton_models.retrieval.features import Asked, Extracted
    from triton_models.retrieval.measure import Estimate
    from triton_models.retrieval.plots import NoiseSeparation

PAPER: dict[tuple[str, str, str], tuple[float, float, float]] = {
    ("alexnet_fc6", "raw", "L2"): (0.093, 0.045, 0.027),
    ("alexnet_fc6", "raw", "L1"): (0.099, 0.047, 0.027),
    ("alexnet_fc7", "raw", "L2"): (0.104, 0.052, 0.031),
    ("alexnet_fc7", "raw", "L1"): (0.106, 0.052, 0.031),
    ("alexnet_fc8", "raw", "L2"): (0.088, 0.047, 0.028),
    ("alexnet_fc8", "raw", "L1"): (0.090, 0.046, 0.028),
    ("googlenet_loss3", "raw", "L2"): (0.095, 0.050, 0.032),
    ("googlenet_loss3", "raw", "L1"): (0.098, 0.050, 0.032),
    ("vgg16_fc6", "raw", "L2"): (0.108, 0.051, 0.030),
    ("vgg16_fc6", "raw", "L1"): (0.118, 0.057, 0.035),
    ("vgg16_fc7", "raw", "L2"): (0.116, 0.058, 0.036),
    ("vgg16_fc7", "raw", "L1"): (0.113, 0.060, 0.038),
    ("vgg16_fc8", "raw", "L2"): (0.104, 0.054, 0.034),
    ("vgg16_fc8", "raw", "L1"): (0.106, 0.054, 0.034),
    ("resnet101_pool5", "raw", "L2"): (0.160, 0.080, 0.050),
    ("resnet101_pool5", "raw", "L1"): (0.149, 0.073, 0.045),
    ("resnet101_fc1000", "raw", "L2"): (0.133, 0.068, 0.042),
    ("resnet101_fc1000", "raw", "L1"): (0.139, 0.067, 0.041),
    ("resnet152_pool5", "raw", "L2"): (0.170, 0.083, 0.050),
    ("resnet152_pool5", "raw", "L1"): (0.152, 0.077, 0.047),
    ("resnet152_fc1000", "raw", "L2"): (0.149, 0.073, 0.045),
    ("resnet152_fc1000", "raw", "L1"): (0.148, 0.073, 0.044),
    ("alexnet_fc6", "sign", "Hamming"): (0.129, 0.065, 0.039),
    ("alexnet_fc7", "sign", "Hamming"): (0.110, 0.054, 0.033),
    ("alexnet_fc8", "sign", "Hamming"): (0.089, 0.046, 0.027),
    ("vgg16_fc6", "sign", "Hamming"): (0.158, 0.081, 0.049),
    ("vgg16_fc7", "sign", "Hamming"): (0.133, 0.068, 0.044),
    ("vgg16_fc8", "sign", "Hamming"): (0.110, 0.055, 0.035),
    ("resnet101_fc1000", "sign", "Hamming"): (0.125, 0.062, 0.039),
    ("resnet101_pool5", "sign", "Hamming"): (0.055, 0.025, 0.014),
    ("resnet152_fc1000", "sign", "Hamming"): (0.133, 0.065, 0.041),
    ("resnet152_pool5", "sign", "Hamming"): (0.057, 0.026, 0.015),
}
"""The paper's Table 1, on Pinterest's own pictures: its order may be compared with ours, its level may not."""

DEPTHS = (1, 5, 10)
SIGN, MEDIAN = ("sign", "Hamming"), ("median", "Hamming")
COMPARED = ((SIGN, ("raw", "L2")), (SIGN, ("raw", "L1")), (MEDIAN, SIGN), (MEDIAN, ("raw", "L2")))
NOISE_PICTURES = 300
MAP_PICTURES = 1500
WIDTH = 140
"""Columns that the table needs at least, so that a narrow terminal or a file does not cut the names."""


@dataclass
class RetrievalReport(Report):
    """The contract's object, shown to a person as Table 1."""

    evaluation: Evaluation | None = None
    seed: int = 0
    plots: dict[str, NoiseSeparation] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        if as_json or self.evaluation is None:
            super().show(as_json=as_json)
            return
        from rich.console import Console

        console = Console(width=max(Console().width, WIDTH))
        console.print(table_of(self.evaluation))
        for line in lines_below(self.evaluation):
            console.print(line, highlight=False, soft_wrap=True)
        for said, estimate in relations(self.evaluation, self.seed):
            console.print(f"{said}: {estimate}", highlight=False, soft_wrap=True)
        for name, seen in self.plots.items():
            told = (
                f"white noise is told apart in {seen.raw:.2f} of pairs by raw features, in {seen.binary:.2f} by codes"
            )
            console.print(f"{name}: {told}", highlight=False, soft_wrap=True)
        for name in ("extraction", "distances"):
            console.print(f"{name}: {self.figures[name].value:.1f} s", highlight=False)
        for name, value in self.conditions.items():
            console.print(f"{name}: {value}", highlight=False, soft_wrap=True)


def report(  # noqa: PLR0917  all that the result rests on
    evaluation: Evaluation, source: Path, split: str, plots: dict[str, NoiseSeparation], unread: int, seed: int
) -> RetrievalReport:
    """The result with everything that it rests on: data, split, queries, weights, protocol.

    Args:
        evaluation: finished.
        source: of the data, as it was named.
        split: of the data.
        plots: what the noise plot measured.
        unread: rows of the data that could not be used.
        seed: of the intervals.
    """
    pictures = evaluation.pictures
    synthetic = sum(picture.synthetic for picture in pictures)
    extraction = sum({one.origin: one.seconds for one in evaluation.extracted}.values())
    conditions: dict[str, Any] = {
        "data": str(source),
        "synthetic": "all SYNTHETIC" if synthetic == len(pictures) else f"{synthetic} of {len(pictures)} pictures",
        "split": split,
        "pictures_sha256": _digest(evaluation),
        "pictures": len(pictures),
        "left_out": len(evaluation.problems) + unread,
        "queries": len(evaluation.split.queries),
        "gallery": len(evaluation.split.gallery),
        "never_queries": f"{evaluation.split.unanswerable} (the only object of their label)",
        "labels": len({picture.label for picture in pictures}),
        "own_object": "left out of its results",
        "intervals": "95 %, bootstrap over objects",
        "weights": {f"{one.asked.name}={one.asked.weights}": one.origin for one in evaluation.extracted},
        "median_thresholds": {f"{n}={w}": on for (n, w), on in evaluation.calibrated_on.items()},
        "peer": "the paper's Table 1, on other pictures: compare the order, not the level",
        **machine(),
    }
    figures = {}
    for row in evaluation.rows:
        paper = PAPER.get((row.name, row.type, row.distance))
        for place, depth in enumerate(DEPTHS):
            name = f"{_named(evaluation, row)} {row.type} {row.distance} P@{depth}"
            estimate = row.precision[place]
            figures[name] = Figure(estimate.value, "share", peer=None if paper is None else paper[place])
            figures[f"{name} low"] = Figure(estimate.low, "share")
            figures[f"{name} high"] = Figure(estimate.high, "share")
    for (name, weights, kind), bits in evaluation.bits.items():
        figures[f"{name}={weights} {kind} positive"] = Figure(bits.positive, "share of bits")
        figures[f"{name}={weights} {kind} information"] = Figure(bits.information, "bits per bit", limit=1.0)
    for said, estimate in relations(evaluation, seed):
        figures[said] = Figure(estimate.value, "difference of precision")
        figures[f"{said} low"] = Figure(estimate.low, "difference of precision")
        figures[f"{said} high"] = Figure(estimate.high, "difference of precision")
    for name, seen in plots.items():
        figures[f"{name} raw noise separation"] = Figure(seen.raw, "area under curve", limit=1.0)
        figures[f"{name} binary noise separation"] = Figure(seen.binary, "area under curve", limit=1.0)
    figures["extraction"] = Figure(extraction, "s")
    figures["distances"] = Figure(evaluation.distance_seconds, "s", limit=extraction)
    return RetrievalReport("retrieval", conditions, figures, evaluation, seed, plots)


def table_of(evaluation: Evaluation) -> Any:
    """Table 1: a row for each representation, type and distance."""
    from rich.table import Table

    from triton_models.embedders.catalogue import EMBEDDERS

    table = Table(title="Precision@K with 95 % intervals")
    for column in ("Model", "Layer", "Type", "Dist.", "P@1", "P@5", "P@10", "bytes"):
        table.add_column(column)
    for row in evaluation.rows:
        spec = EMBEDDERS.get(row.name)
        model = row.name if spec is None else spec.architecture
        marked = model if row.weights == "default" else f"{model} ({_short(row.weights)})"
        kind = row.type if row.type == "raw" else f"binary, {row.type}"
        cells = [str(estimate) for estimate in row.precision]
        table.add_row(marked, "" if spec is None else spec.layer, kind, row.distance, *cells, str(row.bytes))
    return table


def lines_below(evaluation: Evaluation) -> list[str]:
    """What the table does not say: RANDOM weights, and layers that are unfit for codes."""
    lines = [
        f"{one.asked.name}: RANDOM WEIGHTS, nobody trained this network"
        for one in evaluation.extracted
        if not one.trained
    ]
    for (name, weights, kind), bits in evaluation.bits.items():
        said = (
            f"{name}={weights}, {kind} thresholds: {bits.positive:.2%} of bits set, {bits.information:.2f} bits per bit"
        )
        lines.append(f"{said}. WARNING: {bits.warning}" if bits.warning else said)
    return lines


def relations(evaluation: Evaluation, seed: int) -> list[tuple[str, Estimate]]:
    """Differences of P@1 and P@10 that section 4 speaks of, query by query.

    Codes against raw features and medians against signs; where one embedder is evaluated with several weights, also
    the codes of each further ones (fine-tuned, say) against raw features and codes of the first.
    """
    from triton_models.retrieval.measure import differences

    found = []
    for one, other in _pairs(evaluation.rows):
        between = differences(one.hits, other.hits, evaluation.objects, seed)
        whose = "" if one.weights == other.weights else f"{_named(evaluation, other)} "
        said = f"{one.type} {one.distance} minus {whose}{other.type} {other.distance}"
        mine = _named(evaluation, one)
        found += [(f"{mine} P@{DEPTHS[place]} {said}", between[place]) for place in (0, -1)]
    return found


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    known = {(row.name, row.weights, row.type, str(row.distance)): row for row in rows}
    first_weights: dict[str, str] = {}
    pairs = []
    for name, weights in dict.fromkeys((row.name, row.weights) for row in rows):
        base = first_weights.setdefault(name, weights)
        wanted = [((weights, *first), (weights, *second)) for first, second in COMPARED]
        if weights != base:
            wanted += [((weights, *SIGN), (base, *second)) for second in (("raw", "L2"), ("raw", "L1"), SIGN)]
        pairs += [
            (known[name, *one], known[name, *other])
            for one, other in wanted
            if (name, *one) in known and (name, *other) in known
        ]
    return pairs


def draw_noise(
    path: Path, evaluation: Evaluation, asked: Sequence[Asked], cache: Path, seed: int
) -> dict[str, NoiseSeparation]:
    """Figure 5 of the last embedder that was asked for."""
    from triton_models.data.seeds import generator
    from triton_models.retrieval.features import Extractor
    from triton_models.retrieval.plots import noise_images, noise_plot

    extracted = _last_embedder(evaluation, asked)
    extractor = Extractor([extracted.asked], cache, seed)
    count = min(NOISE_PICTURES, len(evaluation.pictures))
    noise = extractor.images(noise_images(count, extractor.side, seed))[extracted.asked.name]
    chosen = generator(seed, "noise plot").permutation(len(evaluation.pictures))[:count]
    labels = [evaluation.pictures[place].label for place in chosen]
    title = f"{extracted.asked.name}, {extracted.origin}; colours: labels, black: white noise"
    seen = noise_plot(path, title, extracted.features[chosen], noise, labels, extracted.thresholds)
    say(f"{path}: Figure 5 of {extracted.asked.name}")
    return {extracted.asked.name: seen}


def draw_embedding(path: Path, evaluation: Evaluation, asked: Sequence[Asked], seed: int) -> None:
    """Figure 6 of the last embedder that was asked for: a map by its codes."""
    from triton_models.data.seeds import generator
    from triton_models.embedders.codes import pack
    from triton_models.retrieval.plots import embedding_plot

    extracted = _last_embedder(evaluation, asked)
    chosen = generator(seed, "map").permutation(len(evaluation.pictures))[:MAP_PICTURES]
    codes = pack(extracted.features[chosen], extracted.thresholds)
    shown = embedding_plot(path, [evaluation.pictures[place] for place in chosen], codes, "Hamming")
    say(f"{path}: Figure 6 of {extracted.asked.name}, {shown} pictures")


def _last_embedder(evaluation: Evaluation, asked: Sequence[Asked]) -> Extracted:
    from triton_models.retrieval.features import PIXELS

    embedders = [one for one in asked if one.name != PIXELS]
    if not embedders:
        raise Misconfigured("a plot needs an embedder: name one with --model")
    return next(one for one in evaluation.extracted if one.asked == embedders[-1])


def _named(evaluation: Evaluation, row: Row) -> str:
    """The representation, with its weights where they are not the default, RANDOM ones always."""
    random = any(one.asked.name == row.name and one.asked.weights == row.weights and not one.trained
                 for one in evaluation.extracted)  # fmt: skip
    name = row.name if row.weights == "default" else f"{row.name}={_short(row.weights)}"
    return f"{name} RANDOM" if random and row.weights != "random" else name


def _short(weights: str) -> str:
    return "RANDOM" if weights == "random" else "/".join(Path(weights).parts[-2:])


def _digest(evaluation: Evaluation) -> str:
    """Names the split: labels, objects and roles of all pictures, without their folder."""
    roles = {int(place): "query" for place in evaluation.split.queries}
    rows = [
        (picture.path.name, picture.label, roles.get(place, "gallery"))
        for place, picture in enumerate(evaluation.pictures)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
