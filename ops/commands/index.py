"""`dotstream index`: hold the shards of a generation against themselves, rebuild them, copy them, put copies back.

All of it may run beside the workers. A repair takes the place of the shard that a worker has open: that worker ends by
itself, and its next start goes on from the new one.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands.options import Json, answer, counted, say, settings_of

if TYPE_CHECKING:
    from indexer.snapshot import Manifest
    from ops.index_replay import Source
    from ops.settings import Settings

app = typer.Typer(help="Check, rebuild and copy the shards of the index.", no_args_is_help=True, add_completion=False)

Generation = Annotated[
    str | None, typer.Option("--generation", metavar="NAME", help="Which one; without it the settings' generation.")
]
Partitions = Annotated[
    list[int] | None, typer.Option("--partition", metavar="N", min=0, help="Only this one; may be given again.")
]


@app.callback()
def index() -> None:
    """Check, rebuild and copy the shards of the index."""


@app.command()
def verify(generation: Generation = None, partition: Partitions = None, as_json: Json = False) -> None:
    """Read everything and name what does not hold. Status 0 only when all is well."""
    settings = _settings(generation)
    found = {number: _problems(settings, number) for number in _there(settings, partition)}
    if as_json:
        answer({"ok": not any(found.values()), "partitions": {str(number): found[number] for number in found}})
    else:
        for number, problems in found.items():
            print(f"partition {number}: {'all is well' if not problems else counted(len(problems), 'problem')}")
            for problem in problems:
                print(f"  {problem}")
    if any(found.values()):
        say("dotstream index repair rebuilds what is damaged from the log")
        raise typer.Exit(1)


@app.command()
def digest(generation: Generation = None, partition: Partitions = None, as_json: Json = False) -> None:
    """Print the digest of each shard's logical content: the same log gives the same digest, however it was applied."""
    from dotstream.clock import SystemClock
    from indexer import verify as checks
    from indexer.follower import committed

    settings = _settings(generation)
    rows: list[dict[str, Any]] = []
    for number in _there(settings, partition):
        with committed(_home(settings, number), number, SystemClock()) as version:
            found = checks.digest(version.catalogue, version.view)
            rows.append({"partition": number, "applied_offset": version.state.applied, "digest": found})
    if as_json:
        answer({"generation": settings.generation, "partitions": rows})
        return
    for row in rows:
        print(f"{row['partition']} {row['applied_offset']} {row['digest']}")


@app.command()
def repair(
    generation: Generation = None,
    partition: Partitions = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is well.")] = False,
    as_json: Json = False,
) -> None:
    """Rebuild damaged shards from the topic `objects`, beside the old ones, and put them in place."""
    from dotstream.clock import SystemClock
    from indexer.generations import check_name
    from ops.index_replay import rebuild
    from ops.shards import longest_retention_ms

    settings = _settings(generation)
    check_name(settings.generation)
    source, count = _source(settings)
    numbers = partition or list(range(count))
    if max(numbers) >= count:
        raise typer.BadParameter(f"generation {settings.generation} has partitions 0 to {count - 1}")
    wrong = [number for number in numbers if partition or everything or _problems(settings, number)]
    rows: list[dict[str, Any]] = []
    for number in wrong:
        say(f"partition {number} is replayed into a new folder")
        done = rebuild(
            _home(settings, number),
            number,
            source,
            clock=SystemClock(),
            segment_slots=settings.index.segment_slots,
            null_retention_ms=longest_retention_ms(settings),
            tell=say,
        )
        rows.append(
            {
                "partition": number,
                "records": done.records,
                "poison": done.poison,
                "applied_offset": done.applied,
                "digest": done.digest,
            }
        )
    if as_json:
        answer({"generation": settings.generation, "repaired": rows})
        return
    for row in rows:
        print(
            f"partition {row['partition']}: {row['records']} records, offset {row['applied_offset']}, {row['digest']}"
        )
    print(f"{counted(len(rows), 'partition')} rebuilt, {len(numbers) - len(rows)} left as they are")


