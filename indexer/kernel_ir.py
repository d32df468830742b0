"""The scan kernel as LLVM IR: distances of stored codes from queries, and the nearest of them kept, for one code width.

What the machine runs per code and query is xor, population count and add on the widest vectors that it has. Sums are
kept per lane and added across lanes for a whole group of codes together. Memory is read strictly in its order, code by
code, as the processor's own fetching ahead needs it to keep up with a lone query; of queries two by two the vectors
stay in registers. Codes that are not within a query's bound cost one comparison per group; only the others are looked
at one by one, which is where versions, deletes and filters are checked (`_accept`). No heap is kept: distances are
small integers, so that a count per distance tells the k-th smallest, and lowers the bound, in constant time. All that
lies at the bound is kept, so that ties are complete.

Of the functions that come of it `scan_1` and `scan_2` read codes in their order for one query or for queries two by
two, `stretches_1` and `stretches_2` do so in many stretches, and `pick_1` and `pick_2` read the codes whose rows are
listed, in any number of parts. `sift` tells which listed rows belong to the version and pass. Each function takes one
pointer to the work, int64 fields in the order of `indexer.kernel.FIELDS`; kernel.py compiles them, scan.py fills in the
work.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from indexer.ir_builder import I8, I32, I64, POINTER, VOID, Builder, int32, int64
from indexer.kernel import FIELDS, SHIFT

BLOCK_BYTES = 16384
"""Codes that a tile of queries goes over before the next tile: they stay in the first-level cache."""
_HELD = 16
"""So many vectors of queries stay in registers, of the 32 that AVX-512 has; narrower vectors are too many to stay."""
_BURST = 20
"""Lines fetched ahead in one go, at most: longer bursts stall."""
_LINE = 64


def module_text(code_bytes: int, lanes: int) -> str:
    """The module's text.

    Args:
        code_bytes: width of a code, at least 1.
        lanes: 64-bit lanes of the machine's vectors, a power of two; also the codes per group.
    """
    module = ir.Module(name=f"hamming_{code_bytes}")
    shape = _Shape(module, code_bytes, lanes)
    accept = _accept(module, _compact(module), shape)
    for queries in (1, 2):
        scan = _walk(module, f"scan_{queries}", shape, accept, queries, picked=False)
        _stretches(module, f"stretches_{queries}", scan)
        _walk(module, f"pick_{queries}", shape, accept, queries, picked=True)
    _sift(module)
    return str(module)


class _Shape:
    """Widths, and the intrinsics for them."""

    def __init__(self, module: ir.Module, code_bytes: int, lanes: int) -> None:
        self.code_bytes = code_bytes
        self.lanes = lanes
        self.vector = ir.VectorType(I64, lanes)
        self.block = max(1, BLOCK_BYTES // code_bytes // lanes) * lanes
        self.popcount = ir.Function(module, ir.FunctionType(self.vector, [self.vector]), f"llvm.ctpop.v{lanes}i64")
        prefetch = ir.FunctionType(VOID, [POINTER, I32, I32, I32])
        self.prefetch = ir.Function(module, prefetch, "llvm.prefetch.p0")
        wide = ir.VectorType(I8, lanes * 8)
        mask = ir.VectorType(ir.IntType(1), lanes * 8)
        masked = ir.FunctionType(wide, [POINTER, I32, mask, wide])
        self.masked_load = ir.Function(module, masked, f"llvm.masked.load.v{lanes * 8}i8.p0")

    def load(self, b: Builder, code: ir.Value, at: int) -> ir.Value:
        """The vector of a code at byte `at`, zeros behind the code's end."""
        place = b.at(code, int64(at), I8)
        present = self.code_bytes - at
        if present >= self.lanes * 8:
            return b.load(place, typ=self.vector, align=1)
        mask = ir.Constant(self.masked_load.args[2].type, [int(n < present) for n in range(self.lanes * 8)])
        zeros = ir.Constant(self.masked_load.args[3].type, None)
        return b.bitcast(b.call(self.masked_load, [place, ir.Constant(I32, 1), mask, zeros]), self.vector)

    def fetch(self, b: Builder, base: ir.Value, offset: ir.Value) -> None:
        """Asks for the cache line at an address that need not exist."""
        b.call(self.prefetch, [b.at(base, offset, I8), int32(0), int32(3), int32(1)])


