"""`dotstream up` and `dotstream status`: run the local stack in the foreground, and tell how it is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands.options import Json, answer, no_stack, say, settings_of, start_logging

if TYPE_CHECKING:
    from ops.local.stack import LocalStack
    from ops.settings import Loaded

KafkaAddress = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use these brokers instead of a local one.")
]
TritonAddress = Annotated[
    str | None, typer.Option("--triton", metavar="HOST:PORT", help="Use this Triton (gRPC) instead of a local one.")
]
ApiPort = Annotated[int | None, typer.Option("--port", min=0, help="Port of the API; 0: a free one. [default: 8080]")]


def up(kafka: KafkaAddress = None, triton: TritonAddress = None, port: ApiPort = None) -> None:
    """Run the local stack in the foreground; Ctrl-C stops all of it, a second one kills it at once."""
    loaded = settings_of(api__port=port)
    with running_stack(loaded, kafka, triton) as (stack, stop):
        if not stack.ready:
            raise typer.Exit(130)
        say(f"ready: the page is at {stack.api}")
        say(f"       kafka {stack.kafka}, triton {stack.triton}, data {stack.data}; Ctrl-C stops everything")
        stack.watch(stop)
        say("stopping")


@contextlib.contextmanager
def running_stack(
    loaded: Loaded, kafka: str | None, triton: str | None
) -> Iterator[tuple[LocalStack, threading.Event]]:
    """A stack that is ready, and the event that SIGINT or SIGTERM sets; a second signal kills every part.

    When a signal comes before the stack is ready, the block is entered with the event set.
    """
    from ops.local.stack import local_stack
    from ops.settings_model import check_addresses

    settings = loaded.settings
    start_logging("warning" if settings.log_level == "info" else settings.log_level)
    own = {
        "own_kafka": kafka or settings.kafka.bootstrap or None,
        "own_triton": triton or settings.triton.address or None,
    }
    check_addresses(kafka=own["own_kafka"], triton=own["own_triton"])
    stop = threading.Event()
    with _signals(stop) as kill, local_stack(loaded, **own, progress=say) as stack:
        kill.append(stack)
        say("starting broker, Triton, workers and API")
        stack.start(stop)
        yield stack, stop


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[list[LocalStack]]:
    """The first SIGINT or SIGTERM sets `stop`, the next kills the stack that was put into the list."""
    stacks: list[LocalStack] = []

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  as the signal module calls it
        if stop.is_set():
            for stack in stacks:
                stack.kill()
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stacks
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(as_json: Json = False) -> None:
    """Tell whether the local stack is ready and where its parts are; exit status 0 only when it is."""
    from ops.local.claim import read_stack
    from ops.status import measured

    settings = settings_of().settings
    stack = read_stack(settings.data)
    facts: dict[str, Any] = {"ready": False, "kafka": None, "triton": None, "api": None, **(stack or {})}
    if stack is not None:
        facts |= measured(stack)
    if as_json:
        answer(facts)
    elif stack is None:
        print(no_stack(settings.data))
    else:
        _print_status(facts)
    if not facts["ready"]:
        raise typer.Exit(1)


def _print_status(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    waiting = [name for name, part in facts["parts"].items() if not part["ready"]]
    print("ready" if facts["ready"] else f"not ready: {', '.join(waiting) or 'the supervisor says so'}")
    for name in ("api", "kafka", "triton", "generation"):
        print(f"{name:10} {facts[name]}")
    table = Table("part", "ready", "pid", "restarts", "lag", "dead", box=None, pad_edge=False)
    for name, part in facts["parts"].items():
        lag, dead = part.get("lag"), part.get("dead_letters")
        table.add_row(
            name, "yes" if part["ready"] else "no", str(part["pid"] or "-"), str(part["restarts"]),
            "" if lag is None else str(lag), "" if dead is None else str(dead),
        )  # fmt: skip
    Console().print(table)
    if facts.get("freshness"):
        for stage, shares in facts["freshness"].items():
            print(f"event to {stage}: p50 {shares['p50_ms']} ms, p99 {shares['p99_ms']} ms of {shares['count']}")
