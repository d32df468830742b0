"""How the demonstration looks: a live table on a terminal, one line for each pin elsewhere, and the closing figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops.commands.options import counted
from ops.demo.tally import Row, Tally, percentiles


class View(Protocol):
    """Shows the tally as it grows."""

    def update(self) -> None: ...


class _LiveTable:
    def __init__(self, live: Live, tally: Tally, page: str, height: int) -> None:
        self._live, self._tally, self._page, self._height = live, tally, page, height

    def update(self) -> None:
        rows = sorted((row for row in self._tally.rows if row.done), key=lambda row: row.dotted_at or 0)
        table = Table(
            "pin", "title", "objects", "dots", "shows", "event to dots", box=None, pad_edge=False, expand=True
        )
        for row in rows[-self._height :]:
            table.add_row(*_cells(row), style="" if row.shown else "dim")
        done, total = len(rows), len(self._tally.rows)
        status = Text(f"{done} of {total} pins have their dots, {self._tally.showing} show one   page: {self._page}")
        self._live.update(Group(table, Text(), status), refresh=True)


class _Lines:
    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._told: set[str] = set()

    def update(self) -> None:
        for row in self._tally.rows:
            if row.done and row.pin_id not in self._told:
                self._told.add(row.pin_id)
                pin_id, _, objects, dots, labels, took = _cells(row)
                self._console.print(f"{pin_id}: {objects} objects, {dots} dots {labels} {took}", highlight=False)


@contextlib.contextmanager
def view(console: Console, tally: Tally, page: str) -> Iterator[View]:
    """A live table when the console is a terminal, else lines."""
    if not console.is_terminal:
        yield _Lines(console, tally)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield _LiveTable(live, tally, page, max(5, console.height - 6))


def closing(tally: Tally) -> str:
    """The figures of a run, as lines."""
    rows = tally.rows
    with_dots = sum(row.dotted_at is not None for row in rows)
    return (
        f"{counted(len(rows), 'pin')} published, {with_dots} with their dot record, {len(tally.dead)} dead, "
        f"{tally.showing} show a dot\n"
        f"event to object record: {percentiles(tally.to_record_ms())}\n"
        f"event to dots:          {percentiles(tally.to_dots_ms())}"
    )


def _cells(row: Row) -> tuple[str, str, str, str, str, str]:
    if row.dead is not None:
        return row.pin_id, row.title, "", "", f"dead: {row.dead}", ""
    took = f"{(row.dotted_at or row.event_time) - row.event_time} ms"
    return row.pin_id, row.title, str(row.objects), str(row.shown), ", ".join(row.labels), took
