"""Object records: the total order, and every reason for which a logged record is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest

from dotstream.errors import Poison
from indexer.records import Order, decode, delete_record, encode, order_of, searched_codes, top_category
from indexer.records_pb2 import Code, DetectedObject, ObjectRecord
from tests.support.index_oracle import BITS, FEATURE, GENERATION, dead, live


def read(record: ObjectRecord, key: bytes = b"pin") -> ObjectRecord:
    return decode(key, encode(record), generation=GENERATION, bits=BITS, feature=FEATURE)


def test_a_good_record_comes_back_as_it_was() -> None:
    for record in (live("pin"), live("pin", objects=0), dead("pin"), delete_record("pin", 5, GENERATION, 7)):
        assert read(record) == record


def test_order_goes_by_version_then_delete_then_revision_then_content() -> None:
    ascending = [
        live("pin", 1, revision=9),
        dead("pin", 1),
        live("pin", 2),
        live("pin", 2, revision=1),
        dead("pin", 2),
        live("pin", 3),
    ]
    orders = [order_of(record) for record in ascending]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders)
    Random(3).shuffle(orders)
    assert max(orders).version == 3


def test_order_is_total_over_contents() -> None:
    records = [live("pin", 1, seed=seed) for seed in range(8)]
    for one, other in itertools.combinations(records, 2):
        assert (order_of(one) < order_of(other)) != (order_of(other) < order_of(one))


def test_canonical_bytes_do_not_depend_on_the_order_of_map_entries() -> None:
    one, other = live("pin"), live("pin")
    one.category_weights.clear()
    other.category_weights.clear()
    for name in ("b", "a", "c"):
        one.category_weights[name] = 0.5
    for name in ("c", "b", "a"):
        other.category_weights[name] = 0.5
    assert encode(one) == encode(other)
    assert order_of(one) == order_of(other)


def test_order_of_takes_ready_bytes() -> None:
    record = live("pin")
    assert order_of(record, encode(record)) == order_of(record)
    assert Order(1, True, 0, b"") > Order(1, False, 9, b"zz")


def _set(name: str, value: object) -> Callable[[ObjectRecord], None]:
    return lambda record: setattr(record, name, value)


def _box(**corners: float) -> Callable[[ObjectRecord], None]:
    def change(record: ObjectRecord) -> None:
        for name, value in corners.items():
            setattr(record.objects[0].box, name, value)

    return change


def _codes(record: ObjectRecord) -> None:
    del record.codes[:]


def _object_codes(record: ObjectRecord) -> None:
    del record.objects[0].codes[:]


def _narrow(record: ObjectRecord) -> None:
    record.codes[0].bits = b"1234567"


def _wide_object(record: ObjectRecord) -> None:
    record.objects[0].codes[0].bits = b"123456789"


def _other_feature(record: ObjectRecord) -> None:
    record.codes[0].feature = "other@2"


def _same_index(record: ObjectRecord) -> None:
    record.objects.append(record.objects[0])


def _weight(value: float) -> Callable[[ObjectRecord], None]:
    def change(record: ObjectRecord) -> None:
        record.category_weights["home"] = value

    return change


def _object(name: str, value: object) -> Callable[[ObjectRecord], None]:
    return lambda record: setattr(record.objects[0], name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("version", 0), "missing_version"),
        (_set("version", -4), "missing_version"),
        (_set("generation", "g2"), "wrong_generation"),
        (_set("revision", -1), "bad_field"),
        (_set("recorded_at", -1), "bad_field"),
        (_set("event_time", -1), "bad_field"),
        (_set("image_sha256", b"short"), "bad_field"),
        (_set("image_width", -1), "bad_field"),
        (_codes, "wrong_bits"),
        (_object_codes, "wrong_bits"),
        (_narrow, "wrong_bits"),
        (_wide_object, "wrong_bits"),
        (_other_feature, "bad_field"),
        (_same_index, "bad_field"),
        (_object("index", -1), "bad_field"),
        (_object("score", 1.5), "bad_field"),
        (_object("score", float("nan")), "bad_field"),
        (_object("source", 0), "bad_field"),
        (_object("source", 77), "bad_field"),
        (_box(x0=0.9), "bad_field"),
        (_box(y1=1.01), "bad_field"),
        (_box(x0=float("nan")), "bad_field"),
        (_weight(float("inf")), "bad_field"),
        (_weight(-0.1), "bad_field"),
    ],
)
def test_each_fault_has_its_reason(change: Callable[[ObjectRecord], None], reason: str) -> None:
    record = live("pin")
    change(record)
    with pytest.raises(Poison) as caught:
        read(record)
    assert caught.value.reason == reason


def test_the_key_must_be_the_pin() -> None:
    for key in (b"other", b""):
        with pytest.raises(Poison) as caught:
            read(live("pin"), key)
        assert caught.value.reason == "key_mismatch"
    with pytest.raises(Poison) as caught:
        decode(None, encode(live("pin")), generation=GENERATION, bits=BITS)
    assert caught.value.reason == "key_mismatch"
    with pytest.raises(Poison) as caught:
        read(live(""), b"")
    assert caught.value.reason == "bad_field"
    long = "p" * 1025
    with pytest.raises(Poison) as caught:
        read(live(long), long.encode())
    assert caught.value.reason == "bad_field"


def test_garbage_is_undecodable() -> None:
    for value in (b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"):
        with pytest.raises(Poison) as caught:
            decode(b"pin", value, generation=GENERATION, bits=BITS)
        assert caught.value.reason == "undecodable"


def test_searched_codes_are_the_first_of_each() -> None:
    record = ObjectRecord(codes=[Code(bits=b"a"), Code(bits=b"b")])
    record.objects.append(DetectedObject(index=4, codes=[Code(bits=b"c"), Code(bits=b"d")]))
    assert searched_codes(record) == [(-1, b"a"), (4, b"c")]
    assert searched_codes(dead("pin")) == []


def test_top_category_breaks_ties_by_name() -> None:
    assert top_category(ObjectRecord(category_weights={"b": 0.5, "a": 0.5, "c": 0.1})) == "a"
    assert top_category(ObjectRecord()) is None
