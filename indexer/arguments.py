"""What callers pass to the index, looked at before anything is done with it: one error that says what to pass instead.

Each function takes the argument's name and value and returns the value as the index works with it. What is plainly
right costs a comparison or two, as queries come by the thousand.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from indexer.errors import BadArgument
from indexer.records import SHA256_BYTES

MAX_INT64 = 2**63 - 1
_SHOWN = 60
_ONE_STRING = (str, bytes, bytearray, memoryview)
One = TypeVar("One")


def refused(name: str, value: object, wanted: str) -> BadArgument:
    """The error for an argument, which is shown as far as a person wants to read it."""
    text = " ".join(repr(value).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    kind = "" if value is None else f" ({type(value).__name__})"
    return BadArgument(f"{name} is {shown}{kind}; pass {wanted}")


def whole(name: str, value: Any, least: int, most: int = MAX_INT64) -> int:
    """A whole number from `least` to `most`; numpy's are taken too."""
    found: int = value if type(value) is int else _plain(name, value, least, most)
    if not least <= found <= most:
        raise refused(name, value, _range(least, most))
    return found


def eights(name: str, value: Any) -> int:
    """A positive multiple of 8."""
    found = whole(name, value, 8)
    if found % 8:
        raise refused(name, value, "a multiple of 8")
    return found


def _plain(name: str, value: Any, least: int, most: int) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise refused(name, value, _range(least, most))


def _range(least: int, most: int) -> str:
    return f"a whole number from {least} on" if most == MAX_INT64 else f"a whole number from {least} to {most}"


def seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """Seconds above 0, or from 0 on; infinity means no limit."""
    if isinstance(value, Real) and not isinstance(value, bool):
        found = float(value)
        if found > 0 or (zero and found == 0):
            return found
    raise refused(name, value, "seconds from 0 on" if zero else "seconds above 0")


def share(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1:
        return float(value)
    raise refused(name, value, "a number from 0 to 1")


def text(name: str, value: Any) -> str:
    """A string that UTF-8 can write."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refused(name, value, "text that UTF-8 can write") from None
        return value
    raise refused(name, value, "a str")


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Strings out of any iterable but a string, whose letters would be taken for them."""
    if isinstance(value, Iterable) and not isinstance(value, _ONE_STRING):
        found = tuple(value)
        try:
            "".join(found).encode()
        except (TypeError, UnicodeEncodeError):
            pass
        else:
            return found
    raise refused(name, value, 'several str, such as ["a", "b"], also where it is one')


def sha256(name: str, value: Any) -> bytes:
    """A SHA-256 as it is, not in hex."""
    if isinstance(value, bytes) and len(value) == SHA256_BYTES:
        return value
    raise refused(name, value, f"{SHA256_BYTES} bytes, of a hex string bytes.fromhex(…)")


def sha256s(name: str, value: Any) -> frozenset[bytes]:
    """Several of them."""
    if isinstance(value, Iterable) and not isinstance(value, _ONE_STRING):
        return frozenset([sha256(f"one of {name}", each) for each in value])
    raise refused(name, value, f"several SHA-256, such as [digest], each of {SHA256_BYTES} bytes")


def flag(name: str, value: Any) -> bool:
    """True or False; numpy's are taken too."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise refused(name, value, "True or False")


def code(name: str, value: Any) -> bytes:
    """A code: bytes, most significant bit first."""
    if isinstance(value, bytes) and value:
        return value
    raise refused(name, value, "bytes, the code's bits / 8 of them, as numpy.packbits(…).tobytes() gives them")


def weights(name: str, value: Any) -> Mapping[str, float]:
    """Words with finite weights."""
    if not isinstance(value, Mapping):
        raise refused(name, value, 'words with their weights, such as {"oak": 1.0}')
    for word, weight in value.items():
        text(f"a word of {name}", word)
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
            raise refused(f"{name}[{word!r}]", weight, "a finite number")
    return value


def place(name: str, value: Any) -> tuple[int, str]:
    """Where a page ended: (recorded_at, pin_id)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise refused(name, value, "(recorded_at, pin_id) of the last entry seen, or None")
    return whole(f"{name}[0]", value[0], 0), text(f"{name}[1]", value[1])


def all_of(name: str, value: Any, kind: type[One]) -> None:
    """A list or another sequence of objects of one kind."""
    if not isinstance(value, list | tuple):
        raise refused(name, value, f"a list of {kind.__name__}")
    for each in value:
        if not isinstance(each, kind):
            raise refused(f"one of {name}", each, f"a {kind.__name__}")


def folder(name: str, value: Any) -> Path:
    """A folder's path."""
    if isinstance(value, Path):
        return value
    raise refused(name, value, "a pathlib.Path")