@app.command()
def snapshot(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for it.")],
    generation: Generation = None,
    as_json: Json = False,
) -> None:
    """Copy all shards, each at one committed version, while the workers go on."""
    from dotstream.clock import SystemClock
    from indexer.follower import committed
    from indexer.snapshot import take

    settings = _settings(generation)
    with ExitStack() as held:
        versions = {
            number: held.enter_context(committed(_home(settings, number), number, SystemClock()))
            for number in _there(settings, None)
        }
        manifest = take(versions, target, SystemClock(), say)
    parts = _parts(manifest)
    size = sum(size for part in manifest.parts for size, _ in part.files.values())
    if as_json:
        answer({"generation": manifest.generation, "folder": str(target), "bytes": size, "partitions": parts})
        return
    print(f"{counted(len(parts), 'partition')} of generation {manifest.generation}, {size / 1e6:.1f} MB in {target}")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="The snapshot.")],
    generation: Generation = None,
    as_json: Json = False,
) -> None:
    """Put a snapshot into empty folders; the index worker goes on from its offsets when it is started.

    Refused when the cluster's topic is another one, or generation or format differ.
    """
    from dotstream.clock import SystemClock
    from indexer.snapshot import check_place, read_manifest
    from indexer.snapshot import restore as put_back
    from ops.topics import TopicNames, topic_id

    settings = _settings(generation)
    check_place(read_manifest(source), settings.index_folder)
    topic = TopicNames(settings.topics.prefix).objects(settings.generation)
    found = topic_id(settings.kafka.connection(), topic)
    manifest = put_back(source, settings.index_folder, topic_id=found, clock=SystemClock(), tell=say)
    parts = _parts(manifest)
    if as_json:
        answer({"generation": manifest.generation, "partitions": parts})
        return
    print(f"{counted(len(parts), 'partition')} of generation {manifest.generation} restored; start the index worker")


def _parts(manifest: Manifest) -> list[dict[str, int]]:
    return [
        {"partition": part.partition, "applied_offset": part.applied, "codes": part.codes} for part in manifest.parts
    ]


def _settings(generation: str | None) -> Settings:
    from dotstream.errors import Misconfigured

    settings = settings_of(generation=generation).settings
    for folder in (settings.index_folder, *settings.index_folder.parents):
        if folder.exists() and not folder.is_dir():
            raise Misconfigured(f"{folder} is a file; --data names the folder of the local state, which holds index/")
    return settings


def _home(settings: Settings, number: int) -> Path:
    return settings.index_folder / str(number)


def _there(settings: Settings, wanted: list[int] | None) -> list[int]:
    """The partitions that have a folder, or those asked for, which must."""
    from dotstream.errors import Misconfigured

    folder = settings.index_folder
    there = sorted(_numbers(folder))
    if not there:
        others = [path.name for path in _folders(folder.parent) if _numbers(path)]
        if others:
            said = f"{folder.parent}; it has {', '.join(sorted(others))}, which --generation chooses"
        else:
            said = f"{folder.parent}; --data names the folder of the local state, which holds index/"
        raise Misconfigured(f"there is no shard of generation {settings.generation!r} in {said}")
    missing = sorted(set(wanted or ()) - set(there))
    if missing:
        known = ", ".join(map(str, there))
        raise Misconfigured(f"there is no shard of partition {missing[0]} in {folder}; it has {known}")
    return sorted(set(wanted)) if wanted else there


def _numbers(generation: Path) -> list[int]:
    return [int(path.name) for path in _folders(generation) if path.name.isdecimal()]


def _folders(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.is_dir()] if home.is_dir() else []


def _problems(settings: Settings, number: int) -> list[str]:
    """What does not hold in a shard, an unreadable one included."""
    from dotstream.clock import SystemClock
    from dotstream.errors import DotstreamError
    from indexer import verify as checks
    from indexer.follower import committed

    try:
        with committed(_home(settings, number), number, SystemClock()) as version:
            waiting = checks.waiting(version.catalogue)
            return checks.verify(version.catalogue, version.view, version.state, waiting)
    except DotstreamError as error:
        return [str(error)]


def _source(settings: Settings) -> tuple[Source, int]:
    """(what shards are rebuilt from, how many partitions there are)."""
    from dotstream.errors import Misconfigured
    from ops.generations import read_generations
    from ops.index_replay import Source
    from ops.topics import TopicNames, topic_id

    connection, names = settings.kafka.connection(), TopicNames(settings.topics.prefix)
    record = read_generations(connection, names.generations).get(settings.generation)
    if record is None:
        raise Misconfigured(f"the cluster has no generation {settings.generation!r}")
    topic = names.objects(record.name)
    found = topic_id(connection, topic)
    return Source(connection, topic, found, record.name, f"{record.embedder}/codes", record.bits), record.partitions
