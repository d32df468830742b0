"""Folders in the temporary directory that do not outlive their owner, however it ends.

    dotstream-follow-XXXXXXXX/
        LOCK      held (flock) by the owner; the system lets go when the process ends
        files/    what the owner keeps there

A process that is killed cannot clear up, so whoever makes a folder first removes those whose lock is free. `files` goes
before LOCK, so that a removal that is broken off is taken up by the next. A folder without LOCK is one in the making:
it is removed while it is empty, and its owner makes another.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from indexer.folder import try_lock

PREFIX = "dotstream-follow-"
_LOCK = "LOCK"
_FILES = "files"


class Scratch:
    """An empty folder of one's own, until it is closed or the process ends.

    Attributes:
        path: the folder.

    Raises:
        OSError: the temporary directory cannot be written to.
    """

    def __init__(self) -> None:
        home = Path(tempfile.gettempdir())
        sweep(home)
        folder, fd = _make(home)
        self.path = folder / _FILES
        self._remove = weakref.finalize(self, _remove, folder, fd)
        self.path.mkdir()

    def close(self) -> None:
        """Removes the folder with what is in it."""
        self._remove()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep(home: Path) -> None:
    """Removes the folders of owners that have ended; what is not ours to remove is left alone."""
    for folder in filter(_ours, home.glob(f"{PREFIX}*")):
        try:
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            with suppress(OSError):
                folder.rmdir()
        else:
            if try_lock(fd):
                _remove(folder, fd)
            else:
                os.close(fd)


def _ours(folder: Path) -> bool:
    """Whether it is a folder of this user and no link: others may write to the temporary directory too."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _make(home: Path) -> tuple[Path, int]:
    """(a new folder, its lock). One that another process swept away before the lock was held is made again."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home))
        with suppress(FileNotFoundError):
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if try_lock(fd) and (folder / _LOCK).exists():
                return folder, fd
            os.close(fd)


def _remove(folder: Path, fd: int) -> None:
    shutil.rmtree(folder / _FILES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.close(fd)
