"""Golden bytes of the present version of every layout that the index keeps: what lies on disks must stay readable.

A change that makes one of these fail needs a new version of that layout, and a reader for both.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import pytest

from dotstream.clock import ManualClock
from indexer import commit_page, entries, layout
from indexer.commit_page import State
from indexer.entries import Row
from indexer.errors import ForeignFormat
from indexer.folder import Identity, read_identity
from indexer.layout import Layout, Range
from indexer.leases import LeaseFile, read_leases
from indexer.pages import PageFile
from indexer.records import Order
from indexer.segment_format import checksums
from indexer.segments import LIVE, SLOT, Segment, SegmentName, SegmentSpec, compact

INCARNATION = bytes(range(16))
STATE = (
    "0200000001000000" + INCARNATION.hex() + "0100000000000000020000000000000003000000000000000400000000000000"
    "0500000000000000060000000000000007000000000000000800000000000000"
    "09000000000000000a000000000000000b000000000000000c000000000000000d00000000000000"
)
ROW = (
    "0700000000000000020000000000020005000000000000000600000000000000080000000000000064646464646464646464646464646464"
    "646464646464646464646464646464640100000000000000020000000300000004000000090000 00626f6479"
)
IDENTITY = (
    b'{"format": 2, "generation": "g1", "partition": 3, "topic_id": "t", "feature": "f", "bits": 64, '
    b'"segment_slots": 16, "incarnation": "000102030405060708090a0b0c0d0e0f"}'
)
CODES_HEADER = (
    "4453434f444553000200000040000000100000000300000002000000000000000200000000000000000000000000000067310000"
)
META_HEADER = (
    "44534d455441000002000000400000001000000003000000020000000000000002000000000000000000000000000000 67310000"
)
COMPACTED = "4453434f44455300020000004000000002000000030000000200000000000000030000000000000007000000000000006731"
CODES_SHA256 = "9ff95c445bb68981a07b90b54028b9523fb206912f41fa4608dade053609d5be"
META_SHA256 = "ea637d447a33bb46521d6b677e76c7a99d8f0f81bda3517899d5c141721ea956"
COMPACTED_SHA256 = (
    "01de1faac1241446c5c6c0e56037e8e0ddbc368ad86b87d300686666bffa8c09",
    "414055fb6984325be5f5cc543003413520757195f096a48c6178fe75c86f0821",
)
CHECKS = (365831531, 1959766028)
LAYOUT = (
    "01000000020000000900000000000000"
    "0200000000000000030000000000000007000000000000000200000000000000"
    "0500000000000000050000000000000009000000000000000000000000000000"
)
PAGE = "44535041474500012f95e51005000000010000000000000068656c6c6f"


def test_a_state() -> None:
    state = State(INCARNATION, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, building=True)
    assert state.pack().hex() == STATE
    assert commit_page.unpack(bytes.fromhex(STATE)) == state


def test_a_row() -> None:
    row = Row(Order(7, False, 2, b"d" * 32), 5, 6, 8, (1, 3 << 32 | 2), (4, 9), b"body")
    assert row.pack() == bytes.fromhex(ROW)
    assert entries.unpack(bytes.fromhex(ROW)) == row


def test_an_identity() -> None:
    identity = Identity("g1", 3, "t", "f", 64, 16, INCARNATION.hex())
    assert identity.pack() == IDENTITY
    assert read_identity(IDENTITY) == identity


def test_a_page(tmp_path: Path) -> None:
    page = PageFile(tmp_path / "page", writable=True)
    page.write(b"hello")
    page.close()
    assert (tmp_path / "page").read_bytes()[4096:].startswith(bytes.fromhex(PAGE))


SPEC = SegmentSpec("g1", 3, 64, 16, INCARNATION)


def sealed(folder: Path) -> Segment:
    """Segment 2 with two slots, the second one dead."""
    segment = Segment.create(folder, SPEC, 2)
    slots = np.array([(0, 10, -1, 1, 0, 2, 3, 0), (0, 11, 4, 0, 1, 0, 0, 1)], SLOT)
    segment.write(0, np.arange(16, dtype=np.uint8).reshape(2, 8), slots)
    segment.kill(np.array([1]), np.array([12]))
    segment.seal()
    segment.close()
    return Segment(folder, SPEC, SegmentName(2, 2), "read")


def digests(folder: Path, name: SegmentName) -> tuple[str, str]:
    codes, meta = (sha256(name.path(folder, suffix).read_bytes()).hexdigest() for suffix in (".codes", ".meta"))
    return codes, meta


def test_a_sealed_segment(tmp_path: Path) -> None:
    read = sealed(tmp_path)
    assert (tmp_path / "00000002.codes").read_bytes().startswith(bytes.fromhex(CODES_HEADER))
    assert (tmp_path / "00000002.meta").read_bytes().startswith(bytes.fromhex(META_HEADER))
    assert digests(tmp_path, read.name) == (CODES_SHA256, META_SHA256)
    assert tuple(read.check[:2].tolist()) == CHECKS
    read.check_seal()
    assert (read.born[:2].tolist(), read.died[:2].tolist(), read.edits) == ([10, 11], [LIVE, 12], 1)
    assert (read.object_index[:2].tolist(), read.label[:2].tolist()) == ([-1, 4], [0, 1])
    assert (read.board[:2].tolist(), read.nth[:2].tolist()) == ([3, 0], [0, 1])


def test_a_compacted_segment(tmp_path: Path) -> None:
    read = sealed(tmp_path)
    name = SegmentName(2, 3, 7)
    made = compact(tmp_path, SPEC, name, [(read, np.array([0, 9]))])
    assert (tmp_path / "00000002-00000007.codes").read_bytes().startswith(bytes.fromhex(COMPACTED))
    assert digests(tmp_path, name) == COMPACTED_SHA256
    made.check_seal()
    assert made.slots_at(np.array([0, 1])).tolist() == [2 << 32, 2 << 32 | 9]
    assert made.check.tolist() == read.check[[0, 9]].tolist()
    assert made.damaged(0, 1).tolist() == []
    made.close()


def test_checksums_notice_every_flip_of_one_bit() -> None:
    slots = np.zeros(1, SLOT)
    code = np.zeros((1, 20), np.uint8)
    whole = checksums(code, slots)[0]
    assert whole != 0
    for byte in range(20):
        for bit in range(8):
            flipped = code.copy()
            flipped[0, byte] ^= 1 << bit
            assert checksums(flipped, slots)[0] != whole
    for byte in range(SLOT.itemsize):
        for bit in range(8):
            raw = bytearray(SLOT.itemsize)
            raw[byte] ^= 1 << bit
            assert checksums(code, np.frombuffer(bytes(raw), SLOT))[0] != whole


def test_checksums_are_those_of_their_formula() -> None:
    """Multilinear hashing in Python's own numbers."""
    keys, state = [], 0
    for _ in range(32):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
        keys.append((z ^ z >> 31) | 1)
    random = Random(7)
    for width in (1, 8, 20, 64):
        rows = [(random.randbytes(SLOT.itemsize), random.randbytes(width)) for _ in range(5)]
        expected = []
        for slot, code in rows:
            data = slot + code
            data += bytes(-len(data) % 8)
            words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
            total = keys[0] + sum(key * word for key, word in zip(keys[1:], words, strict=False))
            expected.append(total % 2**64 >> 32)
        slots = np.frombuffer(b"".join(slot for slot, _ in rows), SLOT)
        codes = np.frombuffer(b"".join(code for _, code in rows), np.uint8).reshape(5, width)
        assert checksums(codes, slots).tolist() == expected


