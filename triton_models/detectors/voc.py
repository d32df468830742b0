"""Reads labels in Pascal VOC's format: a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/<split>.txt.

Boxes are xmin, ymin, xmax, ymax in pixels that count from 1 and include both ends. Objects marked `difficult` are kept
as crowd, as VOC's own evaluation does it. XML is read by the standard library's parser, which expands no external
entities; labels come from the user's own disk.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from dotstream.errors import Misconfigured
from triton_models.data.problems import Problem
from triton_models.detectors.dataset import DetectionData, Labelling, Sample
from triton_models.detectors.labels import LabelMap, plain_label_map

_MOST_BYTES = 4_000_000


def read_voc(folder: Path, split: str, *, labels: LabelMap | None = None) -> DetectionData:
    """Reads one split of a folder in VOC's format.

    Args:
        folder: with Annotations, JPEGImages and ImageSets.
        split: name of the list in ImageSets/Main.
        labels: the classes to use, others are reported; None takes all that occur in the split, sorted.

    Raises:
        Misconfigured: there is no such split.
    """
    listed = folder / "ImageSets" / "Main" / f"{split}.txt"
    try:
        keys = [line.split()[0] for line in listed.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"no split {split!r} of a Pascal VOC set in {folder}: {error}") from error
    trees: dict[str, ElementTree.Element] = {}
    problems: list[Problem] = []
    for key in keys:
        found = _tree(folder / "Annotations" / f"{key}.xml")
        if isinstance(found, Problem):
            problems.append(found)
        else:
            trees[key] = found
    names = sorted({_text(one, "name") for tree in trees.values() for one in tree.iter("object")} - {""})
    known = labels or plain_label_map(names)
    samples: list[Sample] = []
    for key, tree in trees.items():
        sample, found_problems = _sample(folder, key, tree, known)
        problems += found_problems
        if sample is not None:
            samples.append(sample)
    return DetectionData(f"{folder}:{split}", known, tuple(samples), tuple(problems))


def _tree(path: Path) -> ElementTree.Element | Problem:
    try:
        data = path.read_bytes()
        if len(data) > _MOST_BYTES or b"<!ENTITY" in data:
            return Problem(str(path), "label_corrupt", "too large for a label file, or it declares entities")
        return ElementTree.fromstring(data)  # noqa: S314 - entities were refused above
    except FileNotFoundError:
        return Problem(str(path), "label_missing", "no such file")
    except (OSError, ElementTree.ParseError) as error:
        return Problem(str(path), "label_corrupt", str(error))


def _sample(folder: Path, key: str, tree: ElementTree.Element, labels: LabelMap) -> tuple[Sample | None, list[Problem]]:
    source = folder / "Annotations" / f"{key}.xml"
    picture = folder / "JPEGImages" / (_text(tree, "filename") or f"{key}.jpg")
    try:
        width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
    except ValueError as error:
        return None, [Problem(str(source), "label_corrupt", f"its size: {error}")]
    labelling = Labelling(source, labels)
    for one in tree.iter("object"):
        try:
            x0, y0, x1, y1 = (float(_text(one, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            labelling.report("label_corrupt", f"a box of {_text(one, 'name')!r}: {error}")
            continue
        hard = _text(one, "difficult") == "1"
        labelling.add(_text(one, "name"), (x0 - 1, y0 - 1, x1, y1), width, height, crowd=hard)
    return labelling.sample(key, picture, width, height), labelling.problems


def _text(node: ElementTree.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()
