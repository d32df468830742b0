"""`dotstream bench NAME`: run one benchmark; each is a module of ops/bench/ with `run(arguments) -> Report`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

import typer

from dotstream.errors import Misconfigured
from ops.commands.options import Json


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; an unknown name lists them.")],
    as_json: Json = False,
) -> None:
    """Run a benchmark and print its figures with their conditions."""
    names = _names()
    if name not in names:
        raise Misconfigured(f"no benchmark {name!r}; there are: {', '.join(names) or 'none'}")
    importlib.import_module(f"ops.bench.{name}").main(as_json=as_json)


def _names() -> list[str]:
    """The modules of ops/bench that are benchmarks: those that do not begin with an underscore."""
    try:
        package = importlib.import_module("ops.bench")
    except ModuleNotFoundError:
        return []
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))
