"""`next` of a page: an opaque word for the place behind its last pin. Layout, version 1: base64url without padding over
JSON `[1, "recorded_at in ms", "pin_id"]`.
"""

from __future__ import annotations

import base64
import binascii
import json

VERSION = 1
Place = tuple[int, str]
"""recorded_at in Unix milliseconds, and pin_id."""


def write(place: Place) -> str:
    """The opaque word for a place."""
    plain = json.dumps([VERSION, str(place[0]), place[1]], separators=(",", ":"))
    return base64.urlsafe_b64encode(plain.encode()).rstrip(b"=").decode()


def read(word: str) -> Place:
    """The place that an opaque word stands for.

    Raises:
        ValueError: it is no such word, or of another version.
    """
    try:
        plain = json.loads(base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise ValueError("not a word that this API gave out") from None
    match plain:
        case [int(version), str(at), str(pin_id)] if version == VERSION and at.isdecimal() and len(at) < 19:
            return int(at), pin_id
    raise ValueError(f"not a place of version {VERSION}")
