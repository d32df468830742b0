"""Codes of query pictures and their crops, kept so that results follow a box while it is moved.

A moving box asks for many crops of one picture: the decoded picture is kept, and a crop's code is kept under the
picture's sha256, the box on a grid of `GRID` steps a side, and the space that its codes belong to (embedder and crop
margin). Everything is bounded; the least recently used goes first. The same picture and box give the same code whether
it was kept or not, because the box is put on the grid before it is cut.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from discovery.ports import Box, Eyes, Sight
from triton_models.pictures import Picture

GRID = 1024
"""A step is a pixel of a picture of this width; smaller moves cannot change a crop by much."""
CODES = 50_000
SIGHTS = 512
PICTURE_BYTES = 96 << 20

K = TypeVar("K")
V = TypeVar("V")


def on_grid(box: Box) -> Box:
    """The box with its corners on the grid."""
    x0, y0, x1, y1 = (round(corner * GRID) / GRID for corner in box)
    return x0, y0, x1, y1


class Kept(Generic[K, V]):
    """A bounded map, least recently used out first. Thread-safe; two who miss at once both compute.

    Args:
        limit: of all values' sizes together.
        size: of one value; each counts 1 unless told otherwise.
    """

    def __init__(self, limit: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size = size
        self._held: OrderedDict[K, V] = OrderedDict()
        self.total = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The kept value, else what `make` gives, which is kept when it fits."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                self.hits += 1
                return self._held[key]
            self.misses += 1
        value = make()
        size = self._size(value)
        if size > self._limit:
            return value
        with self._lock:
            if key not in self._held:
                self._held[key] = value
                self.total += size
            while self.total > self._limit:
                _, old = self._held.popitem(last=False)
                self.total -= self._size(old)
        return value

    def __len__(self) -> int:
        return len(self._held)


class Crops:
    """Looks at query pictures by way of what is kept. Thread-safe when `eyes` are.

    Args:
        eyes: decoder and models.
        space: names what codes are comparable with, such as the generation.
    """

    def __init__(
        self,
        eyes: Eyes,
        space: str,
        *,
        codes: int = CODES,
        sights: int = SIGHTS,
        picture_bytes: int = PICTURE_BYTES,
    ) -> None:
        self._eyes = eyes
        self._space = space
        self.codes: Kept[tuple[str, bytes, Box], bytes] = Kept(codes)
        self.sights: Kept[tuple[str, bytes], Sight] = Kept(sights)
        self._pictures: Kept[bytes, Picture] = Kept(picture_bytes, lambda picture: picture.pixels.nbytes)

    def of_pin(self, sha256: bytes, load: Callable[[], bytes], box: Box) -> bytes:
        """The code of a box of a stored picture; `load` fetches its bytes when they are needed.

        Raises:
            Poison: `picture_*`, or there is no such picture. Retryable: store or Triton are away.
        """
        place = on_grid(box)
        return self.codes.get((self._space, sha256, place), lambda: self._eyes.look(self._opened(sha256, load), place))

    def of_upload(self, picture: bytes, box: Box) -> bytes:
        """The code of a box of an uploaded picture. Raises as `of_pin`."""
        return self.of_pin(hashlib.sha256(picture).digest(), lambda: picture, box)

    def sight(self, picture: bytes) -> Sight:
        """What is in an uploaded picture. Raises as `of_pin`."""
        sha256 = hashlib.sha256(picture).digest()
        return self.sights.get((self._space, sha256), lambda: self._eyes.see(self._opened(sha256, lambda: picture)))

    def _opened(self, sha256: bytes, load: Callable[[], bytes]) -> Picture:
        return self._pictures.get(sha256, lambda: self._eyes.open(load()))
