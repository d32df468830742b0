"""The scan on a GPU, in PyTorch's kernel language (the Python package `triton`; no relation of the Triton server).

Both kernels answer the same question as kernel_ir.py does on the CPU, how many bits differ, and both read codes, births
and deaths of many segments in one launch, by a table of addresses (`table_of`):

- `by_popcount`, for few queries: xor and population count. It reads each code once from the device's memory; queries of
  a batch that look at the same codes run side by side, so that the cache serves all but the first.
- `by_dot`, for many: bits as 0 and 1 times signs, +1 where the query has 0 and -1 where it has 1. Summed up, and with
  the query's own ones, that is the distance; and it is an int8 product of matrices, which tensor cores do many times
  faster than there are population counts. Bits are unpacked in registers, so that codes stay packed in memory.

A row that does not belong to the version gets the distance `FAR`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from indexer.device import FAR, Place

FIELDS = 6
MANY = 16
"""Queries from which the product is used; tensor cores take no fewer at once."""
_FAR = tl.constexpr(FAR)
_FIELDS = tl.constexpr(FIELDS)
_ROWS, _WORDS = 32, 128
_TILE, _ASKED, _BYTES = 128, 64, 64


@triton.jit
def _ones(words, NATIVE: tl.constexpr):
    """Ones in 32-bit words; by the GPU's instruction, or in plain arithmetic where none is."""
    if NATIVE:
        found = tl.inline_asm_elementwise("popc.b32 $0, $1;", "=r,r", [words], dtype=tl.int32, is_pure=True, pack=1)
    else:
        left = words.to(tl.uint32, bitcast=True)
        left = left - ((left >> 1) & 0x55555555)
        left = (left & 0x33333333) + ((left >> 2) & 0x33333333)
        left = (left + (left >> 4)) & 0x0F0F0F0F
        left = left + (left >> 8)
        found = ((left + (left >> 16)) & 0x3F).to(tl.int32)
    return found


@triton.jit
def _belong(part, rows, here):
    """Which rows belong to the version: born <= watermark < died."""
    born = tl.load(tl.load(part + 1).to(tl.pointer_type(tl.int64)) + rows, mask=here, other=0)
    died = tl.load(tl.load(part + 2).to(tl.pointer_type(tl.int64)) + rows, mask=here, other=0)
    watermark = tl.load(part + 4)
    return here & (born <= watermark) & (watermark < died)


@triton.jit(do_not_specialize=["asked", "columns"])
def by_popcount(
    table,
    queries,
    out,
    asked,
    columns,
    BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """Distances of `asked` queries, int32 words [asked, BYTES / 4], from `ROWS` rows of one segment a program."""
    words_of_code: tl.constexpr = BYTES // 4
    query = tl.program_id(0) % asked
    part = table + tl.program_id(1) * _FIELDS
    rows = (tl.program_id(0) // asked).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here = rows < tl.load(part + 3)
    codes = tl.multiple_of(tl.load(part).to(tl.pointer_type(tl.int32)), 16)
    total = tl.zeros([ROWS], tl.int32)
    for at in range(0, words_of_code, CHUNK):
        words = at + tl.arange(0, CHUNK)
        inside = words < words_of_code
        code = tl.load(codes + rows[:, None] * words_of_code + words[None, :], here[:, None] & inside[None, :], 0)
        wanted = tl.load(queries + query * words_of_code + words, inside, 0)
        total += tl.sum(_ones(code ^ wanted[None, :], NATIVE), axis=1)
    total = tl.where(_belong(part, rows, here), total, _FAR)
    tl.store(out + query.to(tl.int64) * columns + tl.load(part + 5) + rows, total, here)


@triton.jit(do_not_specialize=["asked", "columns"])
def by_dot(
    table,
    signs,
    ones,
    out,
    asked,
    columns,
    BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    ASKED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Distances of `ASKED` of the queries from `ROWS` rows of one segment a program.

    `signs` is int8 [8, asked, BYTES], one plane for each bit of a byte; `ones` int32 [asked].
    """
    groups = tl.cdiv(asked, ASKED)
    queries = (tl.program_id(0) % groups) * ASKED + tl.arange(0, ASKED)
    part = table + tl.program_id(1) * _FIELDS
    rows = (tl.program_id(0) // groups).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here, known = rows < tl.load(part + 3), queries < asked
    codes = tl.multiple_of(tl.load(part).to(tl.pointer_type(tl.uint8)), 16)
    total = tl.zeros([ROWS, ASKED], tl.int32)
    for at in range(0, BYTES, CHUNK):
        places = at + tl.arange(0, CHUNK)
        inside = places < BYTES
        code = tl.load(codes + rows[:, None] * BYTES + places[None, :], here[:, None] & inside[None, :], 0)
        for bit in tl.static_range(8):
            sign = tl.load(
                signs + (bit * asked + queries)[None, :] * BYTES + places[:, None], known[None, :] & inside[:, None], 0
            )
            total = tl.dot(((code >> bit) & 1).to(tl.int8), sign, total, out_dtype=tl.int32)
    total += tl.load(ones + queries, known, 0)[None, :]
    total = tl.where(_belong(part, rows, here)[:, None], total, _FAR)
    at = queries.to(tl.int64)[None, :] * columns + tl.load(part + 5) + rows[:, None]
    tl.store(out + at, total, here[:, None] & known[None, :])


def kernel_distances(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor, *, native: bool = True) -> None:
    """`Distances` by these kernels.

    Args:
        places: at least one.
        queries: uint8 [nq, code bytes], a multiple of 4 bytes, contiguous.
        out: int32 [nq, columns], contiguous.
        native: whether the device has the instruction for population counts; not so in Triton's interpreter.
    """
    asked, code_bytes = queries.shape
    if code_bytes % 4:
        raise ValueError(f"codes of {code_bytes} bytes; the kernels read 4 at a time")
    table, columns = table_of(places, out.device), out.shape[1]
    longest = max(place.part.length for place in places)
    if asked < MANY:
        words = min(_WORDS, triton.next_power_of_2(code_bytes // 4))
        few = (asked * triton.cdiv(longest, _ROWS), len(places))
        by_popcount[few](table, queries.view(torch.int32), out, asked, columns, code_bytes, _ROWS, words, native)
        return
    signs, ones = signs_of(queries)
    many = (triton.cdiv(asked, _ASKED) * triton.cdiv(longest, _TILE), len(places))
    by_dot[many](table, signs, ones, out, asked, columns, code_bytes, _TILE, _ASKED, _BYTES, num_warps=8, num_stages=2)


def table_of(places: Sequence[Place], device: torch.device) -> torch.Tensor:
    """int64 [parts, FIELDS]: addresses of codes, births and deaths, rows, watermark, and the part's first column."""
    rows = [
        [
            place.held.codes.data_ptr(),
            place.held.born.data_ptr(),
            place.held.died.data_ptr(),
            place.part.length,
            place.part.stored.watermark,
            place.column,
        ]
        for place in places
    ]
    return torch.tensor(rows, dtype=torch.int64, device=device)


def signs_of(queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(signs int8 [8, nq, code bytes], a plane for each bit of a byte, lowest first; ones of each query int32 [nq])."""
    shifts = torch.arange(8, device=queries.device, dtype=torch.uint8)[:, None, None]
    bits = ((queries[None] >> shifts) & 1).to(torch.int8)
    return 1 - 2 * bits, bits.sum(dim=(0, 2), dtype=torch.int32)
