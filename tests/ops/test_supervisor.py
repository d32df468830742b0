from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dotstream.clock import ManualClock, SystemClock
from dotstream.errors import Fatal, Misconfigured, Retryable, Unavailable
from ops.local import guard
from ops.local.claim import claimed, read_stack, write_stack
from ops.local.process import Process, Running, last_line, spawn
from ops.local.supervisor import Part, Restarts, Supervisor, guarded, within

CHILD = """
import pathlib, signal, subprocess, sys, time
name, folder, manner = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
def end(*_):
    with (folder / "ended").open("a") as file:
        file.write(name + chr(10))
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "stubborn" else end)
if manner == "parent":
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "grandchild").write_text(str(sleeper.pid))
if manner == "broken":
    sys.exit("it hurts")
with (folder / "started").open("a") as file:
    file.write(name + chr(10))
(folder / (name + ".ready")).touch()
time.sleep(600)
"""

WHOLE = """
import os, pathlib, sys, threading
sys.path.insert(0, {root!r})
from tests.ops.test_supervisor import part, supervisor
from ops.local.supervisor import guarded
folder = pathlib.Path({folder!r})
with guarded():
    running = supervisor(part(folder, "a", "parent"), part(folder, "b", "stubborn"))
    running.start(threading.Event())
    (folder / "pids").write_text(" ".join(str(s.running.pid) for s in running.states.values()))
    threading.Event().wait()
"""


def part(
    folder: Path, name: str, manner: str = "good", *needs: str, check: Callable[[Running], None] | None = None
) -> Part:
    def start() -> Running:
        (folder / f"{name}.ready").unlink(missing_ok=True)
        return spawn([sys.executable, "-c", CHILD, name, folder, manner], folder / f"{name}.log", {})

    def ready() -> None:
        if not (folder / f"{name}.ready").exists():
            raise Unavailable("not yet")

    def wait_ready(running: Running, limit_s: float) -> None:
        within(limit_s, ready, running, name, lambda: last_line(folder / f"{name}.log"))

    return Part(name, start, wait_ready, frozenset(needs), check=check, check_every_s=0.05, stop_limit_s=3)


def supervisor(*parts: Part) -> Supervisor:
    return Supervisor(parts, clock=SystemClock(), restarts=Restarts(first_s=0.05, longest_s=0.2))


