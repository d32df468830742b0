"""`dotstream eval objects`: whether object search finds the scenes that hold the very thing that is asked for.

Query and target show the same 3-D model from other views, in other scenes. Recall@K is the share of those scenes among
the first K answers, K or their number at most; a match is the share of found targets whose matched box shows the thing.
Chance is what K scenes drawn at random would give.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from discovery.search import Answer, Search
from discovery.search import Asked as How
from dotstream.errors import Misconfigured
from ops.bench._report import Figure, Report
from ops.evals.flashlight import conditions, drawn
from ops.evals.intervals import interval, mean
from ops.evals.known import Asked, indexed
from ops.evals.scenes import Scene, read_scenes

KS = (1, 5, 10, 50)


def run(data: Path, split: str, *, most: int, queries: int, seed: int) -> Report:
    """Indexes the scenes and asks.

    Raises:
        Misconfigured: the set does not say which thing is seen, or nothing is seen twice.
    """
    scenes = read_scenes(data, split, most)
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for scene in scenes:
        for thing in scene.things:
            if thing.model:
                holders[thing.model].add(scene.pin_id)
    asked = drawn(scenes, queries, seed, lambda thing: len(holders[thing.model]) > 1 if thing.model else False)
    if not asked:
        raise Misconfigured("nothing in these scenes is known to be seen twice: annotations need `model`")
    from_scene, of_thing = [scene.pin_id for scene, _ in asked], [thing.model for _, thing in asked]
    figures: dict[str, Figure] = {}
    spread: dict[str, str] = {}
    with indexed(scenes) as here:
        search = Search(here.reader, here.writer.pictures, here.crops)
        answers: list[tuple[Answer, set[str], str]] = []
        for scene, thing in asked:
            answer = search.by_pin("objects", scene.pin_id, None, thing.box, How(max(KS), duplicates="keep"))
            answers.append((answer, holders[thing.model] - {scene.pin_id}, thing.model))
        for k in KS:
            recalls = [_recall(answer, targets, k) for answer, targets, _ in answers]
            chance = sum(len(t) * min(1.0, k / len(scenes)) / min(k, len(t)) for _, t, _ in answers) / len(answers)
            figures[f"scene recall@{k}"] = mean(recalls, "share", chance)
            spread[f"scene recall@{k}"] = interval(recalls, from_scene, of_thing)
        rights = [_matches(answer, targets, model, here) for answer, targets, model in answers]
        matches = [right for some in rights for right in some]
        figures["matched box shows the thing"] = mean(matches, "share")
        clusters = [
            [name for name, some in zip(names, rights, strict=True) for _ in some] for names in (from_scene, of_thing)
        ]
        spread["matched box shows the thing"] = interval(matches, *clusters)
        found = [_detected(here, scene) for scene in scenes]
        figures["scenes in which an object is detected"] = mean([float(n > 0) for n in found], "share")
        figures["known things that a detection shows"] = Figure(
            sum(_things_found(here, scene) for scene in scenes) / sum(len(s.things) for s in scenes), "share"
        )
    counts = Counter(len(targets) for _, targets, _ in answers)
    known = {"targets": f"{min(counts)} to {max(counts)} other scenes of the same thing", "intervals": spread}
    return Report("objects", conditions(data, split, scenes, len(asked), seed) | known, figures)


def _recall(answer: Answer, targets: set[str], k: int) -> float:
    found = {one.hit.pin_id for one in answer.results[:k]}
    return len(found & targets) / min(k, len(targets))


def _matches(answer: Answer, targets: set[str], model: str, here: Asked) -> list[float]:
    rights = []
    for one in answer.results[:10]:
        if one.hit.pin_id in targets:
            item = next(item for item in one.hit.record.objects if item.index == one.hit.object_index)
            shown = here.scenes[one.hit.pin_id].shown((item.box.x0, item.box.y0, item.box.x1, item.box.y1))
            rights.append(float(shown is not None and shown.model == model))
    return rights


def _detected(here: Asked, scene: Scene) -> int:
    entry = here.reader.pin(scene.pin_id)
    return 0 if entry is None else len(entry.record.objects)


def _things_found(here: Asked, scene: Scene) -> int:
    entry = here.reader.pin(scene.pin_id)
    items = [] if entry is None else entry.record.objects
    shown = {scene.shown((item.box.x0, item.box.y0, item.box.x1, item.box.y1)) for item in items}
    return len(shown - {None})
