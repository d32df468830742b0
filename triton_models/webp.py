"""Walks a WebP's RIFF chunks before it is decoded (RFC 9649): its size, and whether it moves."""

from __future__ import annotations

from collections.abc import Iterator

from dotstream.errors import Poison
from triton_models.outline import Outline, corrupt, orientation_of, truncated

MAX_CHUNKS = 1024
ANIMATION_FLAG = 0x02
FRAMES = (b"VP8 ", b"VP8L")


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def outline(data: bytes) -> Outline:
    """Reads a WebP's structure up to the end of its RIFF block; what follows is cut off.

    Raises:
        Poison: picture_truncated, picture_corrupt, picture_animated, picture_bomb.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated(f"the WebP says {end} bytes and has {len(data)}")
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    orientation = 1
    for kind, payload in _chunks(memoryview(data)[:end]):
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and payload[:1] and payload[0] & ANIMATION_FLAG):
            raise Poison("picture_animated", "animated WebP")
        if kind == b"VP8X":
            canvas = _canvas_size(payload)
        elif kind in FRAMES:
            if frame is not None:
                raise corrupt("two pictures in one still WebP")
            frame = _frame_size(kind, payload)
        elif kind == b"EXIF":
            orientation = orientation_of(bytes(payload))
    if frame is None or canvas not in (None, frame):
        raise corrupt(f"WebP canvas {canvas} and picture {frame} do not agree")
    return Outline("webp", *frame, data[:end], orientation)


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(four-character code, payload) of each chunk; an odd payload is followed by a padding byte."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at >= len(view):
            return
        if at + 8 > len(view):
            raise corrupt(f"no WebP chunk at byte {at}")
        length = int.from_bytes(view[at + 4 : at + 8], "little")
        if at + 8 + length > len(view):
            raise corrupt("a WebP chunk ends behind its block")
        yield bytes(view[at : at + 4]), view[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise Poison("picture_bomb", f"more than {MAX_CHUNKS} WebP chunks")


def _canvas_size(payload: memoryview) -> tuple[int, int]:
    if len(payload) < 10:
        raise corrupt("WebP canvas header of the wrong length")
    return 1 + int.from_bytes(payload[4:7], "little"), 1 + int.from_bytes(payload[7:10], "little")


def _frame_size(kind: bytes, payload: memoryview) -> tuple[int, int]:
    """Width and height from a key frame's header (RFC 6386, 9.1) or a lossless one's (RFC 9649, 3.4)."""
    if kind == b"VP8L":
        if len(payload) < 5 or payload[0] != 0x2F:
            raise corrupt("lossless WebP without its signature")
        bits = int.from_bytes(payload[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(payload) < 10 or payload[0] & 1 or bytes(payload[3:6]) != b"\x9d\x01\x2a":
        raise corrupt("WebP without a key frame")
    return int.from_bytes(payload[6:8], "little") & 0x3FFF, int.from_bytes(payload[8:10], "little") & 0x3FFF
