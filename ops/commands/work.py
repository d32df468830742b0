"""`dotstream work ROLE` and `dotstream serve`: one process of the stream, or the API, in the foreground."""

from __future__ import annotations

import signal
import threading
from enum import Enum
from types import FrameType
from typing import Annotated

import typer

from ops.commands.options import settings_of, start_logging


class Role(str, Enum):  # noqa: UP042  typer shows the values of a str enumeration
    """What a stream worker does."""

    VISION = "vision"
    TAKEDOWNS = "takedowns"
    INDEX = "index"
    DOTS = "dots"
    CROPS = "crops"
    SAVES = "saves"
    TAGS = "tags"
    ENGAGEMENTS = "engagements"


def work(
    role: Annotated[Role, typer.Argument(help="What this worker does.")],
    slot: Annotated[int | None, typer.Option(min=0, help="Number among the workers of its role.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, help="Port of /metrics and /readyz; 0: a free one.")
    ] = None,
) -> None:
    """Run one stream worker until SIGTERM or Ctrl-C; what is in flight is finished first."""
    settings = settings_of(worker__slot=slot, worker__metrics_port=metrics_port).settings
    start_logging(settings.log_level)
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  as the signal module calls it
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    from ops.work import run

    raise typer.Exit(run(role.value, settings, stop=stop))


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; otherwise as set.")] = None,
    port: Annotated[int | None, typer.Option(min=0, help="Port to listen on; 0: a free one.")] = None,
    generation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Generation to search; without it the active one.")
    ] = None,
) -> None:
    """Run the API and the page until SIGTERM or Ctrl-C."""
    settings = settings_of(api__host=host, api__port=port, api__generation=generation).settings
    start_logging(settings.log_level)
    leave_on_signals()
    from ops.serve import run

    run(settings)


def leave_on_signals() -> None:
    """Makes SIGTERM and SIGINT an orderly end with status 0, so that leases and shared memory are given back.

    uvicorn has its own handlers while it serves; afterwards it raises the signal again for those that stood before,
    and the default ones would end the process on the spot.
    """

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  as the signal module calls it
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
