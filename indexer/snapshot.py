"""Snapshots: a consistent copy of a generation's shards, taken while their writers go on, and put back elsewhere.

A snapshot is taken as a reader, without a word to the writers: of each partition the version that its catalogue holds.

    manifest.json             what it is of, and every file with its size and SHA-256; written last
    <partition>/catalogue/    RocksDB: every family copied at that version
    <partition>/segments/     sealed codes as hard links where the file system allows it, else copied; columns copied;
                              of the head the committed slots

Columns may be ahead of the version by deaths of later records, which are left out of the copy, and behind it by what
the catalogue has recorded, which opening a shard repeats (indexer/recovery.py): a copy made at any later moment serves.
A restored shard goes on from its applied offset; the log brings what came since.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np

from dotstream.clock import Clock
from dotstream.errors import Misconfigured
from indexer import arguments, commit_page, folder
from indexer.catalogue import FAMILIES, Catalogue
from indexer.errors import Damaged, ForeignFormat
from indexer.folder import CURRENT, NEXT, Identity
from indexer.follower import Followed
from indexer.pages import PageFile
from indexer.segment_format import ALIGN, LIVE, sync_folder
from indexer.segments import Segment
from indexer.verify import verify_segments

FORMAT = 1
MANIFEST = "manifest.json"
_BATCH = 2_000
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Part:
    """One partition in a snapshot.

    Attributes:
        partition: its number.
        identity: what its folder was made for (indexer/folder.py).
        applied: the offset that it reflects.
        pins: live ones.
        codes: searchable ones.
        files: path within the snapshot -> [bytes, SHA-256 as hex].
    """

    partition: int
    identity: dict[str, Any]
    applied: int
    pins: int
    codes: int
    files: dict[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot.

    Attributes:
        generation: whose shards.
        topic_id: of objects.<generation>.
        taken_at: Unix ms.
        parts: its partitions.
    """

    generation: str
    topic_id: str
    taken_at: int
    parts: list[Part]


# -- taking ---------------------------------------------------------------------------------------------------------


def take(versions: Mapping[int, Followed], target: Path, clock: Clock, tell: Callable[[str], None]) -> Manifest:
    """Copies these versions into a new folder.

    Args:
        versions: partition -> the version, held open by a follower until this returns.
        target: the folder, outside of the generation's; it must not exist, or be empty.
        clock: for the time of the snapshot.
        tell: progress, in words.

    Raises:
        Misconfigured: the folder cannot be taken for it, or there is nothing to copy.
        Damaged, Retryable: the index cannot be read.
    """
    arguments.folder("target", target)
    if not versions:
        raise Misconfigured("there is no shard to take a snapshot of")
    for partition, version in versions.items():
        _require_whole(version, partition)
    _make_target(target, next(iter(versions.values())).path.parents[1])
    parts: list[Part] = []
    for partition, version in sorted(versions.items()):
        tell(f"partition {partition}: {version.state.codes} codes at offset {version.state.applied}")
        parts.append(_copy_part(version, target, partition))
    first = next(iter(versions.values())).identity
    manifest = Manifest(first.generation, first.topic_id, clock.now_ms(), parts)
    text = json.dumps({"format": FORMAT} | asdict(manifest), indent=1)
    _write(target / MANIFEST, text.encode())
    sync_folder(target)
    return manifest


def _require_whole(version: Followed, partition: int) -> None:
    problems = [] if _waits(version) else verify_segments(version.view, version.state)
    if problems:
        raise Damaged(
            f"partition {partition} is not copied, it is damaged: {problems[0]}"
            f"{f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''}; "
            "`dotstream index verify` lists everything, `dotstream index repair` rebuilds it from the log"
        )


def _waits(version: Followed) -> bool:
    """Whether sealed codes wait for their record, which puts them back in place."""
    with version.catalogue.scan("damaged") as found:
        return next(found, None) is not None


