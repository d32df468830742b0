"""Pictures of a labelled data set on their way into a network: read, decoded under guard, stretched to a square.

A picture that cannot be read or decoded becomes a `Problem` with its path and the decoder's reason; the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dotstream.errors import Poison
from triton_models.data.manifest import Labelled
from triton_models.data.problems import Problem
from triton_models.pictures import PictureLimits, decode, resize

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]

LIMITS = PictureLimits()


def quiet(_done: int, _of: int) -> None:
    """Reports progress to nobody."""


def square(path: Path, side: int) -> Pixels:
    """A picture stretched to a square, as the stream's pipeline does it: uint8 [side, side, 3].

    Raises:
        Poison: it cannot be decoded, with the decoder's reason; "picture_unreadable" if the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Poison("picture_unreadable", str(error)) from error
    return resize(decode(data, LIMITS).pixels, side)


def batches(
    pictures: Sequence[Labelled], side: int, size: int, problems: list[Problem]
) -> Iterator[tuple[list[int], Pixels]]:
    """Batches of at most `size` decoded pictures: their places in `pictures`, and uint8 [n, side, side, 3].

    Args:
        pictures: what to read.
        side: of the squares, pixels.
        size: of a batch.
        problems: gets what cannot be decoded.
    """
    places: list[int] = []
    rows: list[Pixels] = []
    for place, picture in enumerate(pictures):
        try:
            rows.append(square(picture.path, side))
        except Poison as error:
            problems.append(Problem(str(picture.path), error.reason, error.detail))
            continue
        places.append(place)
        if len(rows) == size:
            yield places, np.stack(rows)
            places, rows = [], []
    if rows:
        yield places, np.stack(rows)


def usable(pictures: Sequence[Labelled], progress: Progress = quiet) -> tuple[list[Labelled], list[Problem]]:
    """The pictures that decode, and what is wrong with the others. Each is decoded once."""
    good: list[Labelled] = []
    problems: list[Problem] = []
    for done, picture in enumerate(pictures, 1):
        try:
            square(picture.path, 8)
            good.append(picture)
        except Poison as error:
            problems.append(Problem(str(picture.path), error.reason, error.detail))
        progress(done, len(pictures))
    return good, problems
