"""Golden bytes of version 1 of every layout that the index keeps: what lies on disks must stay readable.

A change that makes one of these fail needs a new version of that layout, and a reader for both.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np

from dotstream.clock import ManualClock
from indexer import commit_page, entries
from indexer.commit_page import State
from indexer.entries import Row
from indexer.folder import Identity, read_identity
from indexer.leases import LeaseFile, read_leases
from indexer.pages import PageFile
from indexer.records import Order
from indexer.segments import LIVE, SLOT, Segment, SegmentSpec, codes_path, meta_path

INCARNATION = bytes(range(16))
STATE = (
    "0100000001000000" + INCARNATION.hex() + "0100000000000000020000000000000003000000000000000400000000000000"
    "0500000000000000060000000000000007000000000000000800000000000000"
    "09000000000000000a000000000000000b000000000000000c00000000000000"
)
ROW = (
    "0700000000000000020000000000020005000000000000000600000000000000080000000000000064646464646464646464646464646464"
    "646464646464646464646464646464640100000000000000020000000300000004000000090000 00626f6479"
)
IDENTITY = (
    b'{"format": 1, "generation": "g1", "partition": 3, "topic_id": "t", "feature": "f", "bits": 64, '
    b'"segment_slots": 16, "incarnation": "000102030405060708090a0b0c0d0e0f"}'
)
CODES_HEADER = "4453434f4445530001000000400000001000000003000000020000000000000067310000"
META_HEADER = "44534d455441000001000000400000001000000003000000020000000000000067310000"
CODES_SHA256 = "604afb0811f04820c1cad634d204273721f6632be0177f2f1db08aa57ee9243d"
META_SHA256 = "bfbde8466be9a30dbaaa1d8bac83741ec6c8822c0270d05e62a2d9a018ac00c1"
PAGE = "44535041474500012f95e51005000000010000000000000068656c6c6f"


def test_a_state() -> None:
    state = State(INCARNATION, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, building=True)
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


def test_a_sealed_segment(tmp_path: Path) -> None:
    spec = SegmentSpec("g1", 3, 64, 16, INCARNATION)
    segment = Segment.create(tmp_path, spec, 2)
    slots = np.array([(0, 10, -1, 1, 0, 2), (0, 11, 4, 0, 1, 0)], SLOT)
    segment.write(0, np.arange(16, dtype=np.uint8).reshape(2, 8), slots)
    segment.kill(np.array([1]), np.array([12]))
    segment.seal()
    segment.close()
    codes, meta = codes_path(tmp_path, 2).read_bytes(), meta_path(tmp_path, 2).read_bytes()
    assert codes.startswith(bytes.fromhex(CODES_HEADER))
    assert meta.startswith(bytes.fromhex(META_HEADER))
    assert (sha256(codes).hexdigest(), sha256(meta).hexdigest()) == (CODES_SHA256, META_SHA256)
    read = Segment(tmp_path, spec, 2, "read")
    read.check_seal()
    assert (read.born[:2].tolist(), read.died[:2].tolist(), read.edits) == ([10, 11], [LIVE, 12], 1)
    assert (read.object_index[:2].tolist(), read.label[:2].tolist()) == ([-1, 4], [0, 1])


def test_a_lease(tmp_path: Path) -> None:
    file = LeaseFile(tmp_path, "one", ManualClock())
    file.renew(1.5, {2: (INCARNATION, 7)})
    page = PageFile(tmp_path / "readers" / "one.lease", writable=False)
    newest = page.read()
    page.close()
    (lease,) = read_leases(tmp_path)
    assert newest is not None
    boot = lease.boot.hex()
    tail = "000000000000f83f02000000" + INCARNATION.hex() + "0700000000000000"
    assert newest[1].hex() == f"0100000001000000{boot}{tail}"
    assert (lease.name, lease.expires, dict(lease.positions)) == ("one", 1.5, {2: (INCARNATION, 7)})
    file.close()
