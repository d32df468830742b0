"""Rows of the catalogue: what was cut out of a record comes back to the byte."""

from __future__ import annotations

import pytest

from indexer.entries import Row, cut, unpack
from indexer.errors import Damaged
from indexer.records import encode, order_of, searched_codes
from tests.support.index_oracle import live


def test_a_record_is_cut_and_joined() -> None:
    record = live("pin", objects=3)
    record.MergeFromString(b"\xfa\x3e\x03xyz")  # a field of a later version of the schema
    canonical = encode(record)
    codes = [code for _, code in searched_codes(record)]
    cuts, body = cut(record, canonical, codes)
    assert len(body) == len(canonical) - sum(map(len, codes))
    row = Row(order_of(record), 7, 8, 9, (1, 2, 3, 4 << 32), cuts, body)
    assert unpack(row.pack()) == row
    assert row.join(codes) == canonical


def test_a_torn_row_is_damaged() -> None:
    record = live("pin")
    value = Row(order_of(record), 1, 2, 3, (1, 2), (0, 0), b"").pack()
    with pytest.raises(Damaged, match="does not unpack"):
        unpack(value[:-1])
    with pytest.raises(Damaged, match="does not unpack"):
        unpack(value[:20])
