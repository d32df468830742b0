"""Walks a PNG's chunks before it is decoded (W3C PNG, third edition): every length and checksum, no metadata kept.

Compressed text and colour profiles are inflated up to a limit only, to name a bomb as such; then they are left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from dotstream.errors import Poison
from triton_models.outline import Outline, corrupt, orientation_of, truncated

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 65_536
MAX_METADATA_BYTES = 8_000_000
"""Inflated text and colour profiles of one file, together."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits per sample that each colour type may have."""
GREY, TRUECOLOUR, PALETTE = 0, 2, 3
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and the steps to the next ones, of each pass of an interlaced picture."""
PIECE_BYTES = 1 << 20
GREY_SCALE = {2: 85, 4: 17}
"""Steps between grey levels of 2 and 4 bits when they are spread over 0..255."""


class _Kept:
    """What is kept of a file: stretches of it, and pieces put in. Neighbours are one stretch, however many they are."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._pieces: list[bytes | memoryview] = []
        self._start, self._stop = 0, len(MAGIC)

    def keep(self, start: int, stop: int) -> None:
        if start != self._stop:
            self._pieces.append(self._view[self._start : self._stop])
            self._start = start
        self._stop = stop

    def put(self, piece: bytes) -> None:
        self.keep(0, 0)
        self._pieces.append(piece)

    def joined(self) -> bytes:
        self.keep(0, 0)
        return b"".join(self._pieces)


@dataclass(slots=True)
class _Walk:
    kept: _Kept
    depth: int = 0
    colour: int = 0
    seen: set[bytes] = field(default_factory=set)
    last: bytes = b""
    inflated: int = 0
    orientation: int = 1


def outline(data: bytes) -> Outline:
    """Reads a PNG's structure up to its IEND chunk; what follows is cut off.

    Raises:
        Poison: picture_truncated, picture_corrupt, picture_animated, picture_bomb.
    """
    walk = _Walk(_Kept(data))
    width = height = 0
    for kind, payload, start, stop in _chunks(data):
        if kind == b"IHDR":
            width, height = _header(walk, payload)
        elif not walk.seen:
            raise corrupt("the first PNG chunk is not IHDR")
        _chunk(walk, kind, payload, start, stop)
        walk.seen.add(kind)
        walk.last = kind
    if b"IDAT" not in walk.seen or (walk.colour == PALETTE and b"PLTE" not in walk.seen):
        raise corrupt("a PNG without picture data or palette")
    return Outline("png", width, height, walk.kept.joined(), walk.orientation)


def has_all_rows(data: bytes) -> bool:
    """Whether the picture data unfold to as many bytes as the header's size takes. Unfolds them piece by piece."""
    missing = 0
    unpacker = zlib.decompressobj()
    for kind, payload, _, _ in _chunks(data):
        if kind == b"IHDR":
            missing = _raw_bytes(*struct.unpack(">IIBBBBB", payload))
        packed: bytes | memoryview = payload if kind == b"IDAT" else b""
        while packed and missing > 0:
            missing -= len(unpacker.decompress(packed, PIECE_BYTES))
            packed = unpacker.unconsumed_tail
    return missing <= 0


def _raw_bytes(width: int, height: int, depth: int, colour: int, _method: int, _filters: int, interlace: int) -> int:
    """Bytes of all rows with their filter bytes, before compression."""
    bits = depth * SAMPLES[colour]
    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, right in passes:
        rows, columns = len(range(top, height, down)), len(range(left, width, right))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int, int]]:
    """(type, payload, first byte, behind the last byte) of each chunk up to IEND. Checksums of those that are kept are
    verified.
    """
    view = memoryview(data)
    at = len(MAGIC)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            raise truncated("the PNG has no IEND chunk")
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        if not (kind.isalpha() and kind.isascii()) or length > 0x7FFFFFFF:
            raise corrupt(f"no PNG chunk at byte {at}")
        end = at + 12 + length
        if end > len(data):
            raise truncated(f"PNG chunk {kind.decode()} ends behind the file")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise corrupt(f"PNG chunk {kind.decode()} fails its checksum")
        yield kind, view[at + 8 : end - 4], at, end
        if kind == b"IEND":
            return
        at = end
    raise Poison("picture_bomb", f"more than {MAX_CHUNKS} PNG chunks")


def _header(walk: _Walk, payload: memoryview) -> tuple[int, int]:
    if walk.seen or len(payload) != 13:
        raise corrupt("PNG header chunk misplaced or of the wrong length")
    width, height, walk.depth, walk.colour, compression, filters, interlace = struct.unpack(">IIBBBBB", payload)
    if walk.depth not in DEPTHS.get(walk.colour, ()) or compression or filters or interlace > 1:
        raise corrupt("PNG header with a colour type, depth or method that does not exist")
    return width, height


def _chunk(walk: _Walk, kind: bytes, payload: memoryview, start: int, stop: int) -> None:
    if kind == b"IDAT" and kind in walk.seen and walk.last != kind:
        raise corrupt("PNG picture data in two places")
    if kind == b"PLTE" and (kind in walk.seen or not 0 < len(payload) <= 768 or len(payload) % 3):
        raise corrupt("PNG palette doubled or of the wrong length")
    if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        walk.kept.keep(start, stop)
    elif kind == b"tRNS":
        walk.kept.put(_transparency(walk, bytes(payload)))
    elif kind == b"eXIf":
        walk.orientation = orientation_of(bytes(payload))
    elif kind == b"acTL" and int.from_bytes(payload[:4], "big") != 1:
        raise Poison("picture_animated", f"animated PNG of {int.from_bytes(payload[:4], 'big')} frames")
    elif kind in (b"zTXt", b"iTXt", b"iCCP"):
        _guard_inflated(walk, kind, bytes(payload))
    elif not kind[0] & 0x20:
        raise corrupt(f"unknown critical PNG chunk {kind.decode()}")


def _transparency(walk: _Walk, payload: bytes) -> bytes:
    """The tRNS chunk as Pillow understands it; empty where it has no effect.

    Pillow compares the key of 2- and 4-bit grey with samples already spread to 8 bits, and the key of 16-bit colour
    with samples already cut to 8 bits, where it can no longer single out one colour.
    """
    if walk.colour == TRUECOLOUR and walk.depth == 16:
        return b""
    if walk.colour == GREY and walk.depth in GREY_SCALE and len(payload) == 2:
        payload = struct.pack(">H", min(255, int.from_bytes(payload, "big") * GREY_SCALE[walk.depth]))
    if (walk.colour == GREY and len(payload) != 2) or (walk.colour == TRUECOLOUR and len(payload) != 6):
        return b""
    body = b"tRNS" + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def _guard_inflated(walk: _Walk, kind: bytes, payload: bytes) -> None:
    """Counts what a compressed chunk unfolds to, and stops at the limit. A broken stream unfolds to nothing."""
    name, _, rest = payload.partition(b"\0")
    packed = rest[1:]  # behind the compression method
    if kind == b"iTXt":  # flag, method, language, translated key
        if not rest.startswith(b"\1"):
            return
        packed = rest[2:].split(b"\0", 2)[-1]
    try:
        text = zlib.decompressobj().decompress(packed, MAX_METADATA_BYTES + 1)
    except zlib.error:
        return
    walk.inflated += len(text)
    if walk.inflated > MAX_METADATA_BYTES:
        shown = name[:79].decode("latin-1")
        raise Poison("picture_bomb", f"PNG metadata {shown!r} unfolds to more than {MAX_METADATA_BYTES} bytes")
