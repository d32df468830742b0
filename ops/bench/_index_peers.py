"""Embedded stores that people use, as peers of `dotstream bench index`: durable appends and exact Hamming search.

Each appends in batches that are on the disk when `add` returns, and answers with the k nearest exactly. They are in the
dependency group `bench` and imported when they are measured.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dotstream.errors import Misconfigured

Codes = npt.NDArray[np.uint8]


class Peer(Protocol):
    """A store of codes, each under the number at which it was added."""

    def add(self, codes: Codes) -> None:
        """Appends uint8 [n, bytes]; durable when it returns."""
        ...

    def nearest(self, code: Codes, k: int) -> list[int]:
        """Numbers of the k nearest to uint8 [bytes]."""
        ...


class FaissFlat:
    """faiss IndexBinaryFlat, written whole and synced after each batch: it has no other way to be durable."""

    def __init__(self, folder: Path, width: int) -> None:
        self._faiss = _peer("faiss")
        self._faiss.omp_set_num_threads(1)
        self._index = self._faiss.IndexBinaryFlat(width * 8)
        self._path = folder / "faiss.index"

    def add(self, codes: Codes) -> None:
        self._index.add(codes)
        draft = self._path.with_suffix(".tmp")
        self._faiss.write_index_binary(self._index, str(draft))
        _sync(draft)
        draft.replace(self._path)
        _sync(self._path.parent)

    def nearest(self, code: Codes, k: int) -> list[int]:
        found: list[int] = self._index.search(code[None], k)[1][0].tolist()
        return found


class SqliteVec:
    """sqlite-vec: a virtual table in SQLite, write-ahead log, `synchronous = FULL`.

    apsw loads the extension, which many builds of Python's own sqlite3 cannot.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._base = _peer("apsw").Connection(str(folder / "codes.sqlite"))
        self._base.enable_load_extension(True)
        self._base.load_extension(_peer("sqlite_vec").loadable_path())
        self._base.pragma("journal_mode", "wal")
        self._base.pragma("synchronous", "full")
        self._base.execute(f"create virtual table codes using vec0(code bit[{width * 8}])")
        self._count = 0

    def add(self, codes: Codes) -> None:
        rows = [(self._count + n, code.tobytes()) for n, code in enumerate(codes, 1)]
        with self._base:
            self._base.executemany("insert into codes(rowid, code) values (?, vec_bit(?))", rows)
        self._count += len(rows)

    def nearest(self, code: Codes, k: int) -> list[int]:
        question = "select rowid from codes where code match vec_bit(?) and k = ? order by distance"
        return [row - 1 for (row,) in self._base.execute(question, (code.tobytes(), k))]


class Lance:
    """LanceDB: a table of fixed-size lists of bytes, flat search by Hamming distance."""

    def __init__(self, folder: Path, width: int) -> None:
        self._arrow = importlib.import_module("pyarrow")
        self._width = width
        code = self._arrow.list_(self._arrow.uint8(), width)
        schema = self._arrow.schema([("number", self._arrow.int64()), ("code", code)])
        self._table = _peer("lancedb").connect(folder / "lance").create_table("codes", schema=schema)
        self._count = 0

    def add(self, codes: Codes) -> None:
        flat = self._arrow.array(codes.reshape(-1))
        lists = self._arrow.FixedSizeListArray.from_arrays(flat, self._width)
        numbers = self._arrow.array(np.arange(self._count, self._count + len(codes)))
        self._table.add(self._arrow.table({"number": numbers, "code": lists}))
        self._count += len(codes)

    def nearest(self, code: Codes, k: int) -> list[int]:
        found: Any = self._table.search(code, vector_column_name="code").distance_type("hamming").limit(k)
        return [int(row["number"]) for row in found.select(["number"]).to_list()]


PEERS: dict[str, Callable[[Path, int], Peer]] = {
    "faiss IndexBinaryFlat": FaissFlat,
    "sqlite-vec": SqliteVec,
    "LanceDB": Lance,
}


def _peer(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Misconfigured(f"the benchmark needs {error.name}: uv sync --group bench") from None


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
