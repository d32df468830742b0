"""What is known of a picture file before any decoder sees it: the common result of jpeg.py, png.py and webp.py.

Each of the three walks its container's segments with bounded work, refuses what breaks the rules, and copies into
`body` only the parts that the decoder needs, so that metadata, trailers and second pictures never reach it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dotstream.errors import Poison

ORIENTATION_TAG = 0x0112
SHORT = 3
"""The Exif type of a 16-bit number."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A picture file as its headers describe it.

    Attributes:
        format: "jpeg", "png" or "webp".
        width, height: as stored, before orientation, pixels.
        body: a complete file of the same format without anything that the decoder does not need.
        orientation: Exif, 1..8; 1 is upright.
        scans: passes over the pixels that decoding takes; 1 for PNG and WebP.
        restarts: restart markers between the scans' bytes (JPEG).
        channels: colour components of a JPEG; 0 for the others.
    """

    format: str
    width: int
    height: int
    body: bytes
    orientation: int = 1
    scans: int = 1
    restarts: int = 0
    channels: int = 0


def corrupt(detail: str) -> Poison:
    return Poison("picture_corrupt", detail)


def truncated(detail: str) -> Poison:
    return Poison("picture_truncated", detail)


def orientation_of(exif: bytes) -> int:
    """The orientation that an Exif block asks for; 1 where it says nothing that can be understood.

    Only this one tag is read: a library's full parser warns about odd blocks, and a broken block is no reason to
    refuse a sound picture.

    Args:
        exif: a TIFF structure, with or without the prefix "Exif" and two zero bytes (Exif 2.32, 4.5).
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if tag == ORIENTATION_TAG:
                return int(value) if kind == SHORT and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
