"""Starts the parts of a stack, keeps them alive and ends them: what each part is, ops/local/stack.py says.

Parts start in order of what they need, side by side where nothing forbids it. One that dies, or whose check fails, is
started again after a pause that doubles up to a bound. They end in reverse order, each within a limit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Fatal, Misconfigured
from ops.local import guard
from ops.local.process import Running

log = logging.getLogger(__name__)

CHECK_FAILURES = 2  # in a row, before a part that still runs is taken for broken
SECOND_LOOK_S = 1.0
ASIDE_LIMIT_S = 3.0  # for starts and checks in progress when all parts have ended


@dataclass(frozen=True)
class Restarts:
    """Pauses before a part is started again; a part that ran for `steady_s` starts afresh in the count."""

    first_s: float = 0.2
    longest_s: float = 15.0
    steady_s: float = 30.0

    def after(self, failures: int) -> float:
        return float(min(self.longest_s, self.first_s * 2 ** min(max(failures, 1) - 1, 16)))


@dataclass(frozen=True)
class Part:
    """One supervised part.

    Attributes:
        name: unique; the worker's role, "kafka", "triton" or "api".
        start: starts it and returns at once. Raises DotstreamError.
        wait_ready: returns when it serves, within a limit in seconds; raises Unavailable when that has passed, Fatal
            when the part ended.
        needs: names of parts that must be ready first.
        check: raises when a part that runs does not work; called every `check_every_s` with what `start` gave.
        doubt_s: how long its checks must have failed, one after another, before it is started again.
        stop_limit_s: how long it may take to end.
    """

    name: str
    start: Callable[[], Running]
    wait_ready: Callable[[Running, float], None]
    needs: frozenset[str] = frozenset()
    check: Callable[[Running], None] | None = None
    check_every_s: float = 10.0
    doubt_s: float = 0.0
    stop_limit_s: float = 10.0
    ready_limit_s: float = 120.0


@dataclass
class State:
    """What is known of one part."""

    part: Part
    running: Running | None = None
    ready: bool = False
    restarts: int = 0
    failures: int = 0
    since: float = 0.0
    again_at: float | None = None
    check_at: float = 0.0
    check_failures: int = 0
    doubted_at: float = 0.0
    busy: Future[None] | None = field(default=None, repr=False)


class Supervisor:
    """Owns the parts of one stack. `start` and `watch` are called by one thread; `kill` by any.

    Args:
        parts: in the order in which they are named to people.
        changed: called after each change of a part's state, on the owning thread.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        clock: Clock,
        restarts: Restarts | None = None,
        changed: Callable[[Mapping[str, State]], None] = lambda _: None,
    ) -> None:
        self.states = {part.name: State(part) for part in parts}
        self._clock = clock
        self._restarts = restarts or Restarts()
        self._changed = changed
        self._stopping = False
        self._starting: dict[Future[None], State] = {}

    @property
    def ready(self) -> bool:
        return all(state.ready for state in self.states.values())

    @property
    def stopping(self) -> bool:
        return self._stopping

    def start(self, stop: threading.Event) -> None:
        """Starts all parts and returns when they are ready, or when `stop` is set.

        Raises:
            DotstreamError: a part did not come up; the others still run, and `stop` ends them.
        """
        pending = self._starting
        waiting = list(self.states.values())
        while (waiting or pending) and not stop.is_set():
            for state in [s for s in waiting if all(self.states[n].ready for n in s.part.needs)]:
                waiting.remove(state)
                pending[_aside(self._bring_up, state)] = state
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                state = pending.pop(future)
                future.result()
                self._is_up(state)

    def watch(self, stop: threading.Event, *, every_s: float = 0.25) -> None:
        """Keeps the parts alive until `stop` is set."""
        while not stop.wait(every_s):
            self.step()

    def step(self) -> None:
        """One look at every part: notices deaths, runs checks that are due, starts again what is due."""
        now = self._clock.monotonic()
        for state in self.states.values():
            if state.busy is not None:
                if state.busy.done():
                    self._settle(state, now)
            elif state.running is None:
                if state.again_at is not None and now >= state.again_at and self._can_start(state):
                    state.busy = _aside(self._bring_up, state)
            elif not state.running.alive():
                self._down(state, now, "ended")
            elif state.part.check is not None and now >= state.check_at:
                state.busy = _aside(state.part.check, state.running)

    def stop(self) -> None:
        """Ends all parts, the last started first; what nothing depends on any more ends side by side.

        Starts and checks in progress are waited for a little: a thread that is loading a library when the interpreter
        ends brings the process down.
        """
        self._stopping = True
        left = dict(self.states)
        while left:
            needed = {name for state in left.values() for name in state.part.needs}
            layer = [state for name, state in left.items() if name not in needed] or list(left.values())
            wait([_aside(self._end, state) for state in layer])
            for state in layer:
                del left[state.part.name]
        wait([*self._starting, *(state.busy for state in self.states.values() if state.busy)], timeout=ASIDE_LIMIT_S)

    def kill(self) -> None:
        """Kills all parts at once."""
        self._stopping = True
        for state in self.states.values():
            if state.running is not None:
                state.running.kill()

    def _can_start(self, state: State) -> bool:
        return all(self.states[name].ready for name in state.part.needs)

    def _bring_up(self, state: State) -> None:
        running = state.part.start()
        state.running = running
        if self._stopping:
            running.kill()
            return
        state.part.wait_ready(running, state.part.ready_limit_s)

    def _is_up(self, state: State) -> None:
        state.ready = True
        state.since = self._clock.monotonic()
        state.again_at = None
        state.check_at = state.since + state.part.check_every_s
        state.check_failures = 0
        log.info("%s is ready", state.part.name)
        self._changed(self.states)

    def _settle(self, state: State, now: float) -> None:
        """Takes in the result of a start or of a check."""
        busy, state.busy = state.busy, None
        error = busy.exception() if busy is not None else None
        if state.ready:
            doubt = error is not None
            state.check_at = now + (min(SECOND_LOOK_S, state.part.check_every_s) if doubt else state.part.check_every_s)
            state.check_failures = state.check_failures + 1 if doubt else 0
            if state.check_failures == 1:
                state.doubted_at = now
            if state.check_failures >= CHECK_FAILURES and now - state.doubted_at >= state.part.doubt_s:
                self._down(state, now, f"does not work: {error}")
        elif error is None:
            self._is_up(state)
        else:
            self._down(state, now, f"did not start: {error}")

    def _down(self, state: State, now: float, why: str) -> None:
        steady = state.ready and now - state.since >= self._restarts.steady_s
        state.failures = 1 if steady else state.failures + 1
        state.restarts += 1
        pause = self._restarts.after(state.failures)
        log.warning("%s %s; starting it again in %.1f s", state.part.name, why, pause)
        if state.running is not None:
            with contextlib.suppress(DotstreamError, OSError):
                state.running.kill()
        state.running, state.ready, state.again_at, state.check_failures = None, False, now + pause, 0
        self._changed(self.states)

    def _end(self, state: State) -> None:
        if state.running is not None:
            try:
                state.running.stop(state.part.stop_limit_s)
            except (DotstreamError, OSError) as error:
                log.warning("%s: %s", state.part.name, error)
        state.ready = False


