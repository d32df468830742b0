"""`dotstream search IMAGE`: what in the index looks like a picture, or like a box of it, by way of the running API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import Json, answer, no_stack, settings_of

if TYPE_CHECKING:
    from rich.console import Console

    from discovery.client import Client
    from discovery.schemas import AnswerJson

NO_TERMINAL_COLUMNS = 200

ApiAddress = Annotated[
    str | None, typer.Option("--api", metavar="URL", help="The API to ask [default: that of the local stack].")
]


def search(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A JPEG, PNG or WebP.")],
    *,
    box: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Only this part, corners in 0..1 [default: its dominant object]."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Results wanted.")] = 10,
    objects: Annotated[bool, typer.Option("--objects", help="Only scenes that hold a similar object.")] = False,
    api: ApiAddress = None,
    as_json: Json = False,
) -> None:
    """Find what looks like a picture or a part of it. Status 0 when the search was answered, results or not."""
    from discovery import boxes
    from discovery.boxes import BadBox
    from dotstream.errors import Misconfigured

    try:
        drawn = None if box is None else boxes.parse(box)
        picture = image.read_bytes()
    except BadBox as error:
        raise Misconfigured(f"--box: {error}") from None
    except OSError as error:
        raise Misconfigured(f"{image}: {error.strerror}") from None
    with client(api) as asked:
        found = asked.search_picture(picture, kind="objects" if objects else "flashlight", box=drawn, k=k)
    if as_json:
        answer(found.model_dump(mode="json", exclude_none=True))
    else:
        _print(found)


def client(api: str | None) -> Client:
    """A client of the API that was named, else of the local stack's, else of the one that was set.

    Its problems are raised as errors of dotstream, one line for a person each.

    Raises:
        Misconfigured: no API was named or set, and no local stack runs in the data folder.
    """
    from discovery.client import Client
    from dotstream.errors import Misconfigured
    from ops.local.claim import read_stack

    loaded = settings_of()
    settings = loaded.settings
    address = api or (read_stack(settings.data) or {}).get("api")
    if not address and not {"api.host", "api.port"} & set(loaded.sources):
        raise Misconfigured(f"{no_stack(settings.data)}, or the API with --api")
    return Client(address or f"http://{settings.api.host}:{settings.api.port}")


def console() -> Console:
    """As wide as the terminal; wide enough for whole lines where there is none."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=NO_TERMINAL_COLUMNS)


def _print(found: AnswerJson) -> None:
    from rich.table import Table
    from rich.text import Text

    query = found.query
    corners = "" if query.box is None else " at " + ", ".join(f"{corner:.2f}" for corner in query.box)
    print(f"searched: {query.label or ('the drawn box' if query.box else 'the whole picture')}{corners}")
    if not found.results:
        print("nothing found" if query.box else "nothing found: no object was detected, give --box")
        return
    table = Table("similarity", box=None, pad_edge=False)
    for name in ("pin", "object", "box"):
        table.add_column(name, overflow="fold", no_wrap=name == "box")
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    for hit in found.results:
        what = "whole picture" if hit.object_index is None else f"{hit.label} {hit.object_index}"
        place = ",".join(f"{corner:.2f}" for corner in hit.box)
        table.add_row(f"{hit.similarity:.3f}", Text(hit.pin_id), Text(what), place, Text(hit.title))
    console().print(table)
    if found.annotations:
        print("annotations: " + ", ".join(f"{one.annotation} {one.score:.2f}" for one in found.annotations))
