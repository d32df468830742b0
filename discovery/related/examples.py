"""Logged impressions with what people did, and the file in which training and evaluation find them.

One line of JSON for each impression of a Related Pins answer:

    {"request_id", "user_id", "query_pin_id", "pin_id", "position", "event_time", "category",
     "outcomes": ["closeup", …], "features": {…}, "on_object": {…} | null, "synthetic": false}

`features` are those of features.py at the time of the impression; `on_object` the same with the query's dominant object
in the place of its picture, null where it has none. `category` is the query's greatest. `synthetic` is true where the
line was made up (synthetic.py).

Outcomes (paper, section 6): a **closeup** looks at the pin's details, a **click** visits its link, a **long click**
stays there for long, a **save** puts the pin on a board.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from discovery.related.features import Matrix
from discovery.related.model import LinearModel, Variant
from dotstream.errors import Misconfigured

GRADES = {"closeup": 1, "click": 2, "long_click": 3, "save": 4}
"""What people did -> how much it says; the greatest of an impression's counts, 0 without any."""


@dataclass(frozen=True, slots=True)
class Example:
    """One impression; the fields are those of the file."""

    request_id: str
    user_id: str
    query_pin_id: str
    pin_id: str
    position: int
    event_time: int
    category: str
    outcomes: tuple[str, ...]
    features: Mapping[str, float]
    on_object: Mapping[str, float] | None = None
    synthetic: bool = False

    @property
    def grade(self) -> int:
        """0 to 4, see GRADES."""
        return max((GRADES[name] for name in self.outcomes), default=0)


Requests = Mapping[str, Sequence[Example]]
"""request_id -> its impressions, by position."""


def by_request(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples in their answers, each by position."""
    found: dict[str, list[Example]] = {}
    for one in examples:
        found.setdefault(one.request_id, []).append(one)
    for seen in found.values():
        seen.sort(key=lambda one: (one.position, one.pin_id))
    return found


def matrix(examples: Sequence[Example], names: Sequence[str], variant: Variant = Variant.PLAIN) -> Matrix:
    """Features as rows, columns by name; what a line lacks is 0."""
    rows = [one.on_object if variant.on_object and one.on_object is not None else one.features for one in examples]
    return np.array([[row.get(name, 0.0) for name in names] for row in rows], float).reshape(len(rows), len(names))


def scores(model: LinearModel, seen: Sequence[Example], variant: Variant) -> Matrix:
    """The model's scores of one answer's impressions under a variant."""
    names = tuple(model.weights)
    dominant = any(one.on_object is not None for one in seen)
    return model.scores(matrix(seen, names, variant), names, boosted=variant.boosted and dominant)


def write(path: Path, examples: Iterable[Example]) -> int:
    """Writes the file; returns how many lines."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for one in examples:
            file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
            count += 1
    return count


def read(paths: Sequence[Path]) -> Iterator[Example]:
    """The examples of files.

    Raises:
        Misconfigured: a file cannot be read, or a line is no example; the message says where.
    """
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield _example(line, f"{path}:{number}")
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"cannot read {path}: {error}") from error


def _example(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
        one = Example(**row | {"outcomes": tuple(row["outcomes"])})
        values = [*one.features.values(), *(one.on_object or {}).values(), one.position, one.event_time]
        names = [one.request_id, one.user_id, one.query_pin_id, one.pin_id, one.category]
        good = all(map(math.isfinite, values)) and all(isinstance(name, str) for name in names)
        good = good and set(one.outcomes) <= GRADES.keys()
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Misconfigured(f"{where} is no example: {error}") from error
    if not good:
        raise Misconfigured(f"{where} is no example: ids are texts, features numbers, outcomes {', '.join(GRADES)}")
    return one
