"""Reads pictures named by file URLs, only from below the folders that a setting names, whatever links lie there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from consumers.addresses import shown
from dotstream.errors import Poison, Retryable

OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_FOLDER = OPEN_FILE | os.O_DIRECTORY


def read_file(url: str, roots: Sequence[Path], max_bytes: int) -> bytes:
    """The bytes of a regular file. Links are resolved first and must end below a root; then none is followed.

    Raises:
        Poison: fetch_scheme (no roots), fetch_bad_url, fetch_file_root, fetch_not_found, fetch_forbidden,
            fetch_too_large.
        Retryable: the file system fails.
    """
    if not roots:
        raise Poison("fetch_scheme", "file URLs are not allowed")
    try:
        root, inside = _locate(url, roots)
        handle = _open_below(root, inside)
        try:
            return _read(handle, url, max_bytes)
        finally:
            os.close(handle)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Poison("fetch_not_found", f"no file {shown(url)}") from error
    except PermissionError as error:
        raise Poison("fetch_forbidden", f"no right to read {shown(url)}") from error
    except ValueError as error:
        raise Poison("fetch_bad_url", f"{shown(url)}: {error}") from error
    except OSError as error:
        raise Retryable(f"cannot read {shown(url)}: {error}") from error


def _locate(url: str, roots: Sequence[Path]) -> tuple[Path, Path]:
    """The root that holds the file, and the file's path from there, both without links."""
    parts = urlsplit(url)
    path = Path(url2pathname(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.is_absolute():
        raise ValueError("a file URL has the form file:///absolute/path")
    try:
        real = path.resolve(strict=True)
    except RuntimeError as error:  # a loop of links
        raise Poison("fetch_not_found", f"{shown(url)}: {error}") from error
    for root in roots:
        real_root = root.resolve()
        if real.is_relative_to(real_root):
            return real_root, real.relative_to(real_root)
    raise Poison("fetch_file_root", f"{shown(url)} is not below an allowed folder")


def _open_below(root: Path, inside: Path) -> int:
    """Opens step by step without following links, so that a folder swapped for a link in the meantime is refused."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in inside.parts[:-1]:
            below = os.open(part, OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(inside.name, OPEN_FILE, dir_fd=folder) if inside.parts else os.dup(folder)
    finally:
        os.close(folder)


def _read(handle: int, url: str, max_bytes: int) -> bytes:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise Poison("fetch_not_found", f"{shown(url)} is not a regular file")
    if found.st_size > max_bytes:
        raise Poison("fetch_too_large", f"{shown(url)} has {found.st_size} bytes; at most {max_bytes}")
    with os.fdopen(os.dup(handle), "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Poison("fetch_too_large", f"{shown(url)} grows beyond {max_bytes} bytes")
    return data
