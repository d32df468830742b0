"""`dotstream dead list|show|replay`: what could not be processed and why, and giving it another try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands.options import Json, answer, counted, say, settings_of

if TYPE_CHECKING:
    from ops.dead import DeadLetter

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)
Topic = Annotated[list[str] | None, typer.Option("--topic", help="Only of this input topic; may be given again.")]
Reason = Annotated[str | None, typer.Option(help="Only with this reason.")]


@app.command("list")
def list_letters(topic: Topic = None, reason: Reason = None, as_json: Json = False) -> None:
    """List the dead letters, oldest first."""
    found = _letters(topic, reason)
    if as_json:
        answer([_facts(letter) for letter in found])
        return
    for letter in found:
        print(f"{letter.where}  {_time(letter.at_ms)}  {letter.key_text}  {letter.reason}: {letter.detail}")
    print(counted(len(found), "dead letter"))


@app.command()
def show(
    where: Annotated[str, typer.Argument(help="Coordinates as `dead list` prints them: TOPIC/PARTITION/OFFSET.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter: its reason, its headers and the event in it."""
    from dotstream.errors import Misconfigured
    from ops.dead import event_text

    found = [letter for letter in _letters(None, None) if letter.where == where]
    if not found:
        raise Misconfigured(f"no dead letter {where}; `dotstream dead list` names them")
    letter = found[0]
    text = event_text(letter)
    if as_json:
        headers = {name: value.decode(errors="replace") for name, value in letter.headers}
        answer({**_facts(letter), "headers": headers, "event": text})
        return
    print(f"{letter.where}: {letter.reason}\n  {letter.detail}")
    print(f"  original {letter.topic}/{letter.partition}/{letter.offset}, dead since {_time(letter.at_ms)}")
    for name, value in letter.headers:
        print(f"  {name}: {value.decode(errors='replace')}")
    print(text)


@app.command()
def replay(
    where: Annotated[list[str] | None, typer.Argument(help="Coordinates as `dead list` prints them.")] = None,
    all_letters: Annotated[bool, typer.Option("--all", help="Every dead letter that the options leave.")] = False,
    topic: Topic = None,
    reason: Reason = None,
) -> None:
    """Publish the original events again, to the topic they came from; those that fail again are dead again."""
    from ops.dead import replay as replay_letters

    if bool(where) == all_letters:
        raise typer.BadParameter("name dead letters, or choose --all")
    found = [letter for letter in _letters(topic, reason) if all_letters or letter.where in (where or ())]
    missing = sorted(set(where or ()) - {letter.where for letter in found})
    done, skipped = replay_letters(settings_of().settings.kafka.connection(), found)
    for letter, why in skipped:
        say(f"{letter.where}: {why}")
    for name in missing:
        say(f"{name}: no such dead letter")
    print(f"{done} published again")
    if skipped or missing:
        raise typer.Exit(1)


def _letters(topics: list[str] | None, reason: str | None) -> list[DeadLetter]:
    from ops.dead import read_letters
    from ops.topics import TopicNames

    settings = settings_of().settings
    names = TopicNames(settings.topics.prefix)
    events = names.events
    inputs = [events.pins, events.pins_backfill, events.saves, events.engagements, events.tags]
    inputs.append(names.objects(settings.generation))
    if topics:
        inputs = [settings.topics.prefix + name for name in topics]
    found = read_letters(settings.kafka.connection(), [names.dead(name) for name in inputs])
    return [letter for letter in found if reason is None or letter.reason == reason]


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "where": letter.where,
        "key": letter.key_text,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "dead_at": letter.at_ms,
        "bytes": letter.value_bytes,
    }


def _time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