def _make_target(target: Path, generation: Path) -> None:
    if target.resolve().is_relative_to(generation.resolve()):
        raise Misconfigured(f"{target} lies in the index itself; give a new folder outside of it")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Misconfigured(f"{target} is, or lies below, a file; give a new folder") from None
    except (PermissionError, FileNotFoundError) as error:
        raise Misconfigured(f"{target} cannot be made ({error.strerror}); give a new folder elsewhere") from None
    if any(target.iterdir()):
        raise Misconfigured(f"{target} is not empty; give a new folder")


def _copy_part(version: Followed, target: Path, partition: int) -> Part:
    home = target / str(partition)
    (home / "segments").mkdir(parents=True)
    _copy_catalogue(version.catalogue, home / "catalogue")
    will_change = _waits(version)
    for segment, length in version.view.segments:
        copied = will_change or segment.number == version.state.head_segment
        _copy_codes(segment, length if copied else None, version.path / "segments", home / "segments")
        _copy_columns(segment, version.state.reached, home / "segments")
    for each in (home / "catalogue", home / "segments", home):
        sync_folder(each)
    files = {
        str(path.relative_to(target)): (path.stat().st_size, _sha256(path))
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }
    state, identity = version.state, json.loads(version.identity.pack())
    return Part(partition, identity, state.applied, state.live_pins, state.codes, files)


def _copy_catalogue(source: Catalogue, target: Path) -> None:
    copied = Catalogue(target)
    try:
        for family in FAMILIES:
            batch, waiting = copied.batch(), 0
            with source.scan(family) as found:
                for key, value in found:
                    batch.put(family, key, value)
                    waiting += 1
                    if waiting == _BATCH:
                        copied.write(batch)
                        batch, waiting = copied.batch(), 0
            copied.write(batch)
        copied.sync()
    finally:
        copied.close()
    for name in ("LOCK", "LOG", "LOG.old.*"):
        for path in target.glob(name):
            path.unlink()


def _copy_codes(segment: Segment, length: int | None, source: Path, target: Path) -> None:
    """The codes of a sealed segment, as a link where that can be, or codes up to a length."""
    path, spec = segment.name.path(target, ".codes"), segment.spec
    if length is None:
        with suppress(OSError):  # compaction removed it meanwhile, or the target is another file system
            os.link(segment.name.path(source, ".codes"), path)
            return
    codes, _ = segment.files()
    kept = len(codes) if length in {None, spec.capacity} else ALIGN + length * spec.code_bytes
    _write(path, codes[:kept], spec.codes_bytes)


def _copy_columns(segment: Segment, reached: int, target: Path) -> None:
    """The columns without deaths of records behind the version."""
    _, columns = segment.files()
    copied = bytearray(columns)
    at = segment.spec.column_at("died")
    died = np.frombuffer(copied, "<i8", segment.spec.capacity, at)
    died[died > reached] = LIVE
    _write(segment.name.path(target, ".meta"), copied)


