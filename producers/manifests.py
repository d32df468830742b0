"""Catalogues of pins on disk as pin events: folders of pictures, single pictures, CSV, JSONL and Parquet manifests.

What `dotstream publish` and backfills read. A row that is no good is told with its place and does not stop the rest.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from dotstream.errors import Poison
from producers.event_rows import (
    ENGAGEMENT_COLUMNS,
    SAVE_COLUMNS,
    TAG_COLUMNS,
    engagement_from_row,
    save_from_row,
    tag_from_row,
)
from producers.events_pb2 import EngagementEvent, PinEvent, SaveEvent, TagEvent
from producers.rows import COLUMNS, PICTURE_SUFFIXES, Defaults, is_picture, pin_from_picture, pin_from_row

_Row = tuple[int, Mapping[str, object] | str]
"""Line or row number from 1, and the row, or what is wrong with it."""
_E = TypeVar("_E", PinEvent, SaveEvent, EngagementEvent, TagEvent)


@dataclass(frozen=True)
class ManifestError:
    """A row or file that gave no event.

    Attributes:
        where: "file:line" (in Parquet the row's number from 1), or the file alone.
        reason: what is wrong, for a person.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def read(
    paths: Sequence[Path],
    *,
    now_ms: Callable[[], int],
    kind: PinEvent.Kind = PinEvent.KIND_CREATED,
    version: int = 0,
) -> Iterator[PinEvent | ManifestError]:
    """Events in the order of the paths and rows; pictures of a folder by name, subfolders included, hidden ones not.

    A file is a manifest by its suffix (.csv, .jsonl, .ndjson, .parquet), else it must be a picture. In a folder only
    files with a picture's suffix count.

    Args:
        paths: folders, pictures and manifests.
        now_ms: the event time of rows that have none, Unix milliseconds.
        kind: of all events; with KIND_DELETED rows need only their pin_id.
        version: of rows that have none; 0 lets the event time stand for it.

    Yields:
        An event, or what is wrong with the row or file in its place.
    """
    defaults = Defaults(kind, version, now_ms)
    for path in paths:
        rows = _ROWS.get(path.suffix.lower())
        if path.is_dir():
            for picture in _pictures(path):
                yield _picture(picture, path, defaults)
        elif not path.exists():
            yield ManifestError(str(path), "no such file or folder")
        elif rows is not None:
            yield from _manifest(
                path, rows(path, COLUMNS), partial(pin_from_row, folder=path.parent, defaults=defaults)
            )
        else:
            yield _single(path, defaults)


def read_saves(paths: Sequence[Path], *, now_ms: Callable[[], int]) -> Iterator[SaveEvent | ManifestError]:
    """Save events of logs (.csv, .jsonl, .parquet), row by row; columns as producers/event_rows.py names them."""
    return _logs(paths, SAVE_COLUMNS, lambda row: save_from_row(row, now_ms))


def read_engagements(paths: Sequence[Path], *, now_ms: Callable[[], int]) -> Iterator[EngagementEvent | ManifestError]:
    """Engagement events of logs, as `read_saves`."""
    return _logs(paths, ENGAGEMENT_COLUMNS, lambda row: engagement_from_row(row, now_ms))


def read_tags(paths: Sequence[Path], *, now_ms: Callable[[], int]) -> Iterator[TagEvent | ManifestError]:
    """Tag events of logs, as `read_saves`."""
    return _logs(paths, TAG_COLUMNS, lambda row: tag_from_row(row, now_ms))


def _logs(
    paths: Sequence[Path], columns: frozenset[str], event_of: Callable[[Mapping[str, object]], _E]
) -> Iterator[_E | ManifestError]:
    for path in paths:
        rows = _ROWS.get(path.suffix.lower())
        if rows is None:
            yield ManifestError(str(path), "a log of events is a file that ends in .csv, .jsonl or .parquet")
        else:
            yield from _manifest(path, rows(path, columns), event_of)


def count(paths: Sequence[Path]) -> int:
    """About how many events `read` will yield, quickly: lines are counted, not parsed. 0 for what cannot be read."""
    total = 0
    for path in paths:
        try:
            total += _count_one(path)
        except (OSError, ValueError):
            continue
    return total


def _count_one(path: Path) -> int:
    suffix = path.suffix.lower()
    if path.is_dir():
        return sum(1 for _ in _pictures(path))
    if suffix == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415  as below

        return int(parquet.read_metadata(path).num_rows)
    if suffix not in _ROWS:
        return 1
    with path.open("rb") as file:
        lines = sum(1 for line in file if line.strip())
    return max(lines - (suffix == ".csv"), 0)


def _pictures(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(here) / name


def _picture(path: Path, root: Path, defaults: Defaults) -> PinEvent | ManifestError:
    try:
        return pin_from_picture(path, root, defaults)
    except Poison as error:
        return ManifestError(str(path), error.detail)


def _single(path: Path, defaults: Defaults) -> PinEvent | ManifestError:
    try:
        with path.open("rb") as file:
            known = is_picture(file.read(16)) or path.suffix.lower() in PICTURE_SUFFIXES
    except OSError as error:
        return ManifestError(str(path), str(error.strerror))
    if not known:
        return ManifestError(str(path), "neither a picture (JPEG, PNG, WebP) nor a manifest (.csv, .jsonl, .parquet)")
    return _picture(path, path.parent, defaults)


def _manifest(
    path: Path, rows: Iterator[_Row], event_of: Callable[[Mapping[str, object]], _E]
) -> Iterator[_E | ManifestError]:
    try:
        for line, row in rows:
            where = f"{path}:{line}"
            if isinstance(row, str):
                yield ManifestError(where, row)
                continue
            try:
                yield event_of(row)
            except Poison as error:
                yield ManifestError(where, error.detail)
    except (OSError, ValueError, csv.Error) as error:
        # The file itself is unreadable from here on: cut off, not UTF-8, not what its suffix says.
        yield ManifestError(str(path), f"cannot be read further: {error}")


def _csv_rows(path: Path, columns: frozenset[str]) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        unknown = sorted(set(reader.fieldnames or ()) - columns)
        if unknown or "pin_id" not in (reader.fieldnames or ()):
            found = f"unknown column {', '.join(unknown)}" if unknown else "no column pin_id in the first line"
            yield 1, f"{found} (known: {', '.join(sorted(columns))})"
            return
        for row in reader:
            surplus = None in row or None in row.values()
            yield reader.line_num, "another number of cells than the first line" if surplus else dict(row)


def _jsonl_rows(path: Path, _: frozenset[str]) -> Iterator[_Row]:
    # Read as bytes: one line that is not UTF-8 is one bad row, not the end of the file.
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON: {error}"
                continue
            yield number, row if isinstance(row, dict) else "not a JSON object"


def _parquet_rows(path: Path, _: frozenset[str]) -> Iterator[_Row]:
    # Imported here: pyarrow takes half a second, which only those pay who read Parquet.
    from pyarrow import ArrowException, parquet  # noqa: PLC0415

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except ArrowException as error:
        raise ValueError(str(error)) from error


_ROWS: dict[str, Callable[[Path, frozenset[str]], Iterator[_Row]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}
