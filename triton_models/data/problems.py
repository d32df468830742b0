"""What was wrong in a data set: every unusable picture, label or box with its path and reason; the rest goes on.

A list of problems is part of every data set's result, written beside it as `problems.jsonl`, so that a person can mend
or drop the files. Nothing is skipped without an entry here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from triton_models.files import write_whole

PROBLEMS_FILE = "problems.jsonl"


@dataclass(frozen=True)
class Problem:
    """One thing that was left out.

    Attributes:
        path: the file, or the model of a library, that it concerns.
        reason: a slug in snake_case, by which problems are counted.
        detail: what was found, for a person.
    """

    path: str
    reason: str
    detail: str = ""


def write_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """Writes `problems.jsonl`, empty where there is none."""
    lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
    write_whole(folder / PROBLEMS_FILE, "".join(lines).encode())


def counted(problems: Sequence[Problem]) -> dict[str, int]:
    """Reason -> how often, the most frequent first."""
    return dict(Counter(problem.reason for problem in problems).most_common())
