"""`dotstream eval flashlight`: how well crops of known things find their like, and with which annotations.

Each query is the box of a known thing on an indexed scene, drawn as a person would draw it. A result is right when what
it shows has the query's label: for an object, the known thing under its box; for a whole picture, any thing in it.
Chance is the share of all (query, other scene) pairs in which the scene holds the label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from discovery.rerank import Ranked, Weights
from discovery.search import Asked as How
from discovery.search import Search
from dotstream.errors import Misconfigured
from ops.bench._report import Figure, Report, machine
from ops.evals.intervals import interval, mean
from ops.evals.known import Asked, indexed
from ops.evals.scenes import Scene, Thing, read_scenes

KS = (1, 5, 10)
MIN_AREA = 0.01


def run(data: Path, split: str, *, most: int, queries: int, seed: int) -> Report:
    """Indexes the scenes and asks.

    Raises:
        Misconfigured: there are fewer than two scenes, or no thing in them is large enough to be asked for.
    """
    scenes = read_scenes(data, split, most)
    asked = drawn(scenes, queries, seed)
    if not asked or len(scenes) < 2:
        raise Misconfigured(f"two scenes with things that cover {MIN_AREA:.0%} of them are needed")
    from_scene = [scene.pin_id for scene, _ in asked]
    chance = float(np.mean([[thing.label in other.labels for other in scenes if other is not s] for s, thing in asked]))
    figures: dict[str, Figure] = {}
    spread: dict[str, str] = {}
    with indexed(scenes) as here:
        for name, weights in (("codes alone", Weights(0, 0, 0)), ("re-ranked", Weights())):
            search = Search(here.reader, here.writer.pictures, here.crops, weights=weights)
            answered = [
                (search.by_pin("flashlight", scene.pin_id, None, thing.box, How(max(KS))), thing)
                for scene, thing in asked
            ]
            for k in KS:
                shares = [_share(answer.results, thing, here, k) for answer, thing in answered]
                figures[f"P@{k}, {name}"] = mean(shares, "share", chance)
                spread[f"P@{k}, {name}"] = interval(shares, from_scene)
            ranks = [_rank(answer.annotations, thing.label) for answer, thing in answered]
            for words, places in (("is the first annotation", 1), ("among five annotations", 5)):
                named = [float(rank < places) for rank in ranks]
                figures[f"label {words}, {name}"] = mean(named, "share")
                spread[f"label {words}, {name}"] = interval(named, from_scene)
    return Report("flashlight", conditions(data, split, scenes, len(asked), seed) | {"intervals": spread}, figures)


def drawn(
    scenes: Sequence[Scene], queries: int, seed: int, fits: Callable[[Thing], bool] = lambda _: True
) -> list[tuple[Scene, Thing]]:
    """Queries: things that cover at least a hundredth of their scene, drawn by seed."""
    every = [(s, t) for s in scenes for t in s.things if (t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) >= MIN_AREA]
    every = [pair for pair in every if fits(pair[1])]
    order = np.random.default_rng(seed).permutation(len(every))[:queries]
    return [every[at] for at in order.tolist()]


def conditions(data: Path, split: str, scenes: Sequence[Scene], queries: int, seed: int) -> dict[str, object]:
    """What every evaluation of discovery names."""
    labels = {label for scene in scenes for label in scene.labels}
    return machine() | {
        "data": f"{data.name}, split {split}: {len(scenes)} scenes, {len(labels)} labels",
        "queries": queries,
        "seed": seed,
        "models": "those of the settings, served by Triton",
    }


def _share(results: Sequence[Ranked], thing: Thing, here: Asked, k: int) -> float:
    """Precision at k: a place that nothing was found for is not right."""
    return sum(_is_right(one, thing, here) for one in results[:k]) / k


def _is_right(one: Ranked, thing: Thing, here: Asked) -> bool:
    scene = here.scenes[one.hit.pin_id]
    item = next((item for item in one.hit.record.objects if item.index == one.hit.object_index), None)
    if item is None:
        return thing.label in scene.labels
    shown = scene.shown((item.box.x0, item.box.y0, item.box.x1, item.box.y1))
    return shown is not None and shown.label == thing.label


def _rank(annotations: Sequence[tuple[str, float]], label: str) -> int:
    names = [name for name, _ in annotations]
    return names.index(label) if label in names else len(names) + 5
