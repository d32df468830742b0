"""How commands tell what of a data set could not be used: counted by reason, the first by path, all in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import say

if TYPE_CHECKING:
    from triton_models.data.problems import Problem

SHOWN = 10
ProblemsFile = Annotated[
    Path | None, typer.Option("--problems", metavar="FILE", help="List there, in JSONL, what could not be used.")
]


def tell(problems: Sequence[Problem], listed: Path | None = None) -> None:
    """Says to a person what was left out; `listed` gets all of it, one object on a line."""
    from triton_models.data.problems import counted, write_list

    if listed is not None:
        write_list(listed, problems)
    for reason, count in counted(problems).items():
        say(f"left out, {reason}: {count}")
    for problem in problems[:SHOWN]:
        say(f"    {problem.path}: {problem.reason}, {problem.detail}")
    if len(problems) > SHOWN:
        say(f"    and {len(problems) - SHOWN} more" + (f" in {listed}" if listed else "; --problems FILE lists all"))
