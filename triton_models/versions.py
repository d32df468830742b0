"""Puts a version of a model into a repository that others read and write at the same time.

What is exported appears whole: the version's directory by one rename, after everything that belongs to it, so that a
serving Triton never meets half a model. Exports into one repository wait for each other here (`lock`), so that two of
them never take the same number or mix their files; a process that is killed lets go, and what it left is swept away.
A name keeps its tensors and labels over all its versions, since clients pin them once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from dotstream.errors import Misconfigured
from triton_models.cards import MODEL_FILE, ModelCard
from triton_models.files import locked, write_whole

CONFIG_FILE = "config.pbtxt"
LABELS_FILE = "labels.txt"


def lock(repository: Path) -> AbstractContextManager[None]:
    """Whoever writes into the repository holds this meanwhile."""
    return locked(repository / ".lock")


def add_version(repository: Path, data: bytes, card: ModelCard, files: Mapping[str, str]) -> ModelCard:
    """Writes the next version of a model and returns its card.

    Args:
        repository: the model repository.
        data: the ONNX file.
        card: of the model; version and digest are filled in here.
        files: name -> text of what lies beside the versions, `config.pbtxt` among them; what is there stays.

    Raises:
        Misconfigured: the name is taken by a model of other tensors or labels.
        OSError: no space, no permission; no version was added.
    """
    folder = repository / card.name
    with lock(repository):
        demand_same(folder, files)
        for name, text in files.items():
            if not (folder / name).is_file():
                write_whole(folder / name, text.encode())
        placed = replace(card, version=_next_version(folder), sha256=hashlib.sha256(data).hexdigest())
        place(folder, data, placed)
    return placed


def demand_same(folder: Path, files: Mapping[str, str]) -> None:
    """Raises Misconfigured when the model's folder has a configuration of other tensors, or other labels."""
    for name, meant in ((CONFIG_FILE, _tensors), (LABELS_FILE, str.splitlines)):
        path = folder / name
        if path.is_file() and (name not in files or meant(path.read_text("utf-8")) != meant(files[name])):
            raise Misconfigured(f"{path} is that of another model: export under another name")


def place(folder: Path, data: bytes, card: ModelCard) -> None:
    """Puts the version's directory in place by one rename. Hold the lock."""
    for left in folder.glob(".[0-9]*.[0-9]*"):  # by an export that was killed
        shutil.rmtree(left)
    beside, target = folder / f".{card.version}.{os.getpid()}", folder / str(card.version)
    write_whole(beside / MODEL_FILE, data)
    card.write(beside)
    if target.is_dir():
        # Renaming over a filled directory is not possible: take its files over one by one, the card last.
        for path in sorted(beside.iterdir(), key=lambda path: path.name != MODEL_FILE):
            path.replace(target / path.name)
        beside.rmdir()
    else:
        beside.rename(target)


def _next_version(folder: Path) -> int:
    taken = [int(path.name) for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    return max(taken, default=0) + 1


def _tensors(config: str) -> list[tuple[str, int, list[int]]]:
    """What clients rely on of a configuration."""
    try:
        parsed = text_format.Parse(config, ModelConfig())
    except text_format.ParseError as error:
        raise Misconfigured(f"a {CONFIG_FILE} in the repository cannot be read: {error}") from error
    return [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in [*parsed.input, *parsed.output]]
