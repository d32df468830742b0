"""Codes whose bytes stand elsewhere in their record too: they are cut where they lie, and rows that were cut elsewhere
by an earlier version are let go of in whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import staging
from indexer.arbitration import Logged
from indexer.catalogue import FAMILIES, Catalogue
from indexer.entries import cut
from indexer.errors import Damaged
from indexer.records import check, encode, searched_codes
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import Shard
from tests.support.index_oracle import FEATURE, GENERATION, Oracle, dead, hold_against, log_of, open_shard

WIDTHS = (8, 16, 64, 128, 256, 1280, 4096)
Cuts = tuple[tuple[int, ...], bytes]


def record_of(pin_id: str, version: int, codes: Sequence[bytes], text: str = "oak", **more: object) -> ObjectRecord:
    """A live record with these codes, the first of the whole picture; `text` stands in every field that takes one."""
    record = ObjectRecord(
        pin_id=pin_id,
        version=version,
        generation=GENERATION,
        detector=text,
        embedder=text,
        image_ref=text,
        image_sha256=sha256(pin_id.encode()).digest(),
        codes=[Code(feature=FEATURE, bits=codes[0]), Code(feature=text, bits=codes[-1])],
        objects=[
            DetectedObject(
                index=n,
                box=Box(x0=0.1, y0=0.2, x1=0.6, y1=0.7),
                label=text,
                score=0.5,
                source=DetectedObject.SOURCE_DETECTOR,
                codes=[Code(feature=FEATURE, bits=code), Code(feature=text, bits=codes[0])],
            )
            for n, code in enumerate(codes[1:])
        ],
        annotations=[text],
        title=text,
        category_weights={text: 0.5},
        recorded_at=1_700_000_000_000 + version,
    )
    for name, value in more.items():
        setattr(record, name, value)
    return record


def hard_records(bits: int, version: int) -> list[ObjectRecord]:
    """Records that pass every check and whose codes are also found in a length, in another field or in each other."""
    width = bits // 8
    random = Random(f"{bits}/{version}")
    found = []
    for byte in range(256):
        same = bytes([byte]) * width
        found.append(record_of(f"same-{byte}", version, [same] * (byte % 4 + 1)))
    digest = sha256(b"a picture").digest()
    found.append(record_of("sha", version, [(digest * width)[:width]], image_sha256=digest))
    head = Code(bits=bytes(width)).SerializeToString()[:-width]
    for n, piece in enumerate(("oak", FEATURE, f"texts-{bits}", "12345678", "\x12", "\x0a\x01")):
        code = (piece.encode() * width)[:width]
        other = code[:-1] + b"\x01"
        within = (head + code).decode(errors="ignore")
        found.append(record_of(f"texts-{n}", version, [code, other, code], code.decode()))
        found.append(record_of(f"heads-{n}", version, [code, code, other], within))
        found.append(record_of(within[:900] + str(n), version, [code], within))
    for n in range(20):
        start = random.randbytes(max(1, width // 2))
        codes = [start + random.randbytes(width - len(start)) for _ in range(3)]
        found.append(record_of(f"starts-{n}", version, [*codes, codes[0], *codes]))
    for record in found:
        check(record, record.pin_id.encode(), generation=GENERATION, bits=bits)
    return found


def first_found(record: ObjectRecord, canonical: bytes, codes: Sequence[bytes]) -> Cuts:
    """Rows as earlier versions cut them: wherever the bytes of a code come first."""
    places, parts, at = [], [], 0
    for code in codes:
        place = canonical.index(code, at)
        places.append(place)
        parts.append(canonical[at:place])
        at = place + len(code)
    return tuple(places), b"".join([*parts, canonical[at:]])


def logged(records: Sequence[ObjectRecord], start: int) -> list[Logged]:
    return log_of([(record.pin_id, record) for record in records], start)


def catalogue_of(shard: Shard) -> Catalogue:
    return shard._catalogue


def left(shard: Shard) -> dict[str, int]:
    """How many keys each family of the catalogue has."""
    found = {}
    for family in FAMILIES:
        with catalogue_of(shard).scan(family) as keys:
            found[family] = sum(1 for _ in keys)
    return found


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("earlier", [False, True], ids=["new rows", "rows of earlier versions"])
def test_pins_with_hard_codes_are_put_updated_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, earlier: bool
) -> None:
    first, second = hard_records(bits, 1), hard_records(bits, 2)
    deletes = [dead(record.pin_id, 3) for record in second]
    n = len(first)
    log = [logged(first, 0), logged(second, n), logged(deletes, 2 * n)]
    oracle = Oracle()
    shard = open_shard(tmp_path / "0", bits=bits, segment_slots=512)
    for batch in log:
        with monkeypatch.context() as patched:
            if earlier:
                patched.setattr(staging, "cut", first_found)
            shard.apply(batch)
        assert shard.verify() == []
        assert shard.digest() == oracle.apply(batch).digest()
    found = left(shard)
    assert (found["pins"], found["deletes"]) == (n, n)
    assert [found[family] for family in ("slots", "sha256", "newest", "df", "words")] == [0] * 5
    hold_against(shard, oracle)
    shard.close()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_codes_are_cut_where_they_lie(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([1, 2, 3, 8, 32]))
    code = st.binary(min_size=width, max_size=width) | st.sampled_from(b"\x01\x02\x08\x0a\x12\x20\x32\x62").map(
        lambda byte: bytes([byte]) * width
    )
    codes = data.draw(st.lists(code, min_size=1, max_size=4))
    head = Code(bits=bytes(width)).SerializeToString()[:-width]
    parts = st.sampled_from([head, *codes, *[head + each for each in codes]])
    text = b"".join(data.draw(st.lists(parts, max_size=4))).decode(errors="ignore")
    record = record_of("pin", 1, codes, text)
    canonical = encode(record)
    places, body = cut(record, canonical, codes)
    assert len(body) == len(canonical) - width * len(codes)
    for n, place in enumerate(places):
        turned = bytearray(canonical)
        turned[place : place + width] = bytes(255 - byte for byte in codes[n])
        now = ObjectRecord.FromString(bytes(turned))
        expected = [bytes(turned[place : place + width]) if n == i else each for i, each in enumerate(codes)]
        assert [each for _, each in searched_codes(now)] == expected
        assert encode(now) == bytes(turned)


def test_a_row_of_an_earlier_version_with_a_damaged_code_is_told_and_not_half_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256(b"a picture").digest()
    with monkeypatch.context() as patched:
        patched.setattr(staging, "cut", first_found)
        shard = open_shard(tmp_path / "0", bits=256)
        shard.apply(logged([record_of("pin", 1, [digest], image_sha256=digest)], 0))
    shard._view.segments[0][0].codes[0, 0] ^= 1
    with pytest.raises(Damaged, match="index repair"):
        shard.apply(logged([dead("pin", 2)], 1))
    shard.close()
