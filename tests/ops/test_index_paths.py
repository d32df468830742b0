"""`dotstream index` with wrong folders, generations and partitions: the disk is looked at before a cluster is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from ops.cli import main
from tests.support.index_oracle import GENERATION, live, log_of, open_shard

Run = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    shard = open_shard(tmp_path / "data" / "index" / GENERATION / "0")
    shard.apply(log_of([("a", live("a"))]))
    shard.close()
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process, without a cluster, and returns the last line on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTSTREAM_KAFKA__BOOTSTRAP", raising=False)
    monkeypatch.setenv("DOTSTREAM_DATA", str(data))

    def invoke(*arguments: str, status: int = 1) -> str:
        out, err = StringIO(), StringIO()
        monkeypatch.setattr(sys, "argv", ["dotstream", "index", *arguments])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == status, err.getvalue()
        return (err.getvalue().splitlines() or [""])[-1]

    return invoke


@pytest.mark.parametrize("command", [["verify"], ["digest"], ["snapshot", "copy"]])
def test_where_no_index_is(run: Run, tmp_path: Path, command: list[str]) -> None:
    assert "no shard of generation 'g1' in /nonexist/index; --data names the folder" in run(
        *command, "--data", "/nonexist"
    )
    found = run(*command, "--generation", "nope")
    assert "no shard of generation 'nope' in" in found
    assert found.endswith("it has g1, which --generation chooses")
    (tmp_path / "file").write_text("x")
    assert "file is a file; --data names the folder" in run(*command, "--data", "file")
    assert not (tmp_path / "copy").exists()


def test_a_partition_that_is_not_there(run: Run, data: Path) -> None:
    (data / "index" / GENERATION / "5").write_text("a file")
    assert run("verify", "--partition", "5").endswith("/g1; it has 0")
    assert "no shard of partition 7" in run("digest", "--partition", "0", "--partition", "7")
    run("verify", "--partition", "0", "--partition", "0", status=0)


def test_a_generation_that_no_shard_can_have_is_not_rebuilt(run: Run) -> None:
    assert "a generation's name is 'Upper'" in run("repair", "--generation", "Upper")
    assert "no Kafka address" in run("repair")


def test_where_a_snapshot_cannot_be_put(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert "file is, or lies below, a file" in run("snapshot", "file")
    assert "file/x is, or lies below, a file" in run("snapshot", "file/x")
    assert "full is not empty" in run("snapshot", "full")
    assert "cannot be made" in run("snapshot", "/proc/nowhere")
    assert "lies in the index itself" in run("snapshot", str(data / "index" / GENERATION / "1"))
    run("verify", status=0)


def test_what_is_no_snapshot(run: Run, data: Path, tmp_path: Path) -> None:
    """Each is said before a cluster is asked for: there is none."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    fresh = ("--data", "fresh")
    assert "/nonexist is not there; give a snapshot's folder" in run("restore", "/nonexist", *fresh)
    assert "file is a file; give a snapshot's folder" in run("restore", "file", *fresh)
    assert "empty holds no manifest.json" in run("restore", "empty", *fresh)
    assert "holds no manifest.json" in run("restore", str(data), *fresh)
    manifest = tmp_path / "empty" / "manifest.json"
    for text in ("[]", "5", "{", '{"format": 1}', '{"format": 1, "parts": [1]}', '{"format": 1, "parts": 1}'):
        manifest.write_text(text)
        assert "manifest.json is no manifest" in run("restore", "empty", *fresh), text
    manifest.write_text('{"format": 9, "parts": []}')
    assert "another format" in run("restore", "empty", *fresh)


def test_a_snapshot_that_does_not_fit_here(run: Run, tmp_path: Path) -> None:
    run("snapshot", "copy", status=0)
    other = run("restore", "copy", "--data", "fresh", "--generation", "g2")
    assert "of generation 'g1', not 'g2': put it back as that" in other
    assert "is in use" in run("restore", "copy")
    assert "no Kafka address" in run("restore", "copy", "--data", "fresh")
    manifest = tmp_path / "copy" / "manifest.json"
    found = json.loads(manifest.read_text())
    found["parts"][0]["identity"]["format"] = 1
    manifest.write_text(json.dumps(found))
    assert "this software reads format" in run("restore", "copy", "--data", "fresh")
    assert not (tmp_path / "fresh").exists()
