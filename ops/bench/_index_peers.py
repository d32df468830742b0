"""Embedded stores that people use, as peers of `dotstream bench index` and `hamming`: appends and Hamming search.

Each appends in batches that are on the disk when `add` returns, unless told otherwise, and answers with the k nearest,
exactly but for usearch's graph. They are in the dependency group `bench` and imported when they are measured. Stores
that run as a server of their own stand in _server_peers.py.
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

    def rows(self, codes: Codes) -> Any:
        """Codes, uint8 [n, bytes], in the form in which `add` takes them; to be added in the order of these calls."""
        ...

    def add(self, rows: Any, *, durable: bool = True) -> None:
        """Appends; found from then on, and on the disk when it returns unless `durable` is false and the store can do
        the one without the other.
        """
        ...

    def nearest(self, code: Codes, k: int) -> list[int]:
        """Numbers of the k nearest to uint8 [bytes]."""
        ...


class FaissFlat:
    """faiss IndexBinaryFlat, written whole and synced after each batch: it has no other way to be durable."""

    def __init__(self, folder: Path, width: int) -> None:
        self._faiss = peer_module("faiss")
        self._faiss.omp_set_num_threads(1)
        self._index = self._faiss.IndexBinaryFlat(width * 8)
        self._path = folder / "faiss.index"

    def rows(self, codes: Codes) -> Codes:
        return codes

    def add(self, rows: Codes, *, durable: bool = True) -> None:
        self._index.add(rows)
        if durable:
            _put_whole(self._path, lambda draft: self._faiss.write_index_binary(self._index, draft))

    def nearest(self, code: Codes, k: int) -> list[int]:
        found: list[int] = self._index.search(code[None], k)[1][0].tolist()
        return found


class SqliteVec:
    """sqlite-vec: a virtual table in SQLite, write-ahead log, `synchronous = FULL`, or `NORMAL` for what need not last.

    apsw loads the extension, which many builds of Python's own sqlite3 cannot.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._base = peer_module("apsw").Connection(str(folder / "codes.sqlite"))
        self._base.enable_load_extension(True)
        self._base.load_extension(peer_module("sqlite_vec").loadable_path())
        self._base.pragma("journal_mode", "wal")
        self._base.execute(f"create virtual table codes using vec0(code bit[{width * 8}])")
        self._count = 0

    def rows(self, codes: Codes) -> list[tuple[int, bytes]]:
        rows = [(self._count + n, code.tobytes()) for n, code in enumerate(codes, 1)]
        self._count += len(rows)
        return rows

    def add(self, rows: list[tuple[int, bytes]], *, durable: bool = True) -> None:
        self._base.pragma("synchronous", "full" if durable else "normal")
        with self._base:
            self._base.executemany("insert into codes(rowid, code) values (?, vec_bit(?))", rows)

    def nearest(self, code: Codes, k: int) -> list[int]:
        question = "select rowid from codes where code match vec_bit(?) and k = ? order by distance"
        return [row - 1 for (row,) in self._base.execute(question, (code.tobytes(), k))]


class Lance:
    """LanceDB: a table of fixed-size lists of bytes, flat search by Hamming distance. It has one way to append."""

    def __init__(self, folder: Path, width: int) -> None:
        self._arrow = importlib.import_module("pyarrow")
        self._width = width
        code = self._arrow.list_(self._arrow.uint8(), width)
        schema = self._arrow.schema([("number", self._arrow.int64()), ("code", code)])
        self._table = peer_module("lancedb").connect(folder / "lance").create_table("codes", schema=schema)
        self._count = 0

    def rows(self, codes: Codes) -> Any:
        flat = self._arrow.array(codes.reshape(-1))
        lists = self._arrow.FixedSizeListArray.from_arrays(flat, self._width)
        numbers = self._arrow.array(np.arange(self._count, self._count + len(codes)))
        self._count += len(codes)
        return self._arrow.table({"number": numbers, "code": lists})

    def add(self, rows: Any, *, durable: bool = True) -> None:  # noqa: ARG002
        self._table.add(rows)

    def nearest(self, code: Codes, k: int) -> list[int]:
        found: Any = self._table.search(code, vector_column_name="code").distance_type("hamming").limit(k)
        return [int(row["number"]) for row in found.select(["number", "_distance"]).to_list()]


class UsearchGraph:
    """usearch's index as it comes, a graph that answers approximately; written whole and synced to be durable."""

    def __init__(self, folder: Path, width: int) -> None:
        usearch = peer_module("usearch.index")
        self._index = usearch.Index(ndim=width * 8, metric=usearch.MetricKind.Hamming, dtype=usearch.ScalarKind.B1)
        self._path = folder / "usearch.index"
        self._count = 0

    def rows(self, codes: Codes) -> tuple[Any, Codes]:
        numbers = np.arange(self._count, self._count + len(codes))
        self._count += len(codes)
        return numbers, codes

    def add(self, rows: tuple[Any, Codes], *, durable: bool = True) -> None:
        self._index.add(*rows)
        if durable:
            _put_whole(self._path, self._index.save)

    def nearest(self, code: Codes, k: int) -> list[int]:
        return [int(number) for number in self._index.search(code, k).keys]


PEERS: dict[str, Callable[[Path, int], Peer]] = {
    "faiss IndexBinaryFlat": FaissFlat,
    "sqlite-vec": SqliteVec,
    "LanceDB": Lance,
}


def peer_module(name: str) -> Any:
    """A peer's module.

    Raises:
        Misconfigured: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Misconfigured(f"the benchmark needs {error.name}: uv sync --group bench") from None


def _put_whole(path: Path, write: Callable[[str], None]) -> None:
    """Replaces a file by what `write` writes under the name it is given, so that a crash leaves one of the two."""
    draft = path.with_suffix(".tmp")
    write(str(draft))
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
