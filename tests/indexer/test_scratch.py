"""Folders of processes that are killed are swept away by the next one, and those of the living never are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dotstream.clock import SystemClock
from indexer import scratch
from indexer.follower import committed
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
from indexer.scratch import PREFIX, Scratch
from tests.support.index_oracle import live, log_of, open_shard

ROOT = Path(__file__).parents[2]
STORE = Store("trial", 1, ("rows",))
READS = """
from pathlib import Path
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader
reader = KeyedReader(Path("absent"), Store("trial", 1, ("rows",)), 1)
"""
LOOKS = """
import sys
from pathlib import Path
from dotstream.clock import SystemClock
from indexer.follower import committed
looking = committed(Path(sys.argv[1]), 0, SystemClock())
looking.__enter__()
"""
WAITS = "print('ready', flush=True)\ninput()\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process and of those it starts."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    monkeypatch.setenv("TMPDIR", str(made))
    return made


@contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code + WAITS, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def left(home: Path) -> list[Path]:
    return sorted(home.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("code", [READS, LOOKS])
def test_a_killed_process_leaves_nothing_for_long(home: Path, tmp_path: Path, code: str) -> None:
    shard = open_shard(tmp_path / "0", clock=SystemClock())
    shard.apply(log_of([("a", live("a"))]))
    shard.close()
    with running(code, str(tmp_path / "0")) as process:
        (folder,) = left(home)
        KeyedReader(tmp_path / "states", STORE, 1).close()
        assert left(home) == [folder], "its owner lives"
        process.kill()
        process.wait()
        assert left(home) == [folder]
        with committed(tmp_path / "0", 0, SystemClock()):
            assert folder not in left(home)
    assert left(home) == []


def test_a_reader_that_is_forgotten_is_cleared_away(home: Path, tmp_path: Path) -> None:
    reader = KeyedReader(tmp_path, STORE, 1)
    assert len(left(home)) == 1
    del reader
    assert left(home) == []


def test_a_removal_that_was_broken_off_is_taken_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Scratch()
    (first.path / "log").write_text("x")
    removed: list[object] = []

    def broken_off(path: Path, **_: object) -> None:
        removed.append(path)

    monkeypatch.setattr(shutil, "rmtree", broken_off)
    first.close()
    monkeypatch.undo()
    assert removed == [first.path, first.path.parent]
    assert first.path.exists()
    scratch.sweep(home)
    assert left(home) == []


def test_what_is_not_ours_to_remove_is_left_alone(home: Path, tmp_path: Path) -> None:
    foreign = home / f"{PREFIX}foreign"
    (foreign / "files").mkdir(parents=True)  # without a lock: whose it is cannot be told
    (home / f"{PREFIX}file").write_text("x")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "files").mkdir(parents=True)
    (elsewhere / "LOCK").touch()
    (home / f"{PREFIX}link").symlink_to(elsewhere)
    (home / f"{PREFIX}empty").mkdir()  # its owner ended before it held a lock
    before = left(home)
    Scratch().close()
    assert left(home) == [path for path in before if path.name != f"{PREFIX}empty"]
    assert sorted(path.name for path in elsewhere.iterdir()) == ["LOCK", "files"]


def test_many_come_and_go_at_once(home: Path) -> None:
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(40):
                with Scratch() as path:
                    (path / "log").write_text("mine")
                    os.sched_yield()
                    assert (path / "log").read_text() == "mine"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert left(home) == []