def _write(path: Path, data: bytes | bytearray | memoryview, size: int | None = None) -> None:
    """Writes a file, to this size with zeros, and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        if size is not None:
            file.truncate(size)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


# -- putting back ---------------------------------------------------------------------------------------------------


def read_manifest(snapshot: Path) -> Manifest:
    """What a snapshot's folder holds.

    Raises:
        Misconfigured: it is no whole snapshot.
        ForeignFormat: of another format.
    """
    if not arguments.folder("snapshot", snapshot).is_dir():
        raise Misconfigured(f"{snapshot} is {'a file' if snapshot.exists() else 'not there'}; give a snapshot's folder")
    try:
        found = json.loads((snapshot / MANIFEST).read_text("utf-8"))
        if found.pop("format") != FORMAT:
            raise ForeignFormat(f"{snapshot} is a snapshot of another format; this software reads format {FORMAT}")
        parts = [
            Part(**{**part, "files": {name: (size, sha256) for name, (size, sha256) in part["files"].items()}})
            for part in found.pop("parts")
        ]
        return Manifest(parts=parts, **found)
    except FileNotFoundError:
        raise Misconfigured(f"{snapshot} holds no {MANIFEST}: it is no snapshot, or was not finished") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Misconfigured(f"{snapshot / MANIFEST} is no manifest: {error}") from None


def check_place(manifest: Manifest, generation: Path) -> None:
    """Whether a snapshot could be put back here, as far as the disk tells; `restore` looks at it too.

    Args:
        manifest: the snapshot's.
        generation: `<data>/index/<generation>`.

    Raises:
        Misconfigured: it is of another generation, or a partition's folder is not empty.
        ForeignFormat: its shards are of another format.
    """
    if manifest.generation != generation.name:
        raise Misconfigured(
            f"the snapshot is of generation {manifest.generation!r}, not {generation.name!r}: put it back as that"
        )
    known = {field.name for field in fields(Identity)} | {"format"}
    for part in manifest.parts:
        if part.identity.get("format") != folder.FORMAT or set(part.identity) != known:
            raise ForeignFormat(
                f"the shards have format {part.identity.get('format')}; this software reads format {folder.FORMAT}"
            )
        _check_empty(generation / str(part.partition))


def restore(snapshot: Path, generation: Path, *, topic_id: str, clock: Clock, tell: Callable[[str], None]) -> Manifest:
    """Puts a snapshot in place of empty folders; the index worker goes on from its offsets.

    Args:
        snapshot: its folder.
        generation: `<data>/index/<generation>`, whose name must be the snapshot's generation.
        topic_id: of objects.<generation> in the cluster at hand.
        clock: for the wait for a folder's lock.
        tell: progress, in words.

    Raises:
        Misconfigured: it is of another generation or topic, or a partition's folder is not empty.
        ForeignFormat: of another format.
        Damaged: a file is not what the manifest says; nothing was put in place.
    """
    arguments.folder("generation", generation)
    manifest = read_manifest(snapshot)
    check_place(manifest, generation)
    if manifest.topic_id != topic_id:
        raise Misconfigured(
            f"the snapshot reflects topic {manifest.topic_id}; the cluster's has the id {topic_id}. "
            "Its offsets mean nothing there: let the index worker replay the log instead"
        )
    made: list[tuple[Path, Path]] = []
    with ExitStack() as holds:
        for part in manifest.parts:
            home = generation / str(part.partition)
            home.mkdir(parents=True, exist_ok=True)
            holds.enter_context(folder.held(home, clock, 0))
            _check_empty(home)
            folder.clear_left_overs(home)
            version = folder.new_version(home)
            for name, (size, sha256) in part.files.items():
                _put_back(snapshot / name, version / Path(*Path(name).parts[1:]), size, sha256)
            _publish(version)
            made.append((home, version))
            tell(f"partition {part.partition}: {part.codes} codes, to go on behind offset {part.applied}")
        for home, version in made:
            folder.point(home, CURRENT, version)
    return manifest


def _check_empty(home: Path) -> None:
    for pointer in (CURRENT, NEXT):
        if (home / pointer).exists():
            raise Misconfigured(f"{home} is in use; move it away first, a snapshot is put into empty folders only")


def _put_back(source: Path, target: Path, size: int, sha256: str) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise Damaged(f"{source} is missing from the snapshot") from None
    target.chmod(_MODE)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    if target.stat().st_size != size or _sha256(target) != sha256:
        raise Damaged(f"{source} is not what the manifest says")


def _publish(version: Path) -> None:
    """The commit page of the restored state, which followers look at before a writer has opened the folder."""
    catalogue = Catalogue(version / "catalogue")
    try:
        state = commit_page.unpack(catalogue.get("meta", b"state") or b"")
    finally:
        catalogue.close()
    page = PageFile(version / "commit", writable=True)
    page.write(state.pack())
    page.sync()
    page.close()
    for each in (version / "catalogue", version / "segments", version):
        sync_folder(each)
