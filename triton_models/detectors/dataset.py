"""Labelled pictures for detectors, whatever format they came in, and what was wrong with them.

Readers (coco.py, voc.py) turn a format into samples. A picture or label that is missing, corrupt or senseless is a
`Problem` with its path and reason (triton_models/data/problems.py): it is listed and counted, and the rest goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dotstream.errors import Misconfigured, Poison
from triton_models.data.problems import Problem, summary
from triton_models.detectors.labels import LabelMap
from triton_models.pictures import decode
from triton_models.pixels import Pixels

Progress = Callable[[str], None]
_DECODERS = 2


@dataclass(frozen=True)
class Sample:
    """One picture with its objects.

    Attributes:
        key: its id in the data set.
        path: the picture file.
        width, height: of the upright picture, pixels; 0 where the labels do not say.
        boxes: float32 [m, 4], x0, y0, x1, y1 in pixels.
        labels: int64 [m], place in the data set's label map.
        crowd: bool [m]: marks many objects or one too hard to tell; evaluation neither asks for it nor counts a
            detection of it as wrong, training leaves it out.
    """

    key: str
    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    def pixels(self) -> Pixels:
        """The decoded picture, upright. Raises: Poison, OSError."""
        return decode(self.path.read_bytes()).pixels


@dataclass(frozen=True)
class DetectionData:
    """A data set that was read.

    Attributes:
        name: path and split, as results show it.
        labels: its classes.
        samples: what can be used, in the order of the set.
        problems: what cannot.
    """

    name: str
    labels: LabelMap
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]

    @property
    def objects(self) -> int:
        return sum(len(sample.labels) for sample in self.samples)


@dataclass
class Labelling:
    """Collects one picture's boxes and says what is wrong with them.

    Args:
        source: the file that problems name.
        labels: the classes that are known.
    """

    source: Path
    labels: LabelMap
    problems: list[Problem] = field(default_factory=list)
    _rows: list[tuple[tuple[float, float, float, float], int, bool]] = field(default_factory=list)

    def add(self, name: str, box: Sequence[float], width: int, height: int, *, crowd: bool = False) -> None:
        """Takes a box in pixels. One that reaches beyond the picture is cut and reported; what is left is used."""
        meant = self.labels.meant(name)
        if meant not in self.labels.names:
            self.report("unknown_class", f"{name!r}")
            return
        if len(box) != 4 or not all(math.isfinite(value) for value in box):
            self.report("bad_box", f"{list(box)}")
            return
        x0, y0, x1, y1 = (float(value) for value in box)
        if x1 <= x0 or y1 <= y0:
            self.report("empty_box", f"{name} {list(box)}")
            return
        left, top, right, bottom = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if right <= left or bottom <= top:
            self.report("outside_box", f"{name} {list(box)} of a picture of {width} x {height}")
            return
        if max(left - x0, top - y0, x1 - right, y1 - bottom) > 1.0:
            self.report("cut_box", f"{name} {list(box)} of a picture of {width} x {height}")
        self._rows.append(((left, top, right, bottom), self.labels.names.index(meant), crowd))

    def report(self, reason: str, detail: str) -> None:
        self.problems.append(Problem(str(self.source), reason, detail))

    def sample(self, key: str, path: Path, width: int, height: int) -> Sample:
        boxes = np.asarray([row[0] for row in self._rows], np.float32).reshape(-1, 4)
        labels = np.asarray([row[1] for row in self._rows], np.int64)
        return Sample(key, path, width, height, boxes, labels, np.asarray([row[2] for row in self._rows], np.bool_))


def checked(data: DetectionData, progress: Progress = lambda _: None) -> DetectionData:
    """The data set without the pictures that cannot be decoded or have another size than their labels say.

    Every picture is decoded once, in safety (triton_models/pictures.py), so that training meets no bad one later.

    Raises:
        Misconfigured: nothing is left.
    """
    good: list[Sample] = []
    problems = list(data.problems)
    with ThreadPoolExecutor(_DECODERS) as pool:
        for number, (sample, problem) in enumerate(zip(data.samples, pool.map(_fault, data.samples), strict=True), 1):
            if problem is None:
                good.append(sample)
            else:
                problems.append(problem)
            if number % 1000 == 0:
                progress(f"{number} of {len(data.samples)} pictures checked")
    if not good:
        raise Misconfigured(f"{data.name} holds no picture that can be used: {summary(problems)}")
    return replace(data, samples=tuple(good), problems=tuple(problems))


def _fault(sample: Sample) -> Problem | None:
    try:
        height, width = sample.pixels().shape[:2]
    except FileNotFoundError:
        return Problem(str(sample.path), "picture_missing", "no such file")
    except OSError as error:
        return Problem(str(sample.path), "picture_unreadable", error.strerror or str(error))
    except Poison as error:
        return Problem(str(sample.path), error.reason, error.detail)
    if (width, height) != (sample.width, sample.height):
        said = f"{width} x {height}, its labels say {sample.width} x {sample.height}"
        return Problem(str(sample.path), "wrong_size", said)
    return None
