"""Building blocks of the poison corpus: small real pictures, and the segments and chunks to take them apart with."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 96, 64


def photo(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A smooth picture with some grain whose four corners differ, so that a wrong orientation shows."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    colours = np.stack([40 + 200 * x, 30 + 190 * y, 220 - 150 * x * y], axis=-1)
    grain = np.random.default_rng(7).integers(-6, 7, colours.shape)
    return np.clip(colours + grain, 0, 255).astype(np.uint8)


def encode(image: Image.Image | NDArray[np.uint8], kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def jpeg(**options: Any) -> bytes:
    return encode(photo(), "JPEG", quality=90, **options)


# JPEG


def segment(code: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(payload) + 2) + payload


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(code, whole segment) in order; a scan's coded data belongs to its SOS segment."""
    at = 2
    while data[at + 1] != 0xD9:
        code = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        yield code, data[at:end]
        at = end


def join(parts: list[bytes]) -> bytes:
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


def without(data: bytes, *codes: int) -> bytes:
    return join([part for code, part in segments(data) if code not in codes])


def insert(data: bytes, *extra: bytes) -> bytes:
    """Puts segments right behind the start-of-image marker."""
    return data[:2] + b"".join(extra) + data[2:]


def patch_frame(data: bytes, **fields: int) -> bytes:
    """Overwrites height, width, precision, components or the marker of the frame header."""
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    changed = bytearray(data)
    for name, (offset, size) in {
        "marker": (1, 1),
        "precision": (4, 1),
        "height": (5, 2),
        "width": (7, 2),
        "components": (9, 1),
    }.items():
        if name in fields:
            changed[at + offset : at + offset + size] = fields[name].to_bytes(size, "big")
    return bytes(changed)


def exif(orientation: int, order: str = ">") -> bytes:
    head = {">": b"MM\0*", "<": b"II*\0"}[order]
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def storm_of_scans(count: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A progressive JPEG whose last refinement scan is repeated until there are `count` scans."""
    data = jpeg(progressive=True)
    parts = list(segments(data))
    scans = sum(code == 0xDA for code, _ in parts)
    tables_and_scan = parts[-2][1] + parts[-1][1]
    long = join([part for _, part in parts] + [tables_and_scan] * (count - scans))
    return patch_frame(long, width=width, height=height)


# PNG


def chunk(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
IEND = chunk(b"IEND")


def header(width: int, height: int, depth: int, colour: int, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def rows(samples: NDArray[Any], depth: int = 8) -> bytes:
    """Filter byte 0 and packed samples for each row."""
    if depth < 8:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(samples.shape[0], -1), axis=-1)
        return b"".join(b"\0" + row.tobytes() for row in packed)
    kind = ">u2" if depth == 16 else "u1"
    return b"".join(b"\0" + row.astype(kind).tobytes() for row in samples)


def png(samples: NDArray[Any], depth: int, colour: int, *extra: bytes) -> bytes:
    """A PNG written by hand; `extra` chunks go before the picture data."""
    height, width = samples.shape[:2]
    body = chunk(b"IDAT", zlib.compress(rows(samples, depth)))
    return PNG_MAGIC + header(width, height, depth, colour) + b"".join(extra) + body + IEND


def interlaced(samples: NDArray[Any]) -> bytes:
    """An 8-bit grey PNG in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    data = b"".join(rows(samples[top::down, left::right]) for top, left, down, right in passes)
    height, width = samples.shape
    return PNG_MAGIC + header(width, height, 8, 0, 1) + chunk(b"IDAT", zlib.compress(data)) + IEND


def split(data: bytes) -> list[bytes]:
    """The chunks of a PNG."""
    found, at = [], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        found.append(data[at:end])
        at = end
    return found


def with_chunks(data: bytes, *extra: bytes) -> bytes:
    """Puts chunks right behind the header."""
    first, *rest = split(data)
    return PNG_MAGIC + first + b"".join(extra) + b"".join(rest)


def animated_png(frames: int) -> bytes:
    still = split(encode(photo(16, 16), "PNG"))
    idat = next(part for part in still if part[4:8] == b"IDAT")[8:-4]
    control = [struct.pack(">IIIIIHHBB", n, 16, 16, 0, 0, 1, 30, 0, 0) for n in range(2 * frames)]
    moving = b"".join(
        chunk(b"fcTL", control[2 * n - 1]) + chunk(b"fdAT", struct.pack(">I", 2 * n) + idat) for n in range(1, frames)
    )
    start = chunk(b"acTL", struct.pack(">II", frames, 0)) + chunk(b"fcTL", control[0])
    return PNG_MAGIC + still[0] + start + chunk(b"IDAT", idat) + moving + IEND


# WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP"
    for kind, payload in chunks:
        body += kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def u24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + u24(width - 1) + u24(height - 1)


def webp_frame(data: bytes) -> tuple[bytes, bytes]:
    """The first chunk of a simple WebP."""
    length = int.from_bytes(data[16:20], "little")
    return data[12:16], data[20 : 20 + length]


def animated_webp(frames: int) -> bytes:
    kind, payload = webp_frame(encode(photo(16, 16), "WEBP", lossless=True))
    inner = kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    frame = u24(0) + u24(0) + u24(15) + u24(15) + u24(33) + b"\0" + inner
    return riff(canvas(16, 16, 2), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * frames)
