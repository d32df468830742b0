"""What the commands share: options of the same meaning everywhere, the settings behind them, and how they answer."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ops.settings import Loaded

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.OPTION=VALUE", help="Over the recipe's; may be given again."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")]

_given: dict[str, Any] = {"config": None, "data": None, "debug": False}


def remember(*, config: Path | None, data: Path | None, debug: bool) -> None:
    """Keeps the options that every command has."""
    _given.update(config=config, data=data, debug=debug)


def debugging() -> bool:
    """Whether --debug was given."""
    return bool(_given["debug"])


def settings_of(**overrides: object) -> Loaded:
    """The settings for a command, with its own options over them.

    Args:
        overrides: dotted name with "__" for the dot -> value; None is left out.

    Raises:
        Misconfigured: a setting is wrong; the message says which.
    """
    from ops.settings import load

    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return load(_given["config"], {"data": _given["data"], **dotted})


def say(line: str) -> None:
    """Progress for a person: standard output stays for the answer."""
    print(line, file=sys.stderr, flush=True)


def answer(facts: object) -> None:
    """The answer of a command with --json. JSON has no NaN and no infinity: such a figure is null."""
    print(json.dumps(_finite(facts), indent=2, default=str, allow_nan=False))


def _finite(facts: object) -> object:
    if isinstance(facts, Mapping):
        return {name: _finite(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [_finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def counted(number: int, noun: str) -> str:
    """As `1 pin`, `2 pins`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def no_stack(data: Path) -> str:
    """What is said where a local stack was expected."""
    return f"no local stack runs in {data.absolute()}; start one (dotstream up) or name its folder with --data"


def start_logging(level: str) -> None:
    """Log lines to standard error, with time, level and logger."""
    import logging

    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
