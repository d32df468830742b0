"""`dotstream search` and `dotstream pin` against a served stage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from discovery.ports import DeadLetter
from dotstream.errors import DotstreamError
from ops.cli import app
from tests.discovery.serving import serving
from tests.discovery.stage import NOW, Stage, patch
from tests.discovery.waiting import until


class Shell:
    """Runs commands in a folder of their own against one API."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder

    def run(self, command: str, *arguments: str) -> Result:
        return CliRunner().invoke(
            app, ["--data", str(self._folder / "data"), command, *arguments, "--api", self._address]
        )


@pytest.fixture
def shell(stage: Stage, tmp_path: Path) -> Iterator[Shell]:
    with serving(stage.services) as (address, _):
        yield Shell(address, tmp_path)


@pytest.fixture
def red(tmp_path: Path) -> str:
    path = tmp_path / "red.png"
    path.write_bytes(patch("red"))
    return str(path)


def test_search_finds_what_looks_like_a_picture(shell: Shell, stage: Stage, red: str) -> None:
    stage.pin("a", patch("red", size=(500, 300)), annotations=["art"])
    stage.pin("b", patch("blue"))
    found = shell.run("search", red, "-k", "1", "--json")
    assert found.exit_code == 0, found.output
    assert [hit["pin_id"] for hit in json.loads(found.stdout)["results"]] == ["a"]
    boxed = shell.run("search", red, "--box", "0.25,0.25,0.75,0.75", "--objects", "--json")
    assert json.loads(boxed.stdout)["results"][0]["pin_id"] == "a"
    table = shell.run("search", red).stdout
    assert "searched: Patch at 0.25, 0.25, 0.75, 0.75" in table
    assert "annotations: art" in table


def test_search_says_in_one_line_what_is_wrong(shell: Shell, tmp_path: Path, red: str) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    for arguments, words in [
        ((str(tmp_path / "missing.jpg"),), "No such file"),
        ((red, "--box", "0.9,0,0.1,1"), "inverted"),
        ((str(text),), "bad-picture"),
    ]:
        failed = shell.run("search", *arguments)
        assert failed.exit_code == 1
        assert isinstance(failed.exception, DotstreamError)
        assert words in str(failed.exception)


def test_pin_tells_each_stage_or_why_it_stopped(shell: Shell, stage: Stage) -> None:
    stage.dots(stage.pin("a", patch("red")))
    until(lambda: stage.services.dots.get("a"))
    found = shell.run("pin", "a")
    assert found.exit_code == 0, found.output
    for word in ("a shows 1 of 1 dots", "event", "record", "searchable", "dots", "84 ms", "Patch", "signals", "0.910"):
        assert word in found.stdout
    stage.letters.letters["bad"] = [DeadLetter("pins", 3, 17, "picture_truncated", "ends early", NOW, NOW + 9)]
    dead = shell.run("pin", "bad")
    assert dead.exit_code == 0
    assert "picture_truncated" in dead.stdout
    assert json.loads(shell.run("pin", "bad", "--json").stdout)["state"] == "dead"
    unseen = shell.run("pin", "nobody")
    assert unseen.exit_code == 1
    assert "has not been seen" in unseen.stdout


def test_without_an_api_the_error_names_its_address(tmp_path: Path) -> None:
    failed = Shell("http://127.0.0.1:9", tmp_path).run("pin", "a")
    assert failed.exit_code == 1
    assert "127.0.0.1:9" in str(failed.exception)
