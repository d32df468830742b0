"""One supervisor per data folder, and what it says of itself in stack.json.

stack.lock   held (flock) by the supervisor for as long as it lives; the kernel frees it however it ends
stack.json   written whole at each change, removed at an orderly end; it counts only while the lock is held
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured

LOCK_LIMIT_S = 1.0


def stack_file(data: Path) -> Path:
    """Where the local stack in this data folder says what it is: addresses, process ids, readiness."""
    return data.absolute() / "stack.json"


@contextlib.contextmanager
def claimed(data: Path) -> Iterator[None]:
    """Makes the data folder and holds its lock.

    Raises:
        Misconfigured: another supervisor holds it, or the folder cannot be made or written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "stack.lock").open("ab")
    except OSError as error:
        raise Misconfigured(f"data folder {data}: {error.strerror}") from error
    with file:
        deadline = time.monotonic() + LOCK_LIMIT_S
        while not _locked(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"a local stack runs in {data} already; stop it, or choose another folder with --data"
                )
            time.sleep(0.05)
        yield


def write_stack(data: Path, facts: Mapping[str, Any]) -> None:
    """Replaces stack.json in one step."""
    path = stack_file(data)
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(facts, indent=2) + "\n")
    part.replace(path)


def read_stack(data: Path) -> dict[str, Any] | None:
    """What stack.json says, or None when no supervisor lives in the folder."""
    try:
        with (data / "stack.lock").open("rb") as file:
            if _locked(file.fileno(), fcntl.LOCK_SH):
                return None
        facts = json.loads(stack_file(data).read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Misconfigured(f"the data folder's file system has no locks: {os.strerror(error.errno or 0)}") from error
    return True
