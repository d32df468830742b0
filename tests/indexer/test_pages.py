"""Checksummed pages: a reader sees the newest whole copy, whatever happens to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.commit_page import State, unpack
from indexer.errors import Damaged, ForeignFormat
from indexer.pages import COPY_BYTES, MAX_PAYLOAD, PageFile


def test_the_newest_copy_is_read_also_by_another_mapping(tmp_path: Path) -> None:
    writer = PageFile(tmp_path / "page", writable=True)
    reader = PageFile(tmp_path / "page", writable=False)
    assert reader.read() is None
    for n in range(1, 6):
        writer.write(b"value %d" % n)
        assert reader.read() == (n, b"value %d" % n)
    writer.close()
    again = PageFile(tmp_path / "page", writable=True)
    again.write(b"after a restart")
    assert reader.read() == (6, b"after a restart")
    again.close()
    reader.close()


def test_every_damaged_byte_of_the_newest_copy_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "page"
    writer = PageFile(path, writable=True)
    writer.write(b"older")
    writer.write(b"newer")
    writer.close()
    whole = path.read_bytes()
    used = 8 + 4 + 12 + len(b"newer")
    for at in range(used):
        flipped = bytearray(whole)
        flipped[2 % 2 * COPY_BYTES + at] ^= 1 << at % 8
        path.write_bytes(flipped)
        reader = PageFile(path, writable=False)
        assert reader.read() == (1, b"older"), at
        reader.close()


def test_sizes_are_checked(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="not laid out"):
        PageFile(tmp_path / "short", writable=False)
    with pytest.raises(FileNotFoundError):
        PageFile(tmp_path / "absent", writable=False)
    page = PageFile(tmp_path / "page", writable=True)
    page.write(bytes(MAX_PAYLOAD))
    with pytest.raises(ValueError, match="page holds"):
        page.write(bytes(MAX_PAYLOAD + 1))
    page.sync()
    page.close()


def test_states_pack_and_unpack() -> None:
    state = State(b"i" * 16, 9, 10, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, building=True)
    assert unpack(state.pack()) == state
    assert unpack(State(b"i" * 16).pack()) == State(b"i" * 16)
    with pytest.raises(Damaged, match="are expected"):
        unpack(state.pack()[:-1])
    with pytest.raises(ForeignFormat, match="format 3"):
        unpack(b"\x03" + state.pack()[1:])