def _aside(work: Callable[..., None], *arguments: object) -> Future[None]:
    """Runs on a thread of its own, which does not keep the process alive: a start may hang on a foreign server."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="part", daemon=True).start()
    return future


@contextlib.contextmanager
def guarded() -> Iterator[Callable[[], None]]:
    """Within it, whatever this process starts ends with it, however it ends; see ops/local/guard.py.

    Yields:
        To be called when the parts have been stopped in order, so that nothing is left to be gentle to.
    """
    token = uuid.uuid4().hex
    outside = {name: value for name, value in os.environ.items() if name != guard.VARIABLE}
    command: Sequence[str | Path] = [sys.executable, "-I", "-S", Path(guard.__file__), token]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, env=outside, start_new_session=True)
    os.environ[guard.VARIABLE] = token

    def stopped() -> None:
        if watcher.stdin is not None:
            watcher.stdin.write(b"stopped")
            watcher.stdin.flush()

    try:
        yield stopped
    finally:
        os.environ.pop(guard.VARIABLE, None)
        if watcher.stdin is not None:
            watcher.stdin.close()
        watcher.wait()


def within(limit_s: float, probe: Callable[[], Any], running: Running, name: str, complaint: Callable[[], str]) -> None:
    """Repeats `probe` until it returns without an error of the kind that passes.

    Raises:
        Fatal: the process ended; `complaint` says what it said last.
        Misconfigured: as the probe raised it.
        DotstreamError: the probe's last error, once the limit has passed.
    """
    deadline = time.monotonic() + limit_s
    while True:
        if not running.alive():
            raise Fatal(f"{name} ended: {complaint()}")
        try:
            probe()
        except Misconfigured:
            raise
        except DotstreamError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.05)
