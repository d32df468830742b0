"""`dotstream bench NAME`: run one benchmark; each is a module of ops/bench/ with `main(as_json=…)`.

A benchmark that draws takes `plot` too, and one that has a shorter form `short`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Annotated

import typer

from dotstream.errors import Misconfigured
from ops.commands.options import Json


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; an unknown name lists them.")],
    as_json: Json = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG file.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Measure less, for a look.")] = False,
) -> None:
    """Run a benchmark and print its figures with their conditions."""
    names = _names()
    if name not in names:
        raise Misconfigured(f"no benchmark {name!r}; there are: {', '.join(names) or 'none'}")
    main = importlib.import_module(f"ops.bench.{name}").main
    takes = inspect.signature(main).parameters
    if plot is not None and "plot" not in takes:
        raise Misconfigured(f"the benchmark {name!r} draws nothing; leave --plot out")
    if short and "short" not in takes:
        raise Misconfigured(f"the benchmark {name!r} has no shorter form; leave --short out")
    given = {"plot": plot, "short": short}
    main(as_json=as_json, **{option: value for option, value in given.items() if option in takes})


def _names() -> list[str]:
    """The modules of ops/bench that are benchmarks: those that do not begin with an underscore."""
    try:
        package = importlib.import_module("ops.bench")
    except ModuleNotFoundError:
        return []
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))
