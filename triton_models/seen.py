"""What the models saw in one picture, and its form in the result cache.

On a pin's way it is the pipeline's result (triton_models/pipeline.py), from which the vision worker builds the pin's
ObjectRecord. The same picture under the same pipeline is computed once: the worker keeps the encoded form under the
picture's sha256 and the pipeline's fingerprint.

Layout of the encoded form, version 1:

    offset  bytes  content
    0       4      magic "SEEN"
    4       1      version, 1
    5       4      CRC-32 of the payload, little-endian
    9       rest   payload: JSON in UTF-8, no white space, codes in base64:
                   {"code": "…", "colours": [[rgb, share], …], "objects": [[x0, y0, x1, y1, "label", score, "code"], …]}
                   and, of a pipeline with extra features only, "extra": [["…", …], …], a code for each of them: of the
                   whole picture, then of each object
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dotstream.errors import Retryable

MAGIC = b"SEEN"
VERSION = 1
_HEAD = struct.Struct("<4sBI")

Box = tuple[float, float, float, float]


class BadEntry(Retryable):
    """Bytes that are not an encoded Seen, or a damaged one: compute the picture again and overwrite them."""


@dataclass(frozen=True)
class SeenObject:
    """One detected object.

    Attributes:
        box: (x0, y0, x1, y1) in 0..1 of the upright picture, origin at top left, x0 < x1 and y0 < y1.
        label: the detector's name for it.
        score: the detector's, in 0..1.
        code: the binary code of its crop, bits packed most significant first.
        extra: the codes of the pipeline's extra features, in their order.
    """

    box: Box
    label: str
    score: float
    code: bytes
    extra: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One picture.

    Attributes:
        objects: best score first; an object's index is its place here.
        code: the binary code of the whole picture, as long as each object's.
        colours: (0xRRGGBB, share in 0..1), largest share first.
        extra: as an object's, of the whole picture.
    """

    objects: tuple[SeenObject, ...]
    code: bytes
    colours: tuple[tuple[int, float], ...]
    extra: tuple[bytes, ...] = ()


def encode_seen(seen: Seen) -> bytes:
    """The bytes to keep; the same Seen gives the same bytes."""
    objects = [[*found.box, found.label, found.score, _text(found.code)] for found in seen.objects]
    body: dict[str, Any] = {"code": _text(seen.code), "colours": seen.colours, "objects": objects}
    if seen.extra:
        rows = [seen.extra, *(found.extra for found in seen.objects)]
        body["extra"] = [[_text(code) for code in row] for row in rows]
    payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return _HEAD.pack(MAGIC, VERSION, zlib.crc32(payload)) + payload


def decode_seen(data: bytes, bits: int, extra: Sequence[int] = ()) -> Seen:
    """Reads what `encode_seen` wrote.

    Args:
        data: the bytes that were kept.
        bits: bits that every code must have.
        extra: the same of each extra feature of the pipeline.

    Raises: BadEntry unless every byte and every value is as it must be.
    """
    if len(data) < _HEAD.size:
        raise BadEntry(f"{len(data)} bytes are no entry")
    magic, version, checksum = _HEAD.unpack_from(data)
    payload = data[_HEAD.size :]
    if magic != MAGIC or version != VERSION or checksum != zlib.crc32(payload):
        raise BadEntry(f"magic {magic!r}, version {version} or checksum is not that of an entry")
    try:
        body = json.loads(payload)
        whole, *others = _extra(body.get("extra"), 1 + len(body["objects"]), extra)
        objects = tuple(_object(item, bits, codes) for item, codes in zip(body["objects"], others, strict=True))
        colours = tuple(_colour(item) for item in body["colours"])
        return Seen(objects, _code(body["code"], bits), colours, whole)
    except (ValueError, TypeError, KeyError) as error:
        raise BadEntry(f"not the values of an entry: {error!r}") from error


def _extra(rows: Any, count: int, bits: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The extra codes of the whole picture and of each object."""
    if not bits and rows is None:
        return [()] * count
    if len(rows) != count:
        raise ValueError(f"extra codes of {len(rows)} pictures and objects, not of {count}")
    return [tuple(_code(text, wide) for text, wide in zip(row, bits, strict=True)) for row in rows]


def _object(item: Any, bits: int, extra: tuple[bytes, ...]) -> SeenObject:
    x0, y0, x1, y1, label, score, code = item
    x0, y0, x1, y1 = box = (_share(x0), _share(y0), _share(x1), _share(y1))
    if x0 >= x1 or y0 >= y1 or not isinstance(label, str) or not label:
        raise ValueError(f"object {box} {label!r}")
    return SeenObject(box, label, _share(score), _code(code, bits), extra)


def _colour(item: Any) -> tuple[int, float]:
    rgb, share = item
    if type(rgb) is not int or not 0 <= rgb <= 0xFFFFFF:
        raise ValueError(f"colour {rgb!r}")
    return rgb, _share(share)


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not in 0..1")
    return float(value)


def _code(text: Any, bits: int) -> bytes:
    try:
        code = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"code {text!r}") from error
    if len(code) * 8 != bits:
        raise ValueError(f"code of {len(code) * 8} bits, not {bits}")
    return code


def _text(code: bytes) -> str:
    return base64.b64encode(code).decode("ascii")
