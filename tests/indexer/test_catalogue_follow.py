"""Followers of a catalogue whose writer flushes all the time: what they say is never from the past.

RocksDB's secondary instances do answer from the past behind a flush; `Catalogue.catch_up` tells when. Without that
look at the newest log hundreds of the values below come out wrong.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from indexer.catalogue import Catalogue

FAMILIES = ("pins", "slots", "df", "sha256")
KEYS = [b"%d" % n for n in range(200)]


class Writer:
    """Writes random values with so little memory that it flushes every few dozen commits."""

    def __init__(self, path: Path, random: Random) -> None:
        self._path = path
        self._random = random
        self.expected: dict[tuple[str, bytes], bytes] = {}
        self.catalogue = Catalogue(path, memory_bytes=1 << 16)

    def commit(self) -> None:
        batch = self.catalogue.batch()
        for _ in range(self._random.randint(1, 4)):
            family, key = self._random.choice(FAMILIES), self._random.choice(KEYS)
            if self._random.random() < 0.3:
                batch.delete(family, key)
                self.expected.pop((family, key), None)
            else:
                self.expected[family, key] = value = self._random.randbytes(self._random.choice((10, 600)))
                batch.put(family, key, value)
        self.catalogue.write(batch)

    def restart(self) -> None:
        self.catalogue.close()
        self.catalogue = Catalogue(self._path, memory_bytes=1 << 16)


@pytest.mark.parametrize("seed", range(4))
def test_a_follower_is_never_behind_once_it_caught_up(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    writer = Writer(tmp_path / "db", random)
    followers = [Catalogue(tmp_path / "db", follow=tmp_path / "0")]
    for _ in range(120):
        for _ in range(random.choice((1, 3, 50, 400))):
            writer.commit()
        if random.random() < 0.1:
            writer.restart()
        while not followers[-1].catch_up():
            followers.append(Catalogue(tmp_path / "db", follow=tmp_path / str(len(followers))))
        for family in FAMILIES:
            expected = [writer.expected.get((family, key)) for key in KEYS]
            assert followers[-1].get_many(family, KEYS) == expected
    assert len(followers) > 5
    for follower in followers:
        follower.close()
    writer.catalogue.close()
