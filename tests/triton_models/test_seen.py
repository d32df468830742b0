"""The cached form of what was seen: the same value back, or no value at all."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.seen import BadEntry, Seen, SeenObject, decode_seen, encode_seen

CODE = st.binary(min_size=4, max_size=4)
UNIT = st.floats(0, 1)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x0, x1 = sorted(draw(st.lists(UNIT, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(UNIT, min_size=2, max_size=2, unique=True)))
    return x0, y0, x1, y1


EXTRA = st.tuples(st.binary(min_size=1, max_size=1), st.binary(min_size=3, max_size=3))
LABEL = st.text(min_size=1).filter(lambda text: text.isprintable())
OBJECTS = st.builds(SeenObject, boxes(), LABEL, UNIT, CODE)
RICH_OBJECTS = st.builds(SeenObject, boxes(), LABEL, UNIT, CODE, EXTRA)
COLOURS = st.lists(st.tuples(st.integers(0, 0xFFFFFF), UNIT), max_size=5).map(tuple)
SEEN = st.builds(Seen, st.lists(OBJECTS, max_size=5).map(tuple), CODE, COLOURS)
RICH = st.builds(Seen, st.lists(RICH_OBJECTS, max_size=5).map(tuple), CODE, COLOURS, EXTRA)

GOLDEN = Seen(
    (SeenObject((0.25, 0.5, 0.75, 1.0), "Coffee cup", 0.875, b"\x01\x02\x03\xff"),),
    b"\xf0\x00\x0f\x55",
    ((0xFF8000, 0.75), (0x000001, 0.25)),
)
GOLDEN_V1 = bytes.fromhex("5345454e016b8944c9") + (
    b'{"code":"8AAPVQ==","colours":[[16744448,0.75],[1,0.25]],"obj'
    b'ects":[[0.25,0.5,0.75,1.0,"Coffee cup",0.875,"AQID/w=="]]}'
)


@settings(deadline=None)
@given(SEEN)
def test_what_was_kept_comes_back(seen: Seen) -> None:
    assert decode_seen(encode_seen(seen), 32) == seen


@settings(deadline=None)
@given(RICH)
def test_extra_codes_come_back_and_only_in_their_number_and_widths(seen: Seen) -> None:
    entry = encode_seen(seen)
    assert decode_seen(entry, 32, [8, 24]) == seen
    for other in ([], [8], [24, 8], [8, 24, 8]):
        with pytest.raises(BadEntry):
            decode_seen(entry, 32, other)


def test_an_entry_without_the_extra_codes_of_the_pipeline_is_none() -> None:
    with pytest.raises(BadEntry):
        decode_seen(encode_seen(GOLDEN), 32, [8])
    with pytest.raises(BadEntry):
        decode_seen(_entry(extra=[["AQ=="]]), 32, [8])  # of the picture, and not of its object


def test_entries_of_version_1_stay_readable() -> None:
    assert decode_seen(GOLDEN_V1, 32) == GOLDEN
    assert encode_seen(GOLDEN) == GOLDEN_V1


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    entry = encode_seen(GOLDEN)
    for place in range(len(entry)):
        with pytest.raises(BadEntry):
            decode_seen(entry[:place], 32)
        for bit in range(8):
            damaged = bytearray(entry)
            damaged[place] ^= 1 << bit
            with pytest.raises(BadEntry):
                decode_seen(bytes(damaged), 32)
    with pytest.raises(BadEntry):
        decode_seen(entry + b"}", 32)


def _entry(**changes: Any) -> bytes:
    body = {"code": "8AAPVQ==", "colours": [[1, 0.5]], "objects": [[0, 0, 1, 1, "Cat", 0.5, "AQID/w=="]], **changes}
    payload = json.dumps(body).encode()
    return struct.pack("<4sBI", b"SEEN", 1, zlib.crc32(payload)) + payload


def test_the_entry_that_is_changed_below_is_right() -> None:
    assert decode_seen(_entry(), 32).objects[0].label == "Cat"


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "8AAPVQ"},
        {"code": "8AAP"},
        {"code": 5},
        {"code": None},
        {"colours": None},
        {"colours": [[1 << 24, 0.5]]},
        {"colours": [[True, 0.5]]},
        {"colours": [[1, 1.5]]},
        {"colours": [[1]]},
        {"objects": {}, "code": ""},
        {"objects": [[0, 0, 1, 1, "Cat", 0.5]]},
        {"objects": [[0, 0, 1, 1, "", 0.5, "AQID/w=="]]},
        {"objects": [[0, 0, 1, 1, 7, 0.5, "AQID/w=="]]},
        {"objects": [[0, 0, 1, 1, "Cat", float("nan"), "AQID/w=="]]},
        {"objects": [[0, 0, 1, 1, "Cat", "0.5", "AQID/w=="]]},
        {"objects": [[0, 0, 1, 1, "Cat", True, "AQID/w=="]]},
        {"objects": [[0, 0, 1.5, 1, "Cat", 0.5, "AQID/w=="]]},
        {"objects": [[1, 0, 0, 1, "Cat", 0.5, "AQID/w=="]]},
        {"objects": [[0, 0.5, 1, 0.5, "Cat", 0.5, "AQID/w=="]]},
        {"objects": [[0, 0, 1, 1, "Cat", 0.5, "AQID"]]},
    ],
)
def test_wrong_values_under_a_right_checksum_are_found(changes: dict[str, Any]) -> None:
    with pytest.raises(BadEntry):
        decode_seen(_entry(**changes), 32)


def test_codes_of_another_length_are_no_entry() -> None:
    with pytest.raises(BadEntry):
        decode_seen(encode_seen(GOLDEN), 64)
