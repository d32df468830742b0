"""Labelled scenes of which it is known which thing is seen in them, and an index of them to ask.

Scenes are COCO's format; an annotation may name the thing it shows (`model`, as `dotstream data prepare` writes it), so
that another view of the same thing can be told from another thing of its kind. A scene becomes a pin that carries what
a catalogue would know of it: its labels as annotations, their groups as categories, weighted by area.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from discovery import boxes
from discovery.crops import Crops
from discovery.eyes import TritonEyes
from discovery.ports import Box
from dotstream.errors import Misconfigured
from indexer.reader import IndexReader
from indexer.search import warm
from ops.commands.options import say
from ops.models import code_bits, picture_limits, triton_client, vision_settings
from ops.private_index import GENERATION, Writer, private_settings, private_triton
from triton_models.calls import Unobserved
from triton_models.pipeline import Vision

SEEN_IOU = 0.5
"""A box that overlaps a known thing so much shows it."""
TELL_EVERY = 50


@dataclass(frozen=True)
class Thing:
    """One known thing in a scene.

    Attributes:
        model: which thing it is; empty when the set does not say.
    """

    box: Box
    label: str
    group: str
    model: str


@dataclass(frozen=True)
class Scene:
    """A picture and the things in it."""

    pin_id: str
    path: Path
    things: tuple[Thing, ...]

    @property
    def labels(self) -> frozenset[str]:
        """The labels of its things."""
        return frozenset(thing.label for thing in self.things)

    def shown(self, box: Box) -> Thing | None:
        """The thing that a box shows, if any."""
        best = max(self.things, key=lambda thing: boxes.overlap(thing.box, box))
        return best if boxes.overlap(best.box, box) >= SEEN_IOU else None

    def categories(self) -> dict[str, float]:
        """Groups by the area that their things cover."""
        areas: defaultdict[str, float] = defaultdict(float)
        for thing in self.things:
            areas[thing.group] += boxes.area(thing.box)
        total = sum(areas.values())
        return {group: area / total for group, area in areas.items()}


def read_scenes(data: Path, split: str, most: int | None) -> list[Scene]:
    """The scenes of a split in its order, those without things left out.

    Args:
        data: a folder with <split>/annotations.json and <split>/images/, or an annotations.json beside its images/.
        split: of a folder.
        most: only the first so many.

    Raises:
        Misconfigured: there is no such set, or it is not COCO's format.
    """
    file = data if data.is_file() else data / split / "annotations.json"
    try:
        content = json.loads(file.read_text())
        kinds = {one["id"]: (one["name"], one.get("supercategory") or one["name"]) for one in content["categories"]}
        sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
        things: defaultdict[int, list[Thing]] = defaultdict(list)
        for one in content["annotations"]:
            if not one.get("iscrowd"):
                box = _box(one["bbox"], *sizes[one["image_id"]])
                things[one["image_id"]].append(Thing(box, *kinds[one["category_id"]], str(one.get("model", ""))))
        scenes = [
            Scene(f"scene-{one['id']}", file.parent / "images" / one["file_name"], tuple(things[one["id"]]))
            for one in content["images"]
            if things[one["id"]]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{file} is no set of labelled scenes ({error}): give a folder with {split}/annotations.json, COCO's format"
        ) from error
    return scenes[:most]


def _box(bbox: Sequence[float], width: int, height: int) -> Box:
    x, y, w, h = bbox
    return max(0.0, x / width), max(0.0, y / height), min(1.0, (x + w) / width), min(1.0, (y + h) / height)


@dataclass(frozen=True)
class Asked:
    """An index of scenes, and what questions are asked with.

    Attributes:
        scenes: pin_id -> scene, of those that are indexed.
        crops: over the same models.
    """

    scenes: dict[str, Scene]
    reader: IndexReader
    writer: Writer
    crops: Crops


@contextmanager
def indexed(scenes: Sequence[Scene]) -> Iterator[Asked]:
    """Looks at the scenes with real Triton and indexes them, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dotstream-eval-") as folder, ExitStack() as owned:
        data = Path(folder)
        settings = private_settings(data, owned.enter_context(private_triton(data)))
        client = triton_client(settings, Unobserved())
        owned.callback(client.close)
        bits = code_bits(settings)
        vision = Vision(client, vision_settings(settings))
        writer = Writer(data, bits, "eval/codes")
        owned.callback(writer.close)
        for at, scene in enumerate(scenes, 1):
            writer.photograph(
                scene.pin_id,
                scene.path.read_bytes(),
                vision,
                annotations=sorted(scene.labels),
                categories=scene.categories(),
            )
            if at % TELL_EVERY == 0:
                say(f"{at} of {len(scenes)} scenes are indexed")
        reader = writer.reader("eval", lease_s=3600.0)
        owned.callback(reader.close)
        warm(bits)
        reader.refresh()
        crops = Crops(TritonEyes(client, vision_settings(settings), picture_limits(settings)), GENERATION)
        yield Asked({scene.pin_id: scene for scene in scenes}, reader, writer, crops)
