"""Labelled pictures for retrieval and classification: a JSONL manifest, or a folder with one subfolder per label.

A manifest's line is `{"path": …, "label": …}` with, where known, `object` (pictures of the same thing share it),
`split`, `group` and `synthetic`; paths are relative to the manifest. `labels` may stand instead of `label` where a
picture has several: section 4 leaves pictures with conflicting classes out. What cannot be used becomes a `Problem`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured
from triton_models.data.problems import Problem
from triton_models.files import write_whole

MANIFEST_FILE = "manifest.jsonl"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True)
class Labelled:
    """A labelled picture.

    Attributes:
        path: of the file.
        label: its class.
        object: pictures with the same value show the same thing; the path itself where nothing is known.
        split: "train", "val", "test" or "" where the data has no splits.
        synthetic: rendered, not photographed.
    """

    path: Path
    label: str
    object: str
    split: str = ""
    synthetic: bool = False


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a manifest from its rows; `path` of a row is relative to the manifest."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def read_labelled(source: Path, *, split: str | None = None) -> tuple[list[Labelled], list[Problem]]:
    """Labelled pictures of a manifest, of a folder that holds one, or of a folder with a subfolder per label.

    Pictures are not opened; only that the files are there is checked.

    Args:
        source: the file or folder.
        split: only this one; None takes all.

    Returns:
        the pictures, in the manifest's order or sorted by path, and what cannot be used.

    Raises:
        Misconfigured: there is neither a manifest nor a labelled folder, or no picture of the split in it.
    """
    place = source / MANIFEST_FILE if (source / MANIFEST_FILE).is_file() else source
    if place.is_file():
        read = list(_of_manifest(place))
    elif place.is_dir():
        read = list(_of_folder(place))
    else:
        raise Misconfigured(f"{source} is neither a manifest nor a folder")
    problems = [one for one in read if isinstance(one, Problem)]
    pictures = [one for one in read if isinstance(one, Labelled) and split in (None, one.split)]
    if not pictures:
        of_split = f" of split {split!r}" if split else ""
        raise Misconfigured(
            f"{source} has no usable labelled picture{of_split} ({len(problems)} problems): a JSONL manifest with "
            "`path` and `label`, or a folder with one subfolder of pictures for each label, is needed"
        )
    return pictures, problems


def _of_folder(folder: Path) -> Iterator[Labelled | Problem]:
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        parts = path.relative_to(folder).parts
        if len(parts) < 2:
            yield Problem(str(path), "no_label", "lies in no subfolder that would name its label")
        elif path.suffix.lower() not in SUFFIXES:
            yield Problem(str(path), "not_a_picture", f"suffix {path.suffix!r}")
        else:
            yield Labelled(path, parts[0], str(path))


def _of_manifest(path: Path) -> Iterator[Labelled | Problem]:
    # Read as bytes: one line that is not UTF-8 is one bad row, not the end of the file.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            yield _row(path, number, line)


def _row(manifest: Path, number: int, line: bytes) -> Labelled | Problem:
    where = f"{manifest}:{number}"
    try:
        row = json.loads(line)
        named = row["path"]
        labels = row["labels"] if "labels" in row else [row["label"]]
        good = isinstance(named, str) and isinstance(labels, list) and all(isinstance(one, str) for one in labels)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Problem(where, "bad_row", f"not a row with path and label: {error!r}")
    if not good or not all(labels):
        return Problem(where, "bad_row", "path and label must be texts that are not empty")
    path = manifest.parent / named
    if len(set(labels)) != 1:
        return Problem(str(path), "conflicting_labels" if labels else "no_label", ", ".join(sorted(set(labels))))
    if not path.is_file():
        return Problem(str(path), "picture_missing", f"named in {where}")
    return Labelled(
        path=path,
        label=labels[0],
        object=str(row.get("object") or path),
        split=str(row.get("split") or ""),
        synthetic=row.get("synthetic") is True,
    )


def labels_of(pictures: Sequence[Labelled]) -> list[str]:
    """The labels that occur, sorted."""
    return sorted({picture.label for picture in pictures})
