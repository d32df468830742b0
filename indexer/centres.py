"""The centres of inverted lists: codes that others gather about, and the bytes by which codes are sketched.

Centres are chosen from a sample of the codes at hand by rounds of k-majority: each code goes to its nearest centre,
each centre becomes the bitwise majority of its codes (k-means for the Hamming distance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from indexer.scan import Codes, Ints, Stored, Sweep, distances_to
from indexer.sweeps import Part

MOST_LISTS = 1024
CODES_PER_LIST = 64
"""There are fewer lists where these would be shorter, and centres are chosen by about so many codes each."""
_ROUNDS = 8
_AT_ONCE = 512
_ROOM = 64
_SKETCH_BYTES, _SKETCH_SHARE = 64, 4
"""A sketch has so many bytes, or one in so many of the code's where that is more."""


@dataclass(frozen=True, slots=True)
class Centres:
    """What lists are about.

    Attributes:
        codes: uint8 [lists, code bytes].
        places: int64 [sketch bytes], ascending: the bytes of a code that are its sketch.
        chosen_by: how many codes there were when they were chosen.
    """

    codes: Codes
    places: Ints
    chosen_by: int


def choose(parts: Sequence[Part], checkpoint: Callable[[], None]) -> Centres:
    """Centres for the codes of some parts; the same for the same codes.

    Args:
        parts: what to choose by; at least one code.
        checkpoint: called between pieces of some milliseconds.
    """
    total = rows_of(parts)
    lists = max(1, min(MOST_LISTS, total // CODES_PER_LIST))
    share = max(1, total // (lists * CODES_PER_LIST))
    codes = np.concatenate([part.segment.codes[: part.length : share] for part in parts])
    centres: Codes = codes[np.random.default_rng(0).choice(len(codes), lists, replace=False)]
    for _ in range(_ROUNDS):
        of, distances = nearest_centres(codes, centres, checkpoint)
        sizes = np.bincount(of, minlength=lists)
        for n, members in enumerate(np.split(np.argsort(of, kind="stable"), np.cumsum(sizes)[:-1])):
            if len(members):
                checkpoint()
                ones = np.unpackbits(codes[members], axis=1).sum(axis=0, dtype=np.int64)
                centres[n] = np.packbits(2 * ones > len(members))
        empty = np.flatnonzero(sizes == 0)
        centres[empty] = codes[np.argsort(-distances, kind="stable")[: len(empty)]]
    return Centres(centres, _most_telling(codes), total)


def _most_telling(codes: Codes) -> Ints:
    """The bytes whose bits differ most among the codes."""
    ones = np.unpackbits(codes[:: max(1, len(codes) // 8192)], axis=1).mean(axis=0)
    spread = (ones * (1 - ones)).reshape(-1, 8).sum(axis=1)
    return np.sort(np.argsort(-spread, kind="stable")[: max(_SKETCH_BYTES, codes.shape[1] // _SKETCH_SHARE)])


def nearest_centres(codes: Codes, centres: Codes, checkpoint: Callable[[], None]) -> tuple[Ints, Ints]:
    """(the centre nearest to each code, the first of those that tie; its distance), int64 [n] each.

    Args:
        codes: uint8 [n, code bytes].
        centres: uint8 [lists, code bytes].
        checkpoint: called between pieces of some milliseconds.
    """
    found, distances = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    stored, lists, bits = Stored(centres), len(centres), codes.shape[1] * 8
    for at in range(0, len(codes), _AT_ONCE):
        checkpoint()
        piece = codes[at : at + _AT_ONCE]
        n = len(piece)
        sweep = Sweep(piece, np.ones(n, np.int64), np.full(n, bits), _ROOM)
        sweep.scan(stored, 0, lists)
        kept = sweep.kept[:n]
        ranked = np.where(np.arange(_ROOM) < kept[:, None], sweep.distances[:n] * lists + sweep.slots[:n], 2**62)
        best = ranked.min(axis=1)
        for crowded in np.flatnonzero(kept > _ROOM):  # so many tie
            every = distances_to(centres, piece[crowded])
            best[crowded] = int(every.min()) * lists + int(every.argmin())
        distances[at : at + n], found[at : at + n] = np.divmod(best, lists)
    return found, distances


def rows_of(parts: Sequence[Part]) -> int:
    """Committed codes in all parts."""
    return sum(part.length for part in parts)
