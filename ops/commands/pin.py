"""`dotstream pin PIN_ID`: where a pin is on its way from event to dots, or where and why it stopped."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import Json, answer
from ops.commands.search import ApiAddress, client, console

if TYPE_CHECKING:
    from rich.table import Table

    from discovery.schemas import DotsJson, LineageJson, StageJson

UNSEEN = "unseen"


def pin(
    pin_id: Annotated[str, typer.Argument(metavar="PIN_ID")],
    *,
    api: ApiAddress = None,
    as_json: Json = False,
) -> None:
    """Tell where a pin is, stage by stage, and why its dots are shown or not. Status 1 when no stage has seen it."""
    with client(api) as asked:
        found = asked.lineage(pin_id)
    if as_json:
        answer(found.model_dump(mode="json", exclude_none=True))
    else:
        _print(found)
    if found.state == UNSEEN:
        raise typer.Exit(1)


def _print(found: LineageJson) -> None:
    from rich.table import Table

    out = console()
    out.print(found.summary, markup=False, highlight=False)
    stages = Table(box=None, pad_edge=False)
    for name in ("stage", "state", "time", "after event"):
        stages.add_column(name, no_wrap=True)
    stages.add_column("", overflow="fold")
    for stage in found.stages:
        detail = stage.detail or ""
        if stage.stage == "dots" and found.dots is not None and found.dots.dots:
            detail = detail.partition(" (")[0]  # the table below says the rest
        _add_stage(stages, stage, detail)
    out.print(stages)
    if found.dots is not None and found.dots.dots:
        out.print()
        out.print(_dots(found.dots))
    if not found.dead_letters_checked:
        out.print("the dead letters could not be read")


def _add_stage(table: Table, stage: StageJson, detail: str) -> None:
    from rich.text import Text

    after = "" if stage.after_ms is None or stage.stage == "event" else f"{int(stage.after_ms):,} ms"
    table.add_row(stage.stage, stage.state, "" if stage.at is None else _time(stage.at), after, Text(detail))


def _dots(dots: DotsJson) -> Table:
    from rich.table import Table
    from rich.text import Text

    names = ("object", "label", "", "why", "similarity", "annotation score", "conformity")
    table = Table(*names, box=None, pad_edge=False)
    for dot in dots.dots:
        table.add_row(
            str(dot.object_index),
            Text(dot.label),
            "shown" if dot.shown else "suppressed",
            ", ".join(dot.reasons),
            f"{dot.similarity:.3f}",
            f"{dot.annotation_score:.2f}",
            f"{dot.category_conformity:.2f}",
        )
    return table


def _time(milliseconds: str) -> str:
    """In the machine's own time zone."""
    moment = datetime.fromtimestamp(int(milliseconds) / 1000).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