def until(condition: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose children all end with the test."""
    with guarded():
        yield tmp_path


def pids(running: Supervisor) -> dict[str, int]:
    return {name: state.running.pid for name, state in running.states.items() if state.running is not None}


def test_parts_start_after_what_they_need_and_end_before_it(folder: Path) -> None:
    running = supervisor(part(folder, "api", "good", "base"), part(folder, "base"), part(folder, "late", "good", "api"))
    running.start(threading.Event())
    assert running.ready
    assert (folder / "started").read_text().split() == ["base", "api", "late"]
    started = pids(running)
    running.stop()
    assert (folder / "ended").read_text().split() == ["late", "api", "base"]
    assert not any(runs(pid) for pid in started.values())


def test_a_killed_part_is_started_again(folder: Path) -> None:
    running = supervisor(part(folder, "a"), part(folder, "b"))
    running.start(threading.Event())
    before = pids(running)
    os.kill(before["a"], signal.SIGKILL)
    stepped = stepping(running, lambda: running.states["a"].restarts == 1 and running.ready)
    assert stepped
    after = pids(running)
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    running.stop()


def stepping(running: Supervisor, condition: Callable[[], bool]) -> bool:
    def step() -> bool:
        running.step()
        return condition()

    until(step)
    return True


def test_a_part_whose_check_fails_twice_is_started_again(folder: Path) -> None:
    broken = threading.Event()

    def check(_: Running) -> None:
        if broken.is_set():
            raise Retryable("it answers nonsense")

    running = supervisor(part(folder, "a", check=check))
    running.start(threading.Event())
    before = pids(running)["a"]
    broken.set()
    stepping(running, lambda: running.states["a"].restarts == 1)
    broken.clear()
    stepping(running, lambda: running.ready)
    assert pids(running)["a"] != before
    running.stop()


def test_pauses_before_restarts_double_up_to_a_bound() -> None:
    restarts = Restarts(first_s=0.5, longest_s=8)
    assert [restarts.after(n) for n in (1, 2, 3, 4, 5, 6, 100)] == [0.5, 1, 2, 4, 8, 8, 8]


def test_a_part_that_ends_at_its_start_is_told_with_its_last_line(folder: Path) -> None:
    running = supervisor(part(folder, "a", "broken"), part(folder, "b"))
    with pytest.raises(Fatal, match="a ended: it hurts"):
        running.start(threading.Event())
    running.stop()


def test_a_stop_during_the_start_returns(folder: Path) -> None:
    stop = threading.Event()
    stopped = threading.Event()

    def wait_ready(running: Running, limit_s: float) -> None:
        stopped.wait(20)

    never = Part("never", part(folder, "never").start, wait_ready)
    waiting = supervisor(never, part(folder, "after", "good", "never"))
    stop.set()
    waiting.start(stop)
    waiting.stop()
    stopped.set()
    assert not (folder / "after.ready").exists()


def test_a_stubborn_part_is_killed_at_its_limit(folder: Path) -> None:
    running = supervisor(part(folder, "a", "stubborn"))
    running.start(threading.Event())
    pid = pids(running)["a"]
    started = time.monotonic()
    running.stop()
    assert 3 <= time.monotonic() - started < 15
    assert not runs(pid)


def test_kill_ends_everything_at_once(folder: Path) -> None:
    running = supervisor(part(folder, "a", "stubborn"), part(folder, "b", "parent"))
    running.start(threading.Event())
    left = [*pids(running).values(), int((folder / "grandchild").read_text())]
    running.kill()
    until(lambda: not any(runs(pid) for pid in left), limit_s=2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_nothing_outlives_a_supervisor_that_died(tmp_path: Path, number: signal.Signals) -> None:
    root = str(Path(__file__).parents[2])
    script = WHOLE.format(root=root, folder=str(tmp_path))
    whole = subprocess.Popen([sys.executable, "-c", script], cwd=root)
    until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text() != "")
    left = [int(word) for word in (tmp_path / "pids").read_text().split()]
    left.append(int((tmp_path / "grandchild").read_text()))
    assert all(runs(pid) for pid in left)
    whole.send_signal(number)
    whole.wait(10)
    until(lambda: not any(runs(pid) for pid in left), limit_s=15)


def test_guarded_leaves_no_mark_behind() -> None:
    with guarded() as stopped:
        token = os.environ[guard.VARIABLE]
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        assert guard.marked(token) == [child.pid]
        stopped()
    assert guard.VARIABLE not in os.environ
    assert child.wait(5) == -signal.SIGKILL


def test_one_supervisor_for_each_folder(tmp_path: Path) -> None:
    with claimed(tmp_path):
        write_stack(tmp_path, {"ready": True, "kafka": "127.0.0.1:1"})
        assert read_stack(tmp_path) == {"ready": True, "kafka": "127.0.0.1:1"}
        with pytest.raises(Misconfigured, match="a local stack runs in"), claimed(tmp_path):
            pass
    assert read_stack(tmp_path) is None, "what a stack that is gone had said does not count"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="data folder"), claimed(tmp_path / "file" / "data"):
        pass


def test_a_log_that_grew_too_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.local.process.LOG_LIMIT", 10)
    log = tmp_path / "logs" / "a.log"
    for word in ("first", "second"):
        child = spawn([sys.executable, "-c", f"print('{word} word of it')"], log, {})
        until(lambda child=child: not child.alive())  # type: ignore[misc]
        child.stop(1)
    assert log.read_text() == "second word of it\n"
    assert log.with_suffix(".log.1").read_text() == "first word of it\n"
    assert isinstance(child, Process)
    assert child.status == 0


def test_a_part_that_fails_its_checks_is_given_the_time_it_was_granted(folder: Path) -> None:
    clock = ManualClock()
    answers = threading.Event()

    def check(_: Running) -> None:
        if not answers.is_set():
            raise Unavailable("silent")

    patient = dataclasses.replace(part(folder, "a", check=check), doubt_s=60.0)
    running = Supervisor([patient], clock=clock, restarts=Restarts(first_s=0.05, longest_s=0.2))
    running.start(threading.Event())
    state = running.states["a"]

    def look(after_s: float) -> None:
        clock.sleep(after_s)
        running.step()
        until(lambda: state.busy is None or state.busy.done())
        running.step()

    for _ in range(5):
        look(10.0)
    assert (state.restarts, state.check_failures > 2) == (0, True)
    answers.set()
    look(10.0)
    assert state.check_failures == 0
    answers.clear()
    for _ in range(8):
        look(10.0)
    assert state.restarts == 1
    running.stop()


def test_a_check_that_answers_after_the_stop_does_no_harm(folder: Path) -> None:
    looking, answer = threading.Event(), threading.Event()

    def check(_: Running) -> None:
        looking.set()
        answer.wait(20)

    running = supervisor(part(folder, "a", check=check))
    running.start(threading.Event())

    def looked() -> bool:
        running.step()
        return looking.is_set()

    until(looked)
    busy = running.states["a"].busy
    running.stop()
    answer.set()
    assert busy is not None
    until(busy.done)
    assert busy.exception() is None
