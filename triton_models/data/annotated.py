"""Training and evaluation classes out of pins' annotations, as section 4 draws them.

From the most frequent search queries some are sampled as classes. A picture is kept when it has annotations and every
one of them is a sampled query; its class is one of its annotations, drawn by the seed. Of each class as many pictures
go to training and to evaluation as of any other. No picture is on both sides, and equal bytes are one picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotstream.errors import Misconfigured
from triton_models.data.problems import Problem
from triton_models.data.seeds import generator, shuffled


@dataclass(frozen=True)
class Annotated:
    """A picture with its pin's annotations."""

    pin_id: str
    path: Path
    annotations: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What is drawn.

    Attributes:
        top: so many of the most frequent queries are considered (the paper: 100,000).
        classes: so many of them are sampled (the paper: 20,000).
        train: pictures of each class.
        evaluate: pictures of each class.
        seed: of every draw.
    """

    top: int = 100_000
    classes: int = 20_000
    train: int = 50
    evaluate: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.top, self.classes, self.train, self.evaluate) < 1:
            raise Misconfigured(f"top, classes, train and evaluate must be at least 1: {self}")


@dataclass
class Drawn:
    """The outcome.

    Attributes:
        rows: of the manifest.
        classes: that have enough pictures.
        too_small: sampled queries without enough pictures.
        unmatched: pictures with an annotation that is no sampled query, or with none.
        doubled: pictures with the bytes of another one.
        problems: pictures that cannot be read.
    """

    rows: list[dict[str, object]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    too_small: list[str] = field(default_factory=list)
    unmatched: int = 0
    doubled: int = 0
    problems: list[Problem] = field(default_factory=list)


def draw(pictures: Sequence[Annotated], queries: Sequence[str], choice: Choice) -> Drawn:
    """Draws a balanced data set.

    Args:
        pictures: of the corpus, in any order; of rows of one pin the last counts, as it does in the stream.
        queries: the most frequent first.
        choice: how much.

    Raises:
        Misconfigured: fewer than two classes have enough pictures.
    """
    sampled = set(shuffled(choice.seed, list(dict.fromkeys(queries[: choice.top])), "queries")[: choice.classes])
    drawn = Drawn()
    of_class: dict[str, list[Annotated]] = {name: [] for name in sorted(sampled)}
    seen: set[bytes] = set()
    by_pin = {one.pin_id: one for one in pictures}
    for picture in sorted(by_pin.values(), key=lambda one: one.pin_id):
        names = sorted(set(picture.annotations))
        if not names or not sampled.issuperset(names):
            drawn.unmatched += 1
        elif (digest := _digest(picture, drawn.problems)) is not None:
            if digest in seen:
                drawn.doubled += 1
                continue
            seen.add(digest)
            label = names[int(generator(choice.seed, "label", picture.pin_id).integers(len(names)))]
            of_class[label].append(picture)
    for label, members in of_class.items():
        _take(label, members, choice, drawn)
    if len(drawn.classes) < 2:
        raise Misconfigured(
            f"{len(drawn.classes)} of {len(sampled)} sampled queries have {choice.train + choice.evaluate} pictures "
            "with annotations among them alone; two classes are needed: sample more queries, or ask for fewer pictures"
        )
    return drawn


def _take(label: str, members: Sequence[Annotated], choice: Choice, drawn: Drawn) -> None:
    wanted = choice.train + choice.evaluate
    if len(members) < wanted:
        drawn.too_small.append(label)
        return
    drawn.classes.append(label)
    by_pin = {one.pin_id: one for one in members}
    for place, pin_id in enumerate(shuffled(choice.seed, list(by_pin), "members")[:wanted]):
        split = "train" if place < choice.train else "test"
        path = str(by_pin[pin_id].path.absolute())
        drawn.rows.append({"path": path, "label": label, "object": pin_id, "split": split})


def _digest(picture: Annotated, problems: list[Problem]) -> bytes | None:
    try:
        return hashlib.sha256(picture.path.read_bytes()).digest()
    except OSError as error:
        problems.append(Problem(str(picture.path), "picture_unreadable", str(error)))
        return None
