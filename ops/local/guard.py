"""Leaves no process behind: ends every process of a stack once its supervisor is gone, however it went.

Run by the supervisor as `python -I -S guard.py TOKEN` in a session of its own, with a pipe as standard input. The
kernel closes the pipe when the supervisor ends, also by SIGKILL. Every process of the stack, grandchildren included,
carries `DS_STACK=TOKEN` in its environment, by which /proc tells it. They get SIGTERM, and SIGKILL after a grace. A
supervisor that stopped its parts in order writes "stopped" first; then nothing is left to be gentle to.
"""

from __future__ import annotations

import os
import signal
import sys
import time

VARIABLE = "DS_STACK"
GRACE_S = 4.0
LIMIT_S = 20.0


def marked(token: str) -> list[int]:
    """Process ids whose environment has the token, the caller's own left out."""
    needle = f"{VARIABLE}={token}".encode()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  without site, pathlib costs more than all the rest
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:  # noqa: PTH123
                if needle in environ.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue  # it ended, or belongs to someone else
    return found


def end_all(token: str, *, grace_s: float) -> None:
    """Ends every marked process; those that start meanwhile too."""
    started = time.monotonic()
    while (left := marked(token)) and (waited := time.monotonic() - started) < LIMIT_S:
        for pid in left:
            try:
                os.kill(pid, signal.SIGTERM if waited < grace_s else signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.2)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = sys.stdin.buffer.read()
    end_all(sys.argv[1], grace_s=0.0 if b"stopped" in said else GRACE_S)


if __name__ == "__main__":
    main()
