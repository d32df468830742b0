"""Walks a JPEG's segments before it is decoded: its size, scans and restart markers (ITU-T T.81, annex B).

Work is bounded by one vectorised pass over the bytes plus `MAX_SEGMENTS` steps. The first image counts: what lies
behind its end-of-image marker (a second image of a phone, a trailer) is cut off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dotstream.errors import Poison
from triton_models.outline import Outline, corrupt, orientation_of, truncated

MAGIC = b"\xff\xd8\xff"
MAX_SEGMENTS = 2048
"""Ample for 255 pieces of a colour profile, extended XMP and tables between 100 scans."""

SOI, EOI, SOS, DQT, DHT, DAC, DNL, DRI, TEM, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xCC, 0xDC, 0xDD, 0x01, 0xFE
APP0, APP1, APP14, APP15 = 0xE0, 0xE1, 0xEE, 0xEF
RESTARTS = range(0xD0, 0xD8)
ACCEPTED_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended sequential and progressive, all Huffman-coded: what browsers show."""
OTHER_FRAMES = frozenset({0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xDE, DAC})
"""Lossless, hierarchical and arithmetic-coded."""
DECODER_NEEDS = frozenset({*ACCEPTED_FRAMES, SOS, DQT, DHT, DNL, DRI, APP0, APP14})
"""APP0 (JFIF) and APP14 (Adobe) decide the colour space; other metadata is left out."""
_NOT_FILL = re.compile(rb"[^\xff]")


@dataclass(slots=True)
class _Walk:
    """What has been gathered so far. Offsets count from the start of the file."""

    data: memoryview
    markers: NDArray[np.int64]
    restart_markers: NDArray[np.int64]
    kept: list[memoryview] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    width: int = 0
    height: int = 0
    channels: int = 0
    scans: int = 0
    restarts: int = 0
    orientation: int | None = None


def outline(data: bytes, max_scans: int) -> Outline:
    """Reads a JPEG's structure up to the end of its first image.

    Raises:
        Poison: picture_truncated, picture_corrupt, picture_format (a kind of JPEG that is not taken), picture_scans,
            picture_bomb (more segments than any camera writes).
    """
    walk = _Walk(memoryview(data), *_markers(data))
    walk.kept.append(walk.data[:2])
    at = 2
    for _ in range(MAX_SEGMENTS):
        at, code = _next_marker(data, at)
        if code == EOI:
            return _finish(walk)
        at = _segment(walk, at, code)
        if walk.scans > max_scans:
            raise Poison("picture_scans", f"more than {max_scans} scans")
    raise Poison("picture_bomb", f"more than {MAX_SEGMENTS} JPEG segments")


def _markers(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets of all marker codes, restart markers apart; 0xFF00 is a stuffed byte and 0xFFFF is fill."""
    values = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(values[:-1] == 0xFF)
    code = values[at + 1]
    marks = (code != 0) & (code != 0xFF)
    at, code = at[marks], code[marks]
    restart = (code >= RESTARTS.start) & (code < RESTARTS.stop)
    return at[~restart], at[restart]


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker that must begin at `at`, behind fill bytes: the offset of its 0xFF, and its code."""
    if at >= len(data):
        raise truncated("the JPEG has no end-of-image marker")
    if data[at] != 0xFF:
        raise corrupt(f"no JPEG marker at byte {at}")
    found = _NOT_FILL.search(data, at)
    if found is None:
        raise truncated("the JPEG has no end-of-image marker")
    return found.start() - 1, data[found.start()]


def _segment(walk: _Walk, at: int, code: int) -> int:
    """Takes in the segment at `at`; returns the offset behind it, and behind its scan."""
    if code in RESTARTS or code == TEM:
        return at + 2
    end = _segment_end(walk.data, at, code)
    payload = walk.data[at + 4 : end]
    if code in ACCEPTED_FRAMES:
        _frame(walk, payload)
    elif code == APP1 and walk.orientation is None and bytes(payload[:6]) == b"Exif\0\0":
        walk.orientation = orientation_of(bytes(payload))
    elif code == SOS:
        end = _scan(walk, end)
    walk.seen.add(code)
    if code in DECODER_NEEDS:
        walk.kept.append(walk.data[at:end])
    return end


def _segment_end(data: memoryview, at: int, code: int) -> int:
    if code in OTHER_FRAMES:
        raise Poison("picture_format", f"JPEG of a kind that is not taken (marker 0xFF{code:02X})")
    if code not in DECODER_NEEDS and code != COM and not APP0 <= code <= APP15:
        raise corrupt(f"unexpected JPEG marker 0xFF{code:02X} at byte {at}")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if at + 4 > len(data) or at + 2 + length > len(data):
        raise truncated(f"JPEG segment 0xFF{code:02X} ends behind the file")
    if length < 2:
        raise corrupt(f"JPEG segment 0xFF{code:02X} of length {length}")
    return at + 2 + length


def _frame(walk: _Walk, payload: memoryview) -> None:
    if walk.channels:
        raise corrupt("two frames in one JPEG")
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise corrupt("JPEG frame header of the wrong length")
    if payload[0] != 8:
        raise Poison("picture_format", f"JPEG with {payload[0]} bits per sample; 8 are taken")
    walk.height, walk.width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    walk.channels = payload[5]
    if walk.channels not in (1, 3, 4):
        raise Poison("picture_format", f"JPEG with {walk.channels} components; 1, 3 and 4 are taken")


def _scan(walk: _Walk, start: int) -> int:
    """The end of the coded data that begins at `start`: the next marker that is not a restart."""
    if not walk.channels or not {DQT, DHT} <= walk.seen:
        raise corrupt("JPEG scan before its frame header, quantisation or Huffman tables")
    after = int(np.searchsorted(walk.markers, start))
    if after == len(walk.markers):
        raise truncated("the JPEG ends within a scan")
    end = int(walk.markers[after])
    first, last = np.searchsorted(walk.restart_markers, (start, end))
    walk.restarts += int(last - first)
    walk.scans += 1
    return end


def _finish(walk: _Walk) -> Outline:
    if not walk.scans:
        raise corrupt("a JPEG without a scan")
    walk.kept.append(memoryview(b"\xff\xd9"))
    return Outline(
        format="jpeg",
        width=walk.width,
        height=walk.height,
        body=b"".join(walk.kept),
        orientation=walk.orientation or 1,
        scans=walk.scans,
        restarts=walk.restarts,
        channels=walk.channels,
    )
