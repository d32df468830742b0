from __future__ import annotations

import io
import json
import math
import re
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from PIL import Image
from prometheus_client import CollectorRegistry
from rich.console import Console

from ops.cli import COMMANDS, hoisted
from ops.commands.config import table
from ops.commands.options import answer
from ops.local.claim import claimed, write_stack
from ops.local.ports import free_ports
from ops.probes import Probes
from ops.settings import load
from tests.ops.test_supervisor import until
from triton_models.data.manifest import write_manifest


def dotstream(
    *arguments: object, cwd: Path, env: dict[str, str] | None = None, limit_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does."""
    import os

    clean = {name: value for name, value in os.environ.items() if not name.startswith("DOTSTREAM_")}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *map(str, arguments)],
        cwd=cwd, env={**clean, "PYTHONPATH": str(root), **(env or {})},
        capture_output=True, text=True, check=False, timeout=limit_s,
    )  # fmt: skip


def test_help_names_every_command_and_imports_none_of_them(tmp_path: Path) -> None:
    run = dotstream("--help", cwd=tmp_path)
    assert run.returncode == 0
    assert all(f"  {name} " in run.stdout for name in COMMANDS)
    heavy = ("numpy", "confluent_kafka", "pydantic", "rich", "torch", "llvmlite")
    probe = f"import sys, ops.cli; print([m for m in {heavy!r} if m in sys.modules])"
    root = str(Path(__file__).parents[2])
    found = subprocess.run([sys.executable, "-c", probe], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    module, attribute, about = COMMANDS[name]
    found = getattr(import_module(f"ops.commands.{module}"), attribute)
    assert callable(found) or isinstance(found, typer.Typer)
    assert about.endswith(".")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["up", "--data", "x"], ["--data", "x", "up"]),
        (["--data", "x", "up"], ["--data", "x", "up"]),
        (["dead", "list", "--data=x", "--json"], ["--data=x", "dead", "list", "--json"]),
        (["publish", "a", "--debug", "--config", "c"], ["--debug", "--config", "c", "publish", "a"]),
        (["pin", "--", "--data"], ["pin", "--", "--data"]),
        (["up", "--data"], ["up", "--data"]),
    ],
)
def test_options_of_every_command_may_stand_anywhere(given: list[str], expected: list[str]) -> None:
    assert hoisted(given) == expected


def test_an_error_is_one_line(tmp_path: Path) -> None:
    run = dotstream("topics", "ensure", "--data", tmp_path / "d", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("dotstream: no Kafka address: start a local stack")
    assert run.stderr.count("\n") == 1


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    run = dotstream("topics", "ensure", "--debug", cwd=tmp_path)
    assert run.returncode != 0
    assert "Traceback" in run.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["work"], ["work", "nonsense"], ["up", "--nonsense"]])
def test_a_wrong_command_line_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    run = dotstream(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert "Usage" in run.stderr


def test_config_show_says_where_values_come_from(tmp_path: Path) -> None:
    (tmp_path / "dotstream.toml").write_text('generation = "g5"\n')
    run = dotstream("config", "show", "--json", cwd=tmp_path, env={"DOTSTREAM_VISION__WINDOW": "7"})
    assert run.returncode == 0
    facts = json.loads(run.stdout)
    assert facts["generation"]["value"] == "g5"
    assert facts["generation"]["source"] == "file dotstream.toml"
    assert facts["vision.window"] | {"about": ""} == {
        "value": 7, "source": "environment DOTSTREAM_VISION__WINDOW", "about": "",
    }  # fmt: skip


def test_config_check_refuses_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dotstream.toml").write_text('[kafka]\nbootstrap = "b:1"\nsasl_password_file = "nowhere"\n')
    run = dotstream("config", "check", cwd=tmp_path)
    assert run.returncode == 1
    assert "nowhere" in run.stderr
    (tmp_path / "dotstream.toml").write_text('[kafka]\nbootstrap = "b:1"\n')
    assert dotstream("config", "check", cwd=tmp_path).returncode == 0


def test_status_without_a_stack(tmp_path: Path) -> None:
    run = dotstream("status", "--json", "--data", tmp_path / "d", cwd=tmp_path)
    assert run.returncode == 1
    assert json.loads(run.stdout) == {"ready": False, "kafka": None, "triton": None, "api": None}


def test_status_of_a_stack(tmp_path: Path) -> None:
    facts = {"ready": True, "kafka": "127.0.0.1:1", "triton": "127.0.0.1:2", "api": "http://127.0.0.1:3", "parts": {}}
    with claimed(tmp_path / "d"):
        write_stack(tmp_path / "d", facts)
        run = dotstream("status", "--json", "--data", tmp_path / "d", cwd=tmp_path)
    assert run.returncode == 0
    assert json.loads(run.stdout).items() >= facts.items()


def test_status_names_a_part_that_does_not_answer(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # connects, and never answers, as a stopped process does
    with Probes("127.0.0.1", 0, CollectorRegistry(), healthy=lambda: True, ready=lambda: True) as good, silent:
        parts = {
            "kafka": {"ready": True, "pid": 1, "restarts": 0},
            "index": {"ready": True, "pid": 2, "restarts": 0, "metrics": f"http://{good.address}/metrics"},
        }
        facts = {"ready": True, "kafka": "k:1", "triton": "t:1", "api": f"http://{good.address}", "generation": "g1"}
        stuck = {
            "ready": True,
            "pid": 3,
            "restarts": 0,
            "metrics": f"http://127.0.0.1:{silent.getsockname()[1]}/metrics",
        }
        with claimed(tmp_path / "d"):
            write_stack(tmp_path / "d", {**facts, "parts": parts})
            assert dotstream("status", "--data", tmp_path / "d", cwd=tmp_path).returncode == 0
            write_stack(tmp_path / "d", {**facts, "parts": {**parts, "vision": stuck}})
            run = dotstream("status", "--data", tmp_path / "d", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stdout.startswith("not ready: vision\n")


@pytest.mark.parametrize("arguments", [["pin", "p"], ["search", "picture.png"]])
def test_without_a_stack_nobody_is_asked(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "picture.png").touch()
    run = dotstream(*arguments, "--data", "d", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"dotstream: no local stack runs in {tmp_path / 'd'}")
    set_one = dotstream(*arguments, cwd=tmp_path, env={"DOTSTREAM_API__PORT": "9"})
    assert "127.0.0.1:9" in set_one.stderr


@pytest.mark.parametrize("option", ["--kafka", "--triton"])
def test_an_address_without_a_port_is_refused(tmp_path: Path, option: str) -> None:
    run = dotstream("up", "--data", tmp_path / "d", "--port", "0", option, "localhost", cwd=tmp_path)
    assert run.returncode == 1
    assert "'localhost' is no" in run.stderr
    assert "HOST:PORT" in run.stderr


def test_config_show_never_cuts_names(tmp_path: Path) -> None:
    rows = list(load().rows())
    narrow = Console(width=60, file=io.StringIO())
    narrow.print(table(rows))
    assert isinstance(narrow.file, io.StringIO)
    assert all(name in narrow.file.getvalue() for name, *_ in rows)
    piped = dotstream("config", "show", cwd=tmp_path, env={"COLUMNS": "40"}).stdout
    assert all(f"\n{name} " in piped for name, *_ in rows)


SERVE = """
import contextlib, pathlib, sys, types
from fastapi import FastAPI
from discovery.server import server
from ops.commands.work import leave_on_signals
folder = pathlib.Path(sys.argv[1])
leave_on_signals()
app = FastAPI(on_startup=[(folder / "up").touch])
app.state.context = types.SimpleNamespace(feed=types.SimpleNamespace(close=lambda: None))
with contextlib.ExitStack() as owned:
    owned.callback((folder / "closed").touch)
    server(app, "127.0.0.1", int(sys.argv[2])).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_api_gives_back_what_it_holds_when_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    arguments = [sys.executable, "-c", SERVE, str(tmp_path), str(free_ports(1)[0])]
    with subprocess.Popen(arguments, cwd=Path(__file__).parents[2]) as process:
        try:
            until(lambda: (tmp_path / "up").exists() or process.poll() is not None)
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert (tmp_path / "closed").exists()


HELD = """
import contextlib, pathlib, sys, threading, ops.cli
def app(*_, **__):
    with contextlib.ExitStack() as owned:
        owned.callback(pathlib.Path(sys.argv[1], "ended").touch)
        pathlib.Path(sys.argv[1], "up").touch()
        threading.Event().wait(60)
ops.cli.app = app
ops.cli.main()
"""


def test_a_command_that_is_told_to_end_ends_what_it_started(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], cwd=Path(__file__).parents[2]) as process:
        try:
            until(lambda: (tmp_path / "up").exists() or process.poll() is not None)
            process.terminate()
            assert process.wait(20) == 143
        finally:
            process.kill()
    assert (tmp_path / "ended").exists()


