"""Which partition a key belongs to: the murmur2 of Kafka's Java clients.

librdkafka's `murmur2_random` and Java's default partitioner agree on keyed records, so every writer of
`objects.<generation>` and `dots` puts a pin where the index owner of that partition looks for it.
"""

from __future__ import annotations

from functools import lru_cache

KEPT = 65_536
"""Keys whose partition is remembered, as murmur2 takes some microseconds in Python."""
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit murmur2 of `org.apache.kafka.common.utils.Utils`, as Java's signed int.

    Args:
        key: the record's key, any length.

    Returns:
        int in -2**31 .. 2**31 - 1.
    """
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >= 1 << 31 else h


@lru_cache(KEPT)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many: the positive part of murmur2, modulo."""
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (murmur2(key) & 0x7FFFFFFF) % partitions
