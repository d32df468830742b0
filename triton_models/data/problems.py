"""What was wrong in a data set: every unusable picture, label or box with its path and reason; the rest goes on.

A list of problems is part of every data set's result, written beside it or into the run's folder as `problems.jsonl`,
so that a person can mend or drop the files. Nothing is skipped without an entry here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from triton_models.files import write_whole

PROBLEMS_FILE = "problems.jsonl"


@dataclass(frozen=True)
class Problem:
    """One thing that was left out.

    Attributes:
        path: the picture, label file, row of a manifest (`FILE:LINE`) or model of a library that it concerns.
        reason: a slug in snake_case, by which problems are counted, such as picture_missing, label_corrupt,
            outside_box, or one of the decoder's picture_* reasons.
        detail: what was found, for a person.
    """

    path: str
    reason: str
    detail: str = ""


def write_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """Writes a folder's `problems.jsonl`, empty where there is none."""
    write_list(folder / PROBLEMS_FILE, problems)


def write_list(path: Path, problems: Iterable[Problem]) -> None:
    """Writes problems as JSONL."""
    lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
    write_whole(path, "".join(lines).encode())


def counted(problems: Iterable[Problem]) -> dict[str, int]:
    """Reason -> how often, the most frequent first."""
    return dict(Counter(problem.reason for problem in problems).most_common())


def summary(problems: Iterable[Problem]) -> str:
    """Reasons and how often, for one line."""
    return ", ".join(f"{reason} {count}" for reason, count in counted(problems).items()) or "no problem"