def _walk(
    module: ir.Module, name: str, shape: _Shape, accept: ir.Function, queries: int, *, picked: bool
) -> ir.Function:
    """One of the entries: blocks of codes, in each the tiles of queries, in each the groups of codes."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER]), name)
    (work,) = function.args
    b = Builder(function.append_basic_block())
    start, stop, nq = (b.field(work, name) for name in ("start", "stop", "nq"))
    all_queries = b.array(work, "queries")
    whole = b.add(b.sub(stop, start), int64(shape.lanes - 1))
    end = b.add(start, b.and_(whole, int64(-shape.lanes)))
    ahead = _Ahead(b, work, shape, queries, nq, picked=picked)
    with b.count(start, end, shape.block) as block:
        beyond = b.add(block, int64(shape.block))
        block_end = b.select(b.icmp_signed("<", beyond, end), beyond, end)
        ahead.begin(block_end)
        with b.count(int64(0), nq, queries) as query:
            tile = b.at(all_queries, b.mul(query, int64(shape.code_bytes)), I8)
            held = _held(b, shape, tile, queries=queries)
            with b.count(block, block_end, shape.lanes) as group:
                ahead.go(group)
                codes = _codes(b, work, shape, group, picked=picked)
                near = _distances(b, shape, codes=codes, tile=tile, queries=queries, held=held)
                for which, distances in enumerate(near):
                    _compare(b, work, accept, query=b.add(query, int64(which)), group=group, near=distances)
    b.ret_void()
    return function


def _stretches(module: ir.Module, name: str, scan: ir.Function) -> None:
    """The entry that scans one stretch after the other."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER]), name)
    (work,) = function.args
    b = Builder(function.append_basic_block())
    ends = b.array(work, "stretches")
    with b.count(int64(0), b.field(work, "stretched")) as n:
        for side, field in enumerate(("start", "stop")):
            b.put(work, int64(FIELDS.index(field)), b.get(ends, b.add(b.mul(n, int64(2)), int64(side))))
        b.call(scan, [work])
    b.ret_void()


def _sift(module: ir.Module) -> None:
    """The entry that leaves of listed rows those that belong to the version and pass."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "sift")
    (work,) = function.args
    b = Builder(function.append_basic_block())
    rows, left = b.array(work, "rows"), b.local(I64)
    b.store(int64(0), left)
    with b.count(int64(0), b.field(work, "stop")) as n:
        listed, to = b.get(rows, n), b.load(left, typ=I64)
        b.put(rows, to, listed)
        stands = _stands(b, work, b.lshr(listed, int64(SHIFT)), listed)
        b.store(b.add(to, b.zext(stands, I64)), left)
    b.put(work, int64(FIELDS.index("stop")), b.load(left, typ=I64))
    b.ret_void()


class _Ahead:
    """Fetches what is read next and the processor does not fetch by itself. For picked rows that is the next group; for
    many queries it is the next block, bit by bit, shared out over the steps that they take in the present one.
    """

    def __init__(self, b: Builder, work: ir.Value, shape: _Shape, queries: int, nq: ir.Value, *, picked: bool) -> None:
        self._b, self._work, self._shape, self._picked = b, work, shape, picked
        self._lone = queries == 1
        self._codes = b.array(work, "codes")
        self._next = b.local(I64)
        lines = -(-shape.block * shape.code_bytes // _LINE)
        steps = b.mul(b.sdiv(nq, int64(queries)), int64(shape.block // shape.lanes))
        share = b.add(b.sdiv(int64(lines), steps), int64(1))
        few = b.icmp_signed("<=", share, int64(_BURST))
        self._share = b.select(few, b.mul(share, int64(_LINE)), int64(0))

    def begin(self, block_end: ir.Value) -> None:
        """At the start of a block."""
        self._b.store(self._b.mul(block_end, int64(self._shape.code_bytes)), self._next)

    def go(self, group: ir.Value) -> None:
        """Before a group's distances."""
        b, shape = self._b, self._shape
        if self._picked:
            rows = b.array(self._work, "rows")
            for n in range(shape.lanes):
                part, row = b.place(self._work, b.get(rows, b.add(group, int64(shape.lanes + n))))
                codes, start = b.load(part, typ=POINTER), b.mul(row, int64(shape.code_bytes))
                for line in range(0, shape.code_bytes, _LINE):
                    shape.fetch(b, codes, b.add(start, int64(line)))
        elif not self._lone:
            first = b.load(self._next, typ=I64)
            last = b.add(first, self._share)
            with b.count(first, last, _LINE) as line:
                shape.fetch(b, self._codes, line)
            b.store(last, self._next)


def _codes(b: Builder, work: ir.Value, shape: _Shape, group: ir.Value, *, picked: bool) -> list[ir.Value]:
    """Pointers to a group's codes."""
    numbers = [b.add(group, int64(n)) for n in range(shape.lanes)]
    if picked:
        rows = b.array(work, "rows")
        places = [b.place(work, b.get(rows, number)) for number in numbers]
        starts = [(b.load(part, typ=POINTER), row) for part, row in places]
    else:
        starts = [(b.array(work, "codes"), number) for number in numbers]
    return [b.at(codes, b.mul(row, int64(shape.code_bytes)), I8) for codes, row in starts]


