"""`dotstream config check|show`: is every setting right, and which value comes from where."""

from __future__ import annotations

import typer

from ops.commands.options import Json, answer, settings_of

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
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "from", "what it is for", box=None, pad_edge=False)
    for name, value, source, about in rows:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
        table.add_row(name, shown, source, about)
    Console().print(table)
