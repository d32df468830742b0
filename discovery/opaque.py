"""Opaque words that clients hand back: base64url without padding over JSON. discovery/cursor.py and watermark.py say
what is in them.
"""

from __future__ import annotations

import base64
import binascii
import json

from pydantic import TypeAdapter

_JSON: TypeAdapter[object] = TypeAdapter(object)


def write(value: object) -> str:
    """The word for a value of JSON."""
    plain = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(plain.encode()).rstrip(b"=").decode()


def read(word: str) -> object:
    """The value that a word stands for. All of its texts can be written as UTF-8: a lone surrogate is no JSON here.

    Raises:
        ValueError: it is no such word.
    """
    try:
        plain = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        return _JSON.validate_json(plain)
    except (binascii.Error, ValueError):
        raise ValueError("not a word that this API gave out") from None