def test_a_layout() -> None:
    built = Layout().replaced(SegmentName(2, 3, 7), 2).replaced(SegmentName(5, 5, 9), 0)
    assert built.ranges == (Range(SegmentName(2, 3, 7), 2), Range(SegmentName(5, 5, 9), 0))
    assert built.pack().hex() == LAYOUT
    assert layout.unpack(bytes.fromhex(LAYOUT)) == built
    assert layout.unpack(None) == Layout()
    again = built.replaced(SegmentName(4, 5, 10), 3).replaced(SegmentName(0, 2, 11), 4)
    assert [each.name for each in again.ranges] == [SegmentName(0, 2, 11), SegmentName(4, 5, 10)]
    numbers = [(name.number, spec.capacity) for name, spec in built.files(SPEC, 7)]
    assert numbers == [(0, 16), (1, 16), (2, 2), (4, 16), (6, 16), (7, 16)]


def test_format_1_is_refused_with_what_to_do(tmp_path: Path) -> None:
    name = SegmentName(0, 0)
    for suffix, magic in ((".codes", b"DSCODES\x00"), (".meta", b"DSMETA\x00\x00")):
        name.path(tmp_path, suffix).write_bytes(magic + (1).to_bytes(4, "little") + bytes(8192))
    with pytest.raises(ForeignFormat, match=r"format 1.*dotstream index repair"):
        Segment(tmp_path, SPEC, name, "read")
    with pytest.raises(ForeignFormat, match=r"format 1.*dotstream index repair"):
        read_identity(b'{"format": 1}')
    with pytest.raises(ForeignFormat, match="format 1"):
        commit_page.unpack((1).to_bytes(4, "little") + bytes(120))


def test_a_lease(tmp_path: Path) -> None:
    file = LeaseFile(tmp_path, "one", ManualClock())
    file.renew(1.5, {2: (INCARNATION, 7)}, {2: 9})
    page = PageFile(tmp_path / "readers" / "one.lease", writable=False)
    newest = page.read()
    page.close()
    (lease,) = read_leases(tmp_path)
    assert newest is not None
    boot = lease.boot.hex()
    tail = "000000000000f83f02000000" + INCARNATION.hex() + "07000000000000000900000000000000"
    assert newest[1].hex() == f"0200000001000000{boot}{tail}"
    assert (lease.name, lease.expires, dict(lease.positions)) == ("one", 1.5, {2: (INCARNATION, 7)})
    assert dict(lease.layouts) == {2: 9}
    page = PageFile(tmp_path / "readers" / "one.lease", writable=True)
    page.write((1).to_bytes(4, "little") + newest[1][4:-8])
    page.close()
    (lease,) = read_leases(tmp_path)
    assert not lease.passed(2, INCARNATION, 7, 1.4, lease.boot)
    assert lease.passed(2, INCARNATION, 7, 1.5, lease.boot)
    file.close()
