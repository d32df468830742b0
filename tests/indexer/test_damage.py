"""Flipped bits, cut-off files and refused writes: named errors or found by verify, never a silent wrong answer."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import ManualClock
from dotstream.errors import DotstreamError, Retryable
from indexer.database import translate
from indexer.errors import Damaged, DiskFull, ForeignFormat, LockHeld
from indexer.folder import CURRENT, named
from indexer.reader import IndexReader
from indexer.segment_format import ALIGN, COLUMNS_OF_A_SLOT
from indexer.segments import Segment
from tests.support.index_oracle import Oracle, hold_against, open_shard, random_log

HEADER_BYTES = 8 + 4 * 4 + 8 * 3 + 64 + 16 + 4
FLIPS = 60


@pytest.fixture
def version(tmp_path: Path) -> Iterator[Path]:
    """The folder of a closed shard of several segments."""
    shard = open_shard(tmp_path / "g1" / "0")
    shard.apply(random_log(Random(11), 60, pins=30))
    assert shard.counts()["segments"] > 2
    shard.close()
    found = named(tmp_path / "g1" / "0", CURRENT)
    assert found is not None
    yield found


def flip(path: Path, at: int, bit: int) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1 << bit,)))


def problems(home: Path) -> list[str]:
    """What an opening and a verification find."""
    try:
        shard = open_shard(home)
    except (Damaged, ForeignFormat) as error:
        return [str(error)]
    try:
        return shard.verify()
    finally:
        shard.abandon()


@pytest.mark.parametrize("name", ["00000000.codes", "00000000.meta", "head.codes", "head.meta"])
def test_every_byte_of_every_header_is_watched(version: Path, name: str) -> None:
    segments = version / "segments"
    last = sorted(segments.glob("*.codes"))[-1].stem
    path = segments / name.replace("head", last)
    for at in range(HEADER_BYTES):
        flip(path, at, at % 8)
        with pytest.raises((Damaged, ForeignFormat)):
            open_shard(version.parent)
        flip(path, at, at % 8)
    assert problems(version.parent) == []


def test_flipped_bits_of_codes_and_columns_are_found(version: Path) -> None:
    random = Random(12)
    shard = open_shard(version.parent)
    segments = [(segment, length) for segment, length in shard._view.segments]
    shard.abandon()
    for _ in range(FLIPS):
        segment, length = random.choice(segments)
        index = int(random.choice(segment_live(segment, length)))
        name = random.choice(["codes", "check", "died", *COLUMNS_OF_A_SLOT])
        if name == "codes":
            path, width = version / "segments" / f"{segment.number:08d}.codes", segment.spec.code_bytes
            at = ALIGN + index * width + random.randrange(width)
        else:
            path, width = version / "segments" / f"{segment.number:08d}.meta", getattr(segment, name).itemsize
            at = segment.spec.column_at(name) + index * width + random.randrange(width)
        bit = random.randrange(8)
        flip(path, at, bit)
        found = problems(version.parent)
        flip(path, at, bit)
        # A death that the state has not reached is taken back by the opening itself.
        assert found or name == "died", (name, index, bit)
    assert problems(version.parent) == []


def segment_live(segment: Segment, length: int) -> list[int]:
    return [index for index in range(length) if segment.died[index] == 2**63 - 1]


def test_flipped_bits_of_the_catalogue_are_found_or_made_good_by_the_log(tmp_path: Path) -> None:
    random = Random(13)
    log = random_log(random, 60, pins=30)
    shard = open_shard(tmp_path / "whole")
    for at in range(0, 60, 6):
        shard.apply(log[at : at + 6])
    shard.sync()
    shard.abandon()  # a close would leave nothing in the catalogue's log, in which damage is made good
    oracle = Oracle().apply(log)
    found = {"refused": 0, "reported": 0, "whole": 0}
    files = sorted(
        path
        for path in (tmp_path / "whole").rglob("catalogue/*")
        if path.suffix in {".log", ".sst"} and path.stat().st_size
    )
    assert files
    for _ in range(FLIPS):
        shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
        path = random.choice(files)
        size = path.stat().st_size
        flip(tmp_path / "flipped" / path.relative_to(tmp_path / "whole"), random.randrange(size), random.randrange(8))
        try:
            shard = open_shard(tmp_path / "flipped")
        except DotstreamError:
            found["refused"] += 1
        else:
            shard.apply(log[shard.applied_offset + 1 :])
            if shard.verify():
                found["reported"] += 1
            else:
                hold_against(shard, oracle)
                found["whole"] += 1
            shard.abandon()
        shutil.rmtree(tmp_path / "flipped")
    assert found["whole"] > 0


@pytest.mark.parametrize("suffix", [".codes", ".meta"])
@pytest.mark.parametrize("size", [0, 50, ALIGN, -1])
def test_cut_off_segments_are_refused_and_kept(version: Path, suffix: str, size: int) -> None:
    path = version / "segments" / f"00000000{suffix}"
    path.chmod(0o644)
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    before = path.stat().st_size
    with pytest.raises(Damaged):
        open_shard(version.parent)
    assert path.stat().st_size == before


def test_a_missing_segment_is_damage(version: Path) -> None:
    (version / "segments" / "00000001.meta").unlink()
    with pytest.raises(Damaged, match=r"00000001\.meta"):
        open_shard(version.parent)


def test_a_missing_file_of_the_catalogue_is_damage(version: Path) -> None:
    (version / "catalogue" / "CURRENT").write_text("MANIFEST-999999\n")
    with pytest.raises(Damaged, match=r"a file of the database is missing: .*MANIFEST-999999"):
        open_shard(version.parent)


@pytest.mark.parametrize("name", ["commit", "segments/00000000.meta", "segments/00000001.codes"])
def test_what_is_missing_for_a_reader_is_damage(version: Path, name: str) -> None:
    if name == "commit":
        os.truncate(version / name, 100)
    else:
        (version / name).unlink()
    generation = version.parent.parent
    reader = IndexReader(generation, 1, clock=ManualClock(), lease_s=60.0, name="reader")
    for _ in range(2):
        with pytest.raises(Damaged, match=rf"is missing: .*{name}.*index repair"):
            reader.refresh()
    reader.close()


@pytest.mark.parametrize("name", ["commit", "segments/00000000.meta"])
def test_what_is_missing_while_a_folder_is_replaced_may_be_asked_for_again(version: Path, name: str) -> None:
    home = version.parent
    (version / name).unlink()

    class Replacing(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            (home / "again").write_text((home / CURRENT).read_text())
            (home / "again").replace(home / CURRENT)

    reader = IndexReader(home.parent, 1, clock=Replacing(), lease_s=60.0, name="reader")
    with pytest.raises(Retryable, match="is being replaced"):
        reader.refresh()
    reader.close()


def test_a_segment_of_another_shard_is_foreign(version: Path, tmp_path: Path) -> None:
    other = open_shard(tmp_path / "other")
    other.close()
    theirs = named(tmp_path / "other", CURRENT)
    assert theirs is not None
    shutil.copy(theirs / "segments" / "00000000.meta", version / "segments" / "00000000.meta")
    with pytest.raises(ForeignFormat, match="belongs to another"):
        open_shard(version.parent)


def test_a_torn_commit_page_is_written_anew(version: Path) -> None:
    (version / "commit").write_bytes(os.urandom(8192))
    assert problems(version.parent) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IO error: lock hold by current process, acquire time 1: /x/LOCK: No locks available", LockHeld),
        ("IO error: While lock file: /x/LOCK: Resource temporarily unavailable", LockHeld),
        ("IO error: No space left on device: While appending to file: /x/1.log", DiskFull),
        ("IO error: While open a file for random read: /x/1.sst: Too many open files", Retryable),
        ("IO error: While appending to file: /x/1.log: Input/output error", Retryable),
        ("File too large (os error 27)", Retryable),
        ("No space left on device (os error 28)", DiskFull),
        ("Corruption: block checksum mismatch", Damaged),
        ("Invalid argument: Column families not opened: more", ForeignFormat),
        ("something that nobody has seen yet", Damaged),
    ],
)
def test_rocksdb_errors_have_names(text: str, expected: type[DotstreamError]) -> None:
    assert type(translate(Exception(text))) is expected


def test_a_full_disk_stops_the_commit_and_an_opening_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(Random(14), 60, pins=30)
    shard = open_shard(tmp_path)
    shard.apply(log[:10])
    before = shard.applied_offset

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(DiskFull):
            shard.apply(log[10:])
    with pytest.raises(Retryable, match="open it again"):
        shard.apply(log[10:])
    shard.close()
    shard = open_shard(tmp_path)
    assert shard.applied_offset == before
    shard.apply(log[10:])
    hold_against(shard, Oracle().apply(log))
    shard.close()