WITHOUT = """
import sys
for name in ("onnx", "tflite"):
    sys.modules[name] = None
"""


def test_what_a_plain_installation_leaves_out_is_named_with_its_group(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    rows = [{"path": "../x.png", "label": "a", "object": str(n)} for n in range(4)]
    write_manifest(tmp_path / "data" / "manifest.jsonl", rows)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    run = dotstream("eval", "retrieval", "data", cwd=tmp_path, env={"PYTHONPATH": path})
    assert run.returncode == 1
    assert re.search(r"^dotstream: this needs \w+, .*: uv sync --group models$", run.stderr, re.MULTILINE), run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_no_number_is_null_in_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"figures": {"a": {"value": math.nan}, "b": [1.5, -math.inf], "c": (2, "x")}, "path": Path("p")})
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said == {"figures": {"a": {"value": None}, "b": [1.5, None], "c": [2, "x"]}, "path": "p"}


def test_a_second_stack_in_the_folder_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path / "d"):
        run = dotstream("up", "--data", tmp_path / "d", cwd=tmp_path)
    assert run.returncode == 1
    assert "a local stack runs in" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "said"), [("java", "Java is missing"), ("mvn", "Maven is missing"), ("npm", "npm is missing")]
)
def test_a_missing_program_is_one_line_that_says_what_to_install(tmp_path: Path, missing: str, said: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/local/bin"):
        for program in Path(folder).iterdir():
            if program.name != missing and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    environment = {"PATH": str(programs), "JAVA_HOME": "", "DOTSTREAM_CACHE": str(tmp_path / "cache")}
    environment["DOTSTREAM_TRITON__REPOSITORY"] = str(tmp_path / "repository")
    own = ["--kafka", "127.0.0.1:9"] if missing == "npm" else []
    run = dotstream("up", "--data", tmp_path / "d", "--port", "0", *own, cwd=tmp_path, env=environment)
    assert run.returncode == 1
    lines = [line for line in run.stderr.splitlines() if line.startswith("dotstream: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "apt-get install" in lines[0]
    assert "Traceback" not in run.stderr


def test_an_unknown_benchmark_lists_those_there_are(tmp_path: Path) -> None:
    run = dotstream("bench", "nonsense", cwd=tmp_path)
    assert run.returncode == 1
    assert "pipeline" in run.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = dotstream("up", "--data", tmp_path / "d", "--port", port, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"dotstream: port {port} on 127.0.0.1 is taken; choose another with --port")
    assert run.stderr.count("\n") == 1


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    import os

    full = tmp_path / "full"
    full.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], check=False).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        run = dotstream("up", "--data", full / "d", cwd=tmp_path)
    finally:
        subprocess.run(["umount", full], check=True)
    assert run.returncode == 1
    assert "no disk space" in run.stderr
    assert run.stderr.count("\n") == 1
