"""Pictures as the page wants them: as they are stored, or scaled down to a width and kept for a while.

Stored bytes passed the guarded decoder once; a thumbnail passes it again before anything is scaled.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from discovery.ports import Pictures
from triton_models.pictures import decode, inspect, resize

WIDTHS = (160, 320, 480, 640, 960, 1280, 1920)
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
QUALITY = 82


def snapped(width: int) -> int:
    """The width that is served for a wanted one: the next greater of a few, so that few are kept."""
    return next((w for w in WIDTHS if w >= width), WIDTHS[-1])


class Thumbnails:
    """Serves pictures of the store by reference. Thread-safe.

    Args:
        cache_bytes: of scaled pictures kept in memory, least recently used out first.
    """

    def __init__(self, pictures: Pictures, *, cache_bytes: int) -> None:
        self._pictures = pictures
        self._limit = cache_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def original(self, ref: str) -> tuple[bytes, str]:
        """The stored bytes and their media type, which is told by the bytes and never by a name.

        Raises:
            Poison: there is no such picture, or it is none. Retryable: the store is away.
        """
        data = self._pictures.get(ref)
        return data, MEDIA_TYPES[inspect(data).format]

    def scaled(self, ref: str, width: int) -> tuple[bytes, str]:
        """A JPEG of at most the width `snapped(width)`, upright. Raises as `original`."""
        key = (ref, snapped(width))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], MEDIA_TYPES["jpeg"]
        data = _scale(self._pictures.get(ref), key[1])
        self._keep(key, data)
        return data, MEDIA_TYPES["jpeg"]

    def _keep(self, key: tuple[str, int], data: bytes) -> None:
        with self._lock:
            if key in self._kept or len(data) > self._limit:
                return
            self._kept[key] = data
            self._bytes += len(data)
            while self._bytes > self._limit:
                _, old = self._kept.popitem(last=False)
                self._bytes -= len(old)


def _scale(data: bytes, width: int) -> bytes:
    picture = decode(data)
    pixels = picture.pixels
    if picture.width > width:
        pixels = resize(pixels, width, max(1, round(picture.height * width / picture.width)))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, progressive=True, optimize=False)
    return out.getvalue()