def _held(b: Builder, shape: _Shape, tile: ir.Value, *, queries: int) -> list[list[ir.Value]]:
    """Per query its vectors, read once for a block of codes; nothing where they are better read again for each code:
    a lone query's, for which a code's own loads then run ahead of the sums, and codes too wide for the registers.
    """
    starts = range(0, shape.code_bytes, shape.lanes * 8)
    if queries == 1 or shape.lanes < 8 or queries * len(starts) > _HELD:
        return []
    places = [b.at(tile, int64(which * shape.code_bytes), I8) for which in range(queries)]
    return [[shape.load(b, place, at) for at in starts] for place in places]


def _distances(
    b: Builder,
    shape: _Shape,
    *,
    codes: Sequence[ir.Value],
    tile: ir.Value,
    queries: int,
    held: Sequence[Sequence[ir.Value]],
) -> list[ir.Value]:
    """Per query a vector with the distances of the group's codes. Codes are read one by one, in the order of memory."""
    gathered = [_Across(b, shape.lanes) for _ in range(queries)]
    for code in codes:
        b.keep_order()
        sums = [ir.Constant(shape.vector, None)] * queries
        for load, at in enumerate(range(0, shape.code_bytes, shape.lanes * 8)):
            stored = shape.load(b, code, at)
            for which in range(queries):
                place = b.at(tile, int64(which * shape.code_bytes), I8)
                part = held[which][load] if held else shape.load(b, place, at)
                sums[which] = b.add(sums[which], b.call(shape.popcount, [b.xor(stored, part)]))
        for which in range(queries):
            gathered[which].take(sums[which])
    return [one.sums for one in gathered]


def _everywhere(b: Builder, kind: ir.VectorType, value: ir.Value) -> ir.Value:
    """A vector with a value in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = b.insert_element(undefined, value, int32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, kind.count), None))


class _Across:
    """Adds vectors across their lanes, as many vectors as a vector has lanes: vector n's sum stands in lane n.

    Halves of neighbours are added as soon as both are there, so that few vectors are waiting at any time.
    """

    def __init__(self, b: Builder, lanes: int) -> None:
        self._b, self._lanes = b, lanes
        self._waiting: list[tuple[int, ir.Value]] = []

    def take(self, vector: ir.Value) -> None:
        """The next one."""
        run = 1
        while self._waiting and self._waiting[-1][0] == run:
            vector = self._halves(self._waiting.pop()[1], vector, run)
            run *= 2
        self._waiting.append((run, vector))

    @property
    def sums(self) -> ir.Value:
        """When all have been taken."""
        ((_, sums),) = self._waiting
        return sums

    def _halves(self, one: ir.Value, other: ir.Value, run: int) -> ir.Value:
        """Of two vectors in which runs of lanes belong to so many codes: one of runs twice as long."""
        starts = range(0, self._lanes, 2 * run)
        low = [side + at + n for at in starts for side in (0, self._lanes) for n in range(run)]
        kind = ir.VectorType(I32, self._lanes)
        masks = [ir.Constant(kind, order) for order in (low, [lane + run for lane in low])]
        return self._b.add(*(self._b.shuffle_vector(one, other, mask) for mask in masks))


def _compare(
    b: Builder, work: ir.Value, accept: ir.Function, *, query: ir.Value, group: ir.Value, near: ir.Value
) -> None:
    """Hands a group to `accept` when one of its distances is within the query's bound."""
    bound = _everywhere(b, near.type, b.get(b.array(work, "bound"), query))
    flags = b.bitcast(b.icmp_signed("<=", near, bound), ir.IntType(near.type.count))
    with b.if_then(b.icmp_unsigned("!=", flags, ir.Constant(flags.type, 0)), likely=False):
        b.call(accept, [work, query, group, near, b.zext(flags, I64)])


def _accept(module: ir.Module, compact: ir.Function, shape: _Shape) -> ir.Function:
    """Looks at those of a group's codes that are flagged as within the bound, one by one: still within it? in the
    version? past the filter? Then it is kept.
    """
    kind = ir.FunctionType(VOID, [POINTER, I64, I64, shape.vector, I64])
    function = ir.Function(module, kind, "accept")
    function.attributes.add("noinline")
    work, query, group, near, flags = function.args
    b = Builder(function.append_basic_block())
    rows, stop = b.array(work, "rows"), b.field(work, "stop")
    listed = b.not_(b.is_null(rows))
    with b.each_bit(flags) as lane:
        distance, place = b.extract_element(near, lane), b.add(group, lane)
        near_enough = b.icmp_signed("<=", distance, b.get(b.array(work, "bound"), query))
        with b.if_then(b.and_(near_enough, b.icmp_signed("<", place, stop))):
            row = b.local(I64)
            b.store(place, row)
            with b.if_then(listed):
                b.store(b.get(rows, place), row)
            found = b.load(row, typ=I64)
            with b.if_then(_stands(b, work, query, found)):
                slot = b.add(found, b.field(work, "base"))
                _keep(b, work, shape, compact, query=query, slot=slot, far=distance)
    b.ret_void()
    return function


