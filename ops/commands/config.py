"""`dotstream config check|show`: is every setting right, and which value comes from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ops.commands.options import Json, answer, settings_of

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.command()
def check() -> None:
    """Read every setting and every file of secrets; exit with 0 only when all are right."""
    loaded = settings_of()
    if loaded.settings.kafka.bootstrap:
        loaded.settings.kafka.connection()
    print(f"all settings are right ({len(loaded.sources)} differ from the defaults or were given)")


@app.command()
def show(as_json: Json = False) -> None:
    """Print every setting, its value and where that came from. Secrets lie in files; their content is not shown."""
    rows = list(settings_of().rows())
    if as_json:
        answer({name: {"value": value, "source": source, "about": about} for name, value, source, about in rows})
        return
    from ops.commands.search import console

    console().print(table(rows))


def table(rows: Sequence[tuple[str, Any, str, str]]) -> Table:
    """The settings as a table; the names stay whole however narrow it gets, the rest is folded."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False)
    found.add_column("setting", no_wrap=True, min_width=max(len(name) for name, *_ in rows))
    for title in ("value", "from", "what it is for"):
        found.add_column(title, overflow="fold")
    for name, value, source, about in rows:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
        found.add_row(Text(name), Text(shown), Text(source), Text(about))
    return found
