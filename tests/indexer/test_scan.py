"""The kernel against numpy: every mode, width and kind of processor, ties and full rooms included."""

from __future__ import annotations

import platform

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import kernel, scan
from indexer.kernel import SHIFT
from indexer.scan import ALL, Mask, Stored, Sweep, distances_to, merged, standing, table_of

WIDTHS = (1, 3, 8, 9, 20, 64, 160, 512)
NOW = 60


def codes_of(random: np.random.Generator, n: int, width: int) -> npt.NDArray[np.uint8]:
    """Codes of which many are equal, so that ties are common."""
    kinds = random.integers(0, 256, (max(1, n // 4), width), np.uint8)
    codes = kinds[random.integers(0, len(kinds), n)]
    codes[:, -1] ^= random.integers(0, 4, n).astype(np.uint8)
    return codes


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(WIDTHS), st.integers(1, 700), st.integers(1, 7), st.booleans())
def test_sweeps_find_what_numpy_finds(seed: int, width: int, n: int, queries: int, picked: bool) -> None:
    random = np.random.default_rng(seed)
    codes = codes_of(random, n, width)
    asked = codes[random.integers(0, n, queries)] ^ random.integers(0, 2, (queries, width)).astype(np.uint8)
    born = random.integers(0, 100, n)
    died = np.where(random.random(n) < 0.3, random.integers(0, 200, n), 2**62)
    k = np.where(random.random(queries) < 0.1, ALL, random.integers(1, 20, queries))
    bounds = np.where(random.random(queries) < 0.5, width * 8, random.integers(0, width * 8 + 1, queries))
    masks = [None if random.random() < 0.5 else random.random(n) < 0.6 for _ in range(queries)]
    stored = Stored(codes, 1000, born, died, NOW)
    read = np.ones(n, np.bool_)
    sweeps = [Sweep(asked, k, bounds, room) for room in (None, 30)]
    if picked:
        read = random.random(n) < 0.5
        rows = np.flatnonzero(read)
        sweeps[0].pick(stored, rows[: n // 3], masks)
        sweeps[1].pick(stored, rows[n // 3 :], masks)
    else:
        sweeps[0].scan(stored, 0, n // 3, masks)
        sweeps[1].scan(stored, n // 3, n, masks)
    for number, mask in enumerate(masks):
        distances = np.bitwise_count(codes ^ asked[number]).sum(axis=1, dtype=np.int64)
        passing = read & (born <= NOW) & (died > NOW) & (distances <= bounds[number])
        passing &= True if mask is None else mask
        ranked = np.sort(distances[passing])
        bound = ranked[k[number] - 1] if len(ranked) >= k[number] else bounds[number]
        expected = np.flatnonzero(passing & (distances <= bound))
        found = merged(sweeps, number, int(k[number]), int(bounds[number]))
        assert (found.bound, found.total) == (bound, len(expected))
        rows = found.slots - 1000
        assert set(rows.tolist()) <= set(expected.tolist())
        assert distances[rows].tolist() == found.distances.tolist()
        assert len(set(rows.tolist())) == len(rows)
        if found.total > len(rows):
            again = Sweep(asked[number : number + 1], np.array([ALL]), np.array([bound]), found.total)
            again.pick(stored, np.flatnonzero(read), [mask])
            rows = merged([again], 0, ALL, int(bound)).slots - 1000
        assert set(rows.tolist()) == set(expected.tolist())


PROCESSORS = [("x86-64", 2), ("x86-64", 8), ("x86-64-v3", 4)] if platform.machine() == "x86_64" else [("generic", 2)]


@pytest.mark.parametrize("width", [3, 9, 20, 64])
@pytest.mark.parametrize(("processor", "lanes"), PROCESSORS)
def test_lesser_processors_count_the_same(
    monkeypatch: pytest.MonkeyPatch, width: int, processor: str, lanes: int
) -> None:
    """Compiled for plain processors of this architecture, where LLVM has to spell vectors and counts out."""
    made = kernel.compiled(width, lanes, processor, "")
    monkeypatch.setattr(scan, "kernel", lambda *_, **__: made)
    random = np.random.default_rng(width)
    codes = codes_of(random, 133, width)
    expected = np.bitwise_count(codes ^ codes[5]).sum(axis=1, dtype=np.int64)
    assert distances_to(codes, codes[5]).tolist() == expected.tolist()
    sweep = Sweep(codes[:3], np.full(3, 4), np.full(3, width * 8))
    sweep.pick(Stored(codes), np.arange(0, 133, 3))
    for number in range(3):
        distances = np.bitwise_count(codes[::3] ^ codes[number]).sum(axis=1, dtype=np.int64)
        assert merged([sweep], number, 4, width * 8).bound == np.sort(distances)[3]


def test_stretches_are_looked_at_and_nothing_beside_them() -> None:
    """Though the memory is read on to the end of a group."""
    random = np.random.default_rng(8)
    codes = codes_of(random, 300, 32)
    starts, stops = np.array([3, 100, 222, 290]), np.array([40, 101, 222, 292])
    for queries in (1, 3):
        sweep = Sweep(codes[:queries], np.full(queries, 400), np.full(queries, 256))
        sweep.stretches(Stored(codes), starts, stops)
        for number in range(queries):
            assert sorted(merged([sweep], number, 400, 256).slots.tolist()) == [*range(3, 40), 100, 290, 291]


def test_codes_that_come_ever_nearer_do_not_fill_the_room() -> None:
    """The worst order: each code is nearer than all before it, and is kept for a while."""
    codes = np.packbits(np.tri(4000, 4096, dtype=np.bool_)[::-1], axis=1)
    sweep = Sweep(np.zeros((1, 512), np.uint8), np.array([3]), np.array([4096]))
    sweep.scan(Stored(codes), 0, 4000)
    found = merged([sweep], 0, 3, 4096)
    assert sorted(zip(found.distances.tolist(), found.slots.tolist(), strict=True)) == [(1, 3999), (2, 3998), (3, 3997)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((3, 20, 160)), st.integers(1, 5), st.integers(1, 3))
def test_listed_slots_of_many_parts_are_looked_at_as_each_part_by_itself(
    seed: int, width: int, parts: int, queries: int
) -> None:
    """Each with its own version and filter; some have no versions at all."""
    random = np.random.default_rng(seed)
    stored, slots, masks = [], [], []
    for number in range(parts):
        n = int(random.integers(1, 200))
        codes = codes_of(random, n, width)
        if random.random() < 0.3:
            stored.append(Stored(codes))
        else:
            died = np.where(random.random(n) < 0.3, random.integers(0, 200, n), 2**62)
            stored.append(Stored(codes, 0, random.integers(0, 100, n), died, int(random.integers(30, 90))))
        slots.append((number << SHIFT) + np.flatnonzero(random.random(n) < 0.7))
        masks.append(None if random.random() < 0.5 else random.random(n) < 0.6)
    table, listed = table_of(stored), np.concatenate(slots)

    def lives(slot: int, masks: list[Mask | None]) -> bool:
        part, row = stored[slot >> SHIFT], slot & kernel.ROW
        mask = masks[slot >> SHIFT]
        here = part.born is None or part.died is None or part.born[row] <= part.watermark < part.died[row]
        return bool(here and (mask is None or mask[row]))

    asked = random.integers(0, 256, (queries, width), np.uint8)
    sweep = Sweep(asked, np.full(queries, 4), np.full(queries, width * 8))
    sweep.pick_of(table, listed[: len(listed) // 2])
    sweep.pick_of(table, listed[len(listed) // 2 :])
    free: list[Mask | None] = [None] * parts
    for number, query in enumerate(asked):
        found = merged([sweep], number, 4, width * 8)
        distances = {
            slot: int(np.bitwise_count(stored[slot >> SHIFT].codes[slot & kernel.ROW] ^ query).sum())
            for slot in listed.tolist()
            if lives(slot, free)
        }
        last = sorted(distances.values())[:4][-1] if len(distances) >= 4 else width * 8
        near = {slot: distance for slot, distance in distances.items() if distance <= last}
        assert dict(zip(found.slots.tolist(), found.distances.tolist(), strict=True)) == near
        assert found.total == len(near)
    expected = [slot for slot in listed.tolist() if lives(slot, masks)]
    assert standing(width, table, listed, masks).tolist() == expected
