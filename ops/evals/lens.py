"""`dotstream eval lens`: whether photographs are understood, and what blending adds.

Every fifth scene is a photograph that is not indexed; the others are. Annotations are right when they are labels of the
photograph. The ablation answers each photograph by one source alone, by equal ratios, and by Lens's; both of these also
by rank, without looking at what the photograph is about when results are chosen within a source:

    relevant    a result's scene holds a label of the photograph
    covered     share of the photograph's labels that the first ten results hold
    likeness    mean over pairs of results of max(0, 2 * similarity - 1) of their whole pictures: less is more diverse
    gain        a difference of two ways on the same photographs, whose interval is that of the pairs
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from discovery import blending
from discovery.blending import SOURCES, Choice, Plan
from discovery.filters import Filters
from discovery.lens import Lens, LensAnswer
from discovery.rerank import whole_codes
from discovery.understanding import Understanding
from dotstream.errors import Misconfigured
from ops.bench._report import Figure, Report
from ops.evals.flashlight import conditions
from ops.evals.intervals import interval, mean
from ops.evals.known import Asked, indexed
from ops.evals.scenes import Scene, read_scenes

EVERY = 5
K = 10
PLAIN = "equal ratios by rank"
BANDS = ((0.0, 0.3), (0.3, 0.6), (0.6, 1.01))


def run(data: Path, split: str, *, most: int, queries: int, seed: int) -> Report:
    """Indexes four fifths of the scenes and photographs the rest.

    Raises:
        Misconfigured: there are fewer than five scenes.
    """
    scenes = read_scenes(data, split, most)
    if len(scenes) < EVERY:
        raise Misconfigured(f"{len(scenes)} scenes are too few: one of {EVERY} is a photograph, the others are indexed")
    photographs = scenes[::EVERY][:queries]
    kept = [scene for at, scene in enumerate(scenes) if at % EVERY]
    figures: dict[str, Figure] = {}
    spread: dict[str, str] = {}
    measured: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
    with indexed(kept) as here:
        base = float(np.mean([[bool(p.labels & s.labels) for s in kept] for p in photographs]))
        for name, (plan, choice) in _ways().items():
            lens = Lens(here.reader, here.crops, plan=plan, choice=choice, limit_s=60.0)
            answers = [lens.ask(photograph.path.read_bytes(), K, Filters()) for photograph in photographs]
            if name == "Lens":
                understood, of_guesses = _understanding(answers, photographs)
                figures |= understood
                spread |= of_guesses
            relevant = [_relevant(answer, p, here) for answer, p in zip(answers, photographs, strict=True)]
            covered = [_covered(answer, p, here) for answer, p in zip(answers, photographs, strict=True)]
            figures[f"relevant, {name}"] = mean(relevant, "share of results", base)
            figures[f"covered, {name}"] = mean(covered, "share of labels")
            figures[f"likeness, {name}"] = mean([_likeness(answer) for answer in answers], "0..1, less is diverse")
            spread |= {f"relevant, {name}": interval(relevant), f"covered, {name}": interval(covered)}
            for word, values in (("relevant", relevant), ("covered", covered)):
                measured[word, name] = np.array(values)
        for word, other in itertools.product(("relevant", "covered"), (PLAIN, "equal ratios")):
            gains = (measured[word, "Lens"] - measured[word, other]).tolist()
            figures[f"{word}, gain of Lens over {other}"] = mean(gains, "share")
            spread[f"{word}, gain of Lens over {other}"] = interval(gains)
    about = conditions(data, split, scenes, len(photographs), seed)
    return Report("lens", about | {"indexed": len(kept), "intervals": spread}, figures)


def _ways() -> dict[str, tuple[Callable[[Understanding], Sequence[Plan]], Choice]]:
    def only(*wanted: str) -> Callable[[Understanding], Sequence[Plan]]:
        return lambda _: [Plan(source, float(source in wanted), "ablation") for source in SOURCES]

    by_rank, as_lens = Choice(agreement=0.0, news=0.0), Choice()
    alone = {source: (only(source), by_rank) for source in SOURCES}
    return alone | {
        PLAIN: (only(*SOURCES), by_rank),
        "Lens's ratios by rank": (blending.plan, by_rank),
        "equal ratios": (only(*SOURCES), as_lens),
        "Lens": (blending.plan, as_lens),
    }


def _understanding(
    answers: Sequence[LensAnswer], photographs: Sequence[Scene]
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Figures and intervals. The guesses about one photograph are one cluster."""
    figures: dict[str, Figure] = {}
    spread: dict[str, str] = {}
    pairs = list(zip([answer.known for answer in answers], photographs, strict=True))
    for k in (1, 3, 5):
        shares = [
            float(np.mean([guess.annotation in p.labels for guess in known.annotations[:k]]))
            for known, p in pairs
            if known.annotations
        ]
        figures[f"annotation precision@{k}"] = mean(shares, "share")
        spread[f"annotation precision@{k}"] = interval(shares)
    for low, high in BANDS:
        guesses = [
            (float(guess.annotation in p.labels), p.pin_id)
            for known, p in pairs
            for guess in known.annotations
            if low <= guess.confidence < high
        ]
        rights, name = [right for right, _ in guesses], f"right at confidence {low:g} to {min(high, 1):g}"
        figures[name] = mean(rights, f"share of {len(rights)}")
        spread[name] = interval(rights, [photograph for _, photograph in guesses])
    groups = [
        float(next(iter(known.categories), "") == max(p.categories().items(), key=lambda each: each[1])[0])
        for known, p in pairs
    ]
    figures["top category is right"] = mean(groups, "share")
    for source in SOURCES:
        used = [float(any(e.source == source and e.state == "used" for e in answer.sources)) for answer in answers]
        figures[f"{source} is used"] = mean(used, "share of photographs")
    return figures, spread


def _relevant(answer: LensAnswer, photograph: Scene, here: Asked) -> float:
    rights = [bool(here.scenes[one.ranked.hit.pin_id].labels & photograph.labels) for one in answer.results]
    return float(np.mean(rights)) if rights else 0.0


def _covered(answer: LensAnswer, photograph: Scene, here: Asked) -> float:
    held: set[str] = set()
    for one in answer.results:
        held |= here.scenes[one.ranked.hit.pin_id].labels
    return len(held & photograph.labels) / len(photograph.labels)


def _likeness(answer: LensAnswer) -> float:
    if len(answer.results) < 2:
        return 0.0
    codes = whole_codes([one.ranked.hit.record for one in answer.results])
    bits = codes.shape[1] * 8
    apart = [int(np.bitwise_count(one ^ other).sum()) for one, other in itertools.combinations(codes, 2)]
    return float(np.mean([max(0.0, 1 - 2 * distance / bits) for distance in apart]))
