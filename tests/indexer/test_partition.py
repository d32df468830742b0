"""Partitioning: the vectors of Kafka's own test of its Java clients."""

from __future__ import annotations

import pytest

from indexer.partition import murmur2, partition_of

JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA_VECTORS.items())
def test_murmur2_is_that_of_the_java_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected


def test_partitions_are_the_positive_part_modulo() -> None:
    for key, hashed in JAVA_VECTORS.items():
        assert partition_of(key, 7) == (hashed & 0x7FFFFFFF) % 7
    assert {partition_of(f"pin-{n}".encode(), 4) for n in range(100)} == {0, 1, 2, 3}


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        partition_of(b"pin", 0)
