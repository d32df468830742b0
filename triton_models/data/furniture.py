"""Builds the furniture data set: rendered views for retrieval, composited scenes with exact boxes for detection.

    OUT/dataset.json              what it is (SYNTHETIC), seed, settings, counts for each split and label
    OUT/sources.json              every 3-D model in it with creator and licence, its label and its split
    OUT/problems.jsonl            models that could not be used, with the reason
    OUT/cutouts/LIBRARY--MODEL/   RGBA views of one model, from which the rest is made
    OUT/detection/SPLIT/          images/*.jpg and annotations.json in COCO's format
    OUT/retrieval/                images/ and manifest.jsonl: one picture for each view, with label, object and split

Everything is drawn from the seed. The same seed, packages and kind of processor give the same bytes, however many
processes work on it. Nothing here is a photograph of an object, and every file that describes the data says so.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured
from triton_models.data.backgrounds import background, photographs
from triton_models.data.coco import IMAGES, Scene, write_coco
from triton_models.data.compose import compose
from triton_models.data.labels import Label, furniture_labels
from triton_models.data.library import LIBRARIES, FurnitureModel, held_out, read_libraries
from triton_models.data.manifest import MANIFEST_FILE, write_manifest
from triton_models.data.problems import Problem, write_problems
from triton_models.data.scenes import Item, Order, compose_scenes, open_cutout, save
from triton_models.data.seeds import generator
from triton_models.data.splits import SPLITS, split_objects
from triton_models.data.views import render_all
from triton_models.files import write_whole

VIEW_SIDE = 256
CHUNK = 50

Say = Callable[[str], None]


def _quiet(_line: str) -> None:
    """Reports to nobody."""


@dataclass(frozen=True)
class FurnitureSettings:
    """How much to build.

    Attributes:
        seed: of everything.
        views: of each 3-D model.
        scenes: for train, val and test.
        size: side of the frame that a view is rendered in, pixels.
        only: keys of the models to use; empty for all that have a label.
        jobs: processes at once.
    """

    seed: int = 0
    views: int = 8
    scenes: tuple[int, int, int] = (4000, 400, 1000)
    size: int = 320
    only: tuple[str, ...] = ()
    jobs: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 99 or not 32 <= self.size <= 1024 or min(self.scenes) < 0 or self.jobs < 1:
            raise Misconfigured(f"views 1..99, size 32..1024, scenes >= 0 and jobs >= 1 are needed: {self}")


@dataclass
class Built:
    """What was built."""

    folder: Path
    models: dict[str, int] = field(default_factory=dict)
    scenes: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    views: int = 0
    problems: list[Problem] = field(default_factory=list)


def build(out: Path, settings: FurnitureSettings, say: Say = _quiet, libraries: Path = LIBRARIES) -> Built:
    """Builds the data set in `out`, or goes on with one that was interrupted there.

    Raises:
        Misconfigured: the packages are missing, or `settings.only` names a held-out or unknown model.
    """
    table = furniture_labels()
    chosen = chosen_models(read_libraries(libraries), settings.only)
    labels = {model.key: label for model in chosen if (label := table.label_of(model)) is not None}
    models = [model for model in chosen if model.key in labels]
    say(f"rendering {settings.views} views of each of {len(models)} 3-D models")
    cutouts, problems = render_all(
        models,
        out / "cutouts",
        count=settings.views,
        size=settings.size,
        seed=settings.seed,
        jobs=settings.jobs,
        progress=lambda done, of: say(f"rendered {done} of {of} models") if done % 50 == 0 or done == of else None,
        libraries=libraries,
    )
    sides = split_objects({key: labels[key].name for key in cutouts}, settings.seed)
    items = [Item(key, labels[key].name, sides[key], tuple(cutouts[key])) for key in sorted(cutouts)]
    built = Built(out, problems=problems, models=dict(Counter(item.split for item in items)))
    groups = _groups(items, labels)
    _write_views(out / "retrieval", items, groups, settings.seed, built)
    for split, count in zip(SPLITS, settings.scenes, strict=True):
        say(f"composing {count} scenes for {split}")
        _write_scenes(split, count, [item for item in items if item.label in groups], groups, settings, built)
    _write_summary(settings, items, groups, built)
    _write_sources(out, {model.key: model for model in models}, items)
    write_problems(out, built.problems)
    return built


def chosen_models(models: Sequence[FurnitureModel], only: Sequence[str]) -> list[FurnitureModel]:
    """The models to use: all that are not held out, or the ones asked for.

    Raises:
        Misconfigured: one that was asked for is held out or does not exist.
    """
    listed = held_out()
    if not only:
        return [model for model in models if not model.keys & listed]
    by_key = {key: model for model in models for key in model.keys}
    unknown = [key for key in only if key not in by_key]
    if unknown:
        raise Misconfigured(f"no such 3-D models: {', '.join(unknown)}")
    refused = [key for key in only if by_key[key].keys & listed]
    if refused:
        raise Misconfigured(f"held out for acceptance, never rendered: {', '.join(refused)}")
    return [by_key[key] for key in only]


def _groups(items: Iterable[Item], labels: Mapping[str, Label]) -> dict[str, str]:
    """Label -> group of every label that can be learned, sorted."""
    present = {labels[item.model] for item in items if item.split == "train"}
    return {label.name: label.group for label in sorted(present, key=lambda label: label.name)}


def _write_views(folder: Path, items: Sequence[Item], groups: Mapping[str, str], seed: int, built: Built) -> None:
    rows = []
    for item in items:
        photos = photographs(item.split)
        for number, path in enumerate(item.cutouts):
            rng = generator(seed, "view", item.model, number)
            ground = background(rng, VIEW_SIDE, VIEW_SIDE, photos)
            pixels, placed = compose(rng, ground, [open_cutout(path)], sizes=(0.7, 0.95))
            name = f"{IMAGES}/{item.label}/{path.parent.name}-{number:02}.jpg"
            if placed:
                save(folder / name, pixels)
                row = {"path": name, "label": item.label, "object": item.model, "split": item.split}
                rows.append({**row, "group": groups.get(item.label, ""), "synthetic": True})
    write_manifest(folder / MANIFEST_FILE, rows)
    built.views = len(rows)


def _write_scenes(  # noqa: PLR0917  one step of `build`, over what it has at hand
    split: str,
    count: int,
    items: Sequence[Item],
    groups: Mapping[str, str],
    settings: FurnitureSettings,
    built: Built,
) -> None:
    folder = built.folder / "detection" / split
    own = tuple(item for item in items if item.split == split)
    if count and not own:
        detail = f"{count} scenes wanted, no model is in this split"
        built.problems.append(Problem(f"detection/{split}", "no_models", detail))
    if not count or not own:
        return
    starts = range(0, count, CHUNK)
    orders = [Order(folder, split, own, settings.seed, start, min(start + CHUNK, count)) for start in starts]
    scenes = [scene for part in _in_processes(orders, settings.jobs) for scene in part]
    write_coco(folder, scenes, groups, {**_described(settings), "split": split})
    built.scenes[split] = len(scenes)
    built.boxes[split] = sum(len(scene.objects) for scene in scenes)


def _in_processes(orders: Sequence[Order], jobs: int) -> list[list[Scene]]:
    if jobs == 1 or len(orders) == 1:
        return [compose_scenes(order) for order in orders]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(compose_scenes, orders))


def _described(settings: FurnitureSettings) -> dict[str, Any]:
    return {
        "name": "furniture",
        "description": "SYNTHETIC: rendered 3-D models of sweethome3d-furniture composited over backgrounds",
        "synthetic": True,
        "seed": settings.seed,
        "renderer": f"vtk {version('vtk')}, OSMesa",
    }


def _write_sources(out: Path, models: Mapping[str, FurnitureModel], items: Sequence[Item]) -> None:
    sources = [
        {
            "model": item.model,
            "name": models[item.model].name,
            "creator": models[item.model].creator,
            "licence": models[item.model].licence,
            "label": item.label,
            "split": item.split,
            "views": len(item.cutouts),
        }
        for item in items
    ]
    write_whole(out / "sources.json", (json.dumps(sources, indent=1, ensure_ascii=False) + "\n").encode())


def _write_summary(settings: FurnitureSettings, items: Sequence[Item], groups: Mapping[str, str], built: Built) -> None:
    counts = Counter((item.label, item.split) for item in items)
    summary = {
        **_described(settings),
        "settings": {name: value for name, value in asdict(settings).items() if name != "jobs"},
        "groups": dict(groups),
        "models": built.models,
        "models_per_label": {
            label: {split: counts[label, split] for split in SPLITS} for label in sorted({item.label for item in items})
        },
        "views": built.views,
        "scenes": built.scenes,
        "boxes": built.boxes,
        "problems": len(built.problems),
    }
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    write_whole(built.folder / "dataset.json", text.encode())