def _stands(b: Builder, work: ir.Value, which: ir.Value, listed: ir.Value) -> ir.Value:
    """Whether a row is of the version and passes the filter, one of `passes`."""
    answer = b.local(ir.IntType(1))
    b.store(ir.Constant(ir.IntType(1), 1), answer)
    part, row = b.place(work, listed)
    born, died = (b.get(part, int64(FIELDS.index(name)), POINTER) for name in ("born", "died"))
    passes = b.array(work, "passes")
    with b.if_then(b.not_(b.is_null(born))):
        watermark = b.get(part, int64(FIELDS.index("watermark")))
        here = b.icmp_signed("<=", b.get(born, row), watermark)
        lives = b.icmp_signed(">", b.get(died, row), watermark)
        b.store(b.and_(here, lives), answer)
    with b.if_then(b.not_(b.is_null(passes))):
        mask = b.get(passes, which, POINTER)
        with b.if_then(b.not_(b.is_null(mask))):
            past = b.icmp_unsigned("!=", b.get(mask, row, I8), ir.Constant(I8, 0))
            b.store(b.and_(b.load(answer, typ=past.type), past), answer)
    return b.load(answer, typ=ir.IntType(1))


def _keep(
    b: Builder, work: ir.Value, shape: _Shape, compact: ir.Function, *, query: ir.Value, slot: ir.Value, far: ir.Value
) -> None:
    """Counts a found slot, lowers the bound while k are found below it, and notes the slot where there is room."""
    bounds, withins, kepts = (b.array(work, name) for name in ("bound", "within", "kept"))
    counts = b.at(b.array(work, "counts"), b.mul(query, int64(shape.code_bytes * 8 + 1)), I32)
    b.put(counts, far, b.add(b.get(counts, far, I32), int32(1)))
    b.put(withins, query, b.add(b.get(withins, query), int64(1)))
    k = b.get(b.array(work, "k"), query)
    head, lower, done = (b.append_basic_block(name) for name in ("look", "lower", "bounded"))
    b.branch(head)
    b.position_at_end(head)
    bound = b.get(bounds, query)
    below = b.sub(b.get(withins, query), b.zext(b.get(counts, bound, I32), I64))
    b.cbranch(b.icmp_signed(">=", below, k), lower, done)
    b.position_at_end(lower)
    b.put(withins, query, below)
    b.put(bounds, query, b.sub(bound, int64(1)))
    b.branch(head)
    b.position_at_end(done)
    room = b.field(work, "room")
    with b.if_then(b.icmp_signed("==", b.get(kepts, query), room), likely=False):
        b.call(compact, [work, query])
    kept = b.get(kepts, query)
    with b.if_then(b.icmp_signed("<", kept, room)):
        at = b.add(b.mul(query, room), kept)
        b.put(b.array(work, "slots"), at, slot)
        b.put(b.array(work, "distances"), at, b.trunc(far, I32))
        b.put(kepts, query, b.add(kept, int64(1)))


def _compact(module: ir.Module) -> ir.Function:
    """Drops what is no longer within a query's bound; gives up, as `kept` says, when less than a quarter goes."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64]), "compact")
    function.attributes.add("noinline")
    work, query = function.args
    b = Builder(function.append_basic_block())
    room, bound = b.field(work, "room"), b.get(b.array(work, "bound"), query)
    first = b.mul(query, room)
    slots = b.at(b.array(work, "slots"), first, I64)
    distances = b.at(b.array(work, "distances"), first, I32)
    left = b.local(I64)
    b.store(int64(0), left)
    with b.count(int64(0), room) as i:
        distance = b.get(distances, i, I32)
        with b.if_then(b.icmp_signed("<=", b.sext(distance, I64), bound)):
            to = b.load(left, typ=I64)
            b.put(slots, to, b.get(slots, i))
            b.put(distances, to, distance)
            b.store(b.add(to, int64(1)), left)
    kept = b.load(left, typ=I64)
    full = b.icmp_signed(">", b.mul(kept, int64(4)), b.mul(room, int64(3)))
    b.put(b.array(work, "kept"), query, b.select(full, b.add(room, int64(1)), kept))
    b.ret_void()
    return function
