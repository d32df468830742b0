"""The scan kernel as LLVM IR: distances of stored codes from queries, and the nearest of them kept, for one code width.

What the machine runs per code and query is xor, population count and add on the widest vectors that it has. Sums are
kept per lane until a group of codes is done and are then added across lanes for the whole group at once. Codes that
are not within a query's bound cost one comparison per group; only the others are looked at one by one, which is where
versions, deletes and filters are checked (`_accept`). No heap is kept: distances are small integers, so that a count
per distance tells the k-th smallest, and lowers the bound, in constant time. All that lies at the bound is kept, so
that ties are complete.

Four functions come of it: `scan_1` and `scan_2` read codes in their order for one query or for queries two by two,
`pick_1` and `pick_2` read the codes whose rows are listed. For sliced codes there is a module of its own. Each function
takes one pointer to the work, int64 fields in the order of `indexer.kernel.FIELDS`; kernel.py compiles them, scan.py
fills in the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from llvmlite import ir

from indexer.kernel import FIELDS

BLOCK_BYTES = 16384
"""Codes that a tile of queries goes over before the next tile: they stay in the first-level cache."""
AHEAD_BYTES = 4096
"""How far ahead of a lone query the codes are fetched."""
_LINE = 64

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POINTER = ir.PointerType()
_VOID = ir.VoidType()
Layout = Literal["rows", "picked", "sliced"]


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
        _walk(module, f"scan_{queries}", shape, accept, queries, layout="rows")
        _walk(module, f"pick_{queries}", shape, accept, queries, layout="picked")
    return str(module)


def sliced_text(code_bytes: int, lanes: int) -> str:
    """The module for short codes that lie sliced: for each group the first word of each code, then the second, ...

    Nothing is added across lanes then, which for codes of a few words is most of the work. Only `scan_1` and `scan_2`;
    the codes end in a whole group.

    Args:
        code_bytes: width of a code, a multiple of 8.
        lanes: as above.
    """
    module = ir.Module(name=f"hamming_sliced_{code_bytes}")
    shape = _Shape(module, code_bytes, lanes)
    accept = _accept(module, _compact(module), shape)
    for queries in (1, 2):
        _walk(module, f"scan_{queries}", shape, accept, queries, layout="sliced")
    return str(module)


class _Shape:
    """Widths, and the intrinsics for them."""

    def __init__(self, module: ir.Module, code_bytes: int, lanes: int) -> None:
        self.code_bytes = code_bytes
        self.lanes = lanes
        self.vector = ir.VectorType(_I64, lanes)
        self.block = max(1, BLOCK_BYTES // code_bytes // lanes) * lanes
        self.popcount = ir.Function(module, ir.FunctionType(self.vector, [self.vector]), f"llvm.ctpop.v{lanes}i64")
        prefetch = ir.FunctionType(_VOID, [_POINTER, _I32, _I32, _I32])
        self.prefetch = ir.Function(module, prefetch, "llvm.prefetch.p0")
        wide = ir.VectorType(_I8, lanes * 8)
        mask = ir.VectorType(ir.IntType(1), lanes * 8)
        masked = ir.FunctionType(wide, [_POINTER, _I32, mask, wide])
        self.masked_load = ir.Function(module, masked, f"llvm.masked.load.v{lanes * 8}i8.p0")

    def load(self, b: _Builder, code: ir.Value, at: int) -> ir.Value:
        """The vector of a code at byte `at`, zeros behind the code's end."""
        place = b.at(code, _int(at), _I8)
        present = self.code_bytes - at
        if present >= self.lanes * 8:
            return b.load(place, typ=self.vector, align=1)
        mask = ir.Constant(self.masked_load.args[2].type, [int(n < present) for n in range(self.lanes * 8)])
        zeros = ir.Constant(self.masked_load.args[3].type, None)
        return b.bitcast(b.call(self.masked_load, [place, ir.Constant(_I32, 1), mask, zeros]), self.vector)

    def fetch(self, b: _Builder, base: ir.Value, offset: ir.Value) -> None:
        """Asks for the cache line at an address that need not exist."""
        b.call(self.prefetch, [b.at(base, offset, _I8), _int32(0), _int32(3), _int32(1)])


class _Builder(ir.IRBuilder):  # type: ignore[misc]
    """llvmlite's builder with loops, array places and the fields of the work."""

    @contextmanager
    def count(self, start: ir.Value, stop: ir.Value, step: int | ir.Value = 1) -> Iterator[ir.Value]:
        """For i in range(start, stop, step), signed."""
        before = self.block
        head, body, after = (self.append_basic_block(name) for name in ("head", "body", "after"))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(_I64)
        i.add_incoming(start, before)
        self.cbranch(self.icmp_signed("<", i, stop), body, after)
        self.position_at_end(body)
        yield i
        i.add_incoming(self.add(i, _int(step) if isinstance(step, int) else step), self.block)
        self.branch(head)
        self.position_at_end(after)

    def local(self, kind: ir.Type) -> ir.Value:
        """A variable, made at the function's start, where LLVM turns it into a register."""
        with self.goto_entry_block():
            return self.alloca(kind)

    def at(self, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        """The place of pointer[index]."""
        return self.gep(pointer, [index], source_etype=kind)

    def get(self, pointer: ir.Value, index: ir.Value, kind: ir.Type = _I64) -> ir.Value:
        """pointer[index]."""
        return self.load(self.at(pointer, index, kind), typ=kind)

    def put(self, pointer: ir.Value, index: ir.Value, value: ir.Value) -> None:
        """pointer[index] = value."""
        self.store(value, self.at(pointer, index, value.type))

    def field(self, work: ir.Value, name: str) -> ir.Value:
        """A number of the work."""
        return self.get(work, _int(FIELDS.index(name)))

    def array(self, work: ir.Value, name: str) -> ir.Value:
        """An array of the work."""
        return self.get(work, _int(FIELDS.index(name)), _POINTER)

    def is_null(self, pointer: ir.Value) -> ir.Value:
        """Whether a pointer is null."""
        return self.icmp_unsigned("==", pointer, ir.Constant(_POINTER, None))


def _int(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _int32(value: int) -> ir.Constant:
    return ir.Constant(_I32, value)


def _walk(module: ir.Module, name: str, shape: _Shape, accept: ir.Function, queries: int, *, layout: Layout) -> None:
    """One of the entries: blocks of codes, in each the tiles of queries, in each the groups of codes."""
    function = ir.Function(module, ir.FunctionType(_VOID, [_POINTER]), name)
    (work,) = function.args
    b = _Builder(function.append_basic_block())
    start, stop, nq = (b.field(work, name) for name in ("start", "stop", "nq"))
    all_queries = b.array(work, "queries")
    whole = b.add(b.sub(stop, start), _int(shape.lanes - 1))
    end = b.add(start, b.and_(whole, _int(-shape.lanes)))
    ahead = _Ahead(b, work, shape, queries, nq, picked=layout == "picked")
    with b.count(start, end, shape.block) as block:
        beyond = b.add(block, _int(shape.block))
        block_end = b.select(b.icmp_signed("<", beyond, end), beyond, end)
        ahead.begin(block_end)
        with b.count(_int(0), nq, queries) as query:
            tile = b.at(all_queries, b.mul(query, _int(shape.code_bytes)), _I8)
            with b.count(block, block_end, shape.lanes) as group:
                if layout == "sliced":
                    near = _sliced_distances(b, work, shape, group, tile, queries=queries)
                else:
                    codes = _codes(b, work, shape, group, picked=layout == "picked")
                    near = _distances(b, shape, ahead, codes=codes, tile=tile, queries=queries)
                for which, distances in enumerate(near):
                    _compare(b, work, accept, query=b.add(query, _int(which)), group=group, near=distances)
    b.ret_void()


class _Ahead:
    """Fetches what is read next. For a lone query and for picked rows that is what lies at a fixed distance; else it is
    the next block, bit by bit, shared out over the steps that the tiles of queries take in the present one.
    """

    def __init__(self, b: _Builder, work: ir.Value, shape: _Shape, queries: int, nq: ir.Value, *, picked: bool) -> None:
        self._b, self._work, self._shape, self._picked = b, work, shape, picked
        self._lone = queries == 1
        self._codes = b.array(work, "codes")
        self._next = b.local(_I64)
        lines = -(-shape.block * shape.code_bytes // _LINE)
        steps = b.mul(b.sdiv(nq, _int(queries)), _int(shape.block // shape.lanes))
        self._share = b.mul(b.add(b.sdiv(_int(lines), steps), _int(1)), _int(_LINE))

    def begin(self, block_end: ir.Value) -> None:
        """At the start of a block."""
        self._b.store(self._b.mul(block_end, _int(self._shape.code_bytes)), self._next)

    def go(self, group: ir.Value) -> None:
        """Before a group's distances."""
        b, shape = self._b, self._shape
        if self._picked:
            rows = b.array(self._work, "rows")
            for n in range(shape.lanes):
                row = b.get(rows, b.add(group, _int(shape.lanes + n)))
                start = b.mul(row, _int(shape.code_bytes))
                for line in range(0, shape.code_bytes, _LINE):
                    shape.fetch(b, self._codes, b.add(start, _int(line)))
        elif not self._lone:
            first = b.load(self._next, typ=_I64)
            last = b.add(first, self._share)
            with b.count(first, last, _LINE) as line:
                shape.fetch(b, self._codes, line)
            b.store(last, self._next)

    def line(self, code: ir.Value, number: int) -> None:
        """With the load of such a number in a lone query's group: one line for one line, as bursts of them stall.

        Args:
            code: the group's first.
            number: of the load.
        """
        line = number * _LINE
        if self._lone and not self._picked and line < self._shape.lanes * self._shape.code_bytes:
            self._shape.fetch(self._b, code, _int(AHEAD_BYTES + line))


def _codes(b: _Builder, work: ir.Value, shape: _Shape, group: ir.Value, *, picked: bool) -> list[ir.Value]:
    """Pointers to a group's codes."""
    codes = b.array(work, "codes")
    numbers = [b.add(group, _int(n)) for n in range(shape.lanes)]
    if picked:
        rows = b.array(work, "rows")
        numbers = [b.get(rows, number) for number in numbers]
    return [b.at(codes, b.mul(number, _int(shape.code_bytes)), _I8) for number in numbers]


def _distances(
    b: _Builder, shape: _Shape, ahead: _Ahead, *, codes: Sequence[ir.Value], tile: ir.Value, queries: int
) -> list[ir.Value]:
    """Per query a vector with the distances of the group's codes. Codes are read one by one, in the order of memory."""
    sums = [[ir.Constant(shape.vector, None)] * len(codes) for _ in range(queries)]
    starts = range(0, shape.code_bytes, shape.lanes * 8)
    for load, (n, at) in enumerate((n, at) for n in range(len(codes)) for at in starts):
        ahead.line(codes[0], load)
        stored = shape.load(b, codes[n], at)
        for which in range(queries):
            part = shape.load(b, b.at(tile, _int(which * shape.code_bytes), _I8), at)
            counted = b.call(shape.popcount, [b.xor(stored, part)])
            sums[which][n] = b.add(sums[which][n], counted)
    return [_across(b, vectors) for vectors in sums]


def _sliced_distances(
    b: _Builder, work: ir.Value, shape: _Shape, group: ir.Value, tile: ir.Value, *, queries: int
) -> list[ir.Value]:
    """As `_distances`, of a group that lies sliced."""
    stride = shape.lanes * 8
    start = b.at(b.array(work, "codes"), b.mul(group, _int(shape.code_bytes)), _I8)
    sums = [ir.Constant(shape.vector, None)] * queries
    for word in range(shape.code_bytes // 8):
        stored = b.load(b.at(start, _int(word * stride), _I8), typ=shape.vector, align=8)
        for which in range(queries):
            part = b.load(b.at(tile, _int(which * shape.code_bytes + word * 8), _I8), typ=_I64)
            counted = b.call(shape.popcount, [b.xor(stored, _everywhere(b, shape.vector, part))])
            sums[which] = b.add(sums[which], counted)
    return sums


def _everywhere(b: _Builder, kind: ir.VectorType, value: ir.Value) -> ir.Value:
    """A vector with a value in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = b.insert_element(undefined, value, _int32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, kind.count), None))


def _across(b: _Builder, vectors: Sequence[ir.Value]) -> ir.Value:
    """Of as many vectors as a vector has lanes, the sum over each one's lanes; vector n's stands in lane n.

    Each round adds halves of neighbouring vectors and leaves half as many.
    """
    lanes, run = len(vectors), 1
    while len(vectors) > 1:
        starts = range(0, lanes, 2 * run)
        low = [side + at + n for at in starts for side in (0, lanes) for n in range(run)]
        high = [lane + run for lane in low]
        kind = ir.VectorType(_I32, lanes)
        masks = [ir.Constant(kind, order) for order in (low, high)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.add(*(b.shuffle_vector(one, other, mask) for mask in masks)) for one, other in pairs]
        run *= 2
    return vectors[0]


def _compare(
    b: _Builder, work: ir.Value, accept: ir.Function, *, query: ir.Value, group: ir.Value, near: ir.Value
) -> None:
    """Hands a group to `accept` when one of its distances is within the query's bound."""
    bound = _everywhere(b, near.type, b.get(b.array(work, "bound"), query))
    flags = b.bitcast(b.icmp_signed("<=", near, bound), ir.IntType(near.type.count))
    with b.if_then(b.icmp_unsigned("!=", flags, ir.Constant(flags.type, 0)), likely=False):
        b.call(accept, [work, query, group, near])


def _accept(module: ir.Module, compact: ir.Function, shape: _Shape) -> ir.Function:
    """Looks at a group's codes one by one: within the bound? in the version? past the filter? Then it is kept."""
    kind = ir.FunctionType(_VOID, [_POINTER, _I64, _I64, shape.vector])
    function = ir.Function(module, kind, "accept")
    function.attributes.add("noinline")
    work, query, group, near = function.args
    b = _Builder(function.append_basic_block())
    rows, stop = b.array(work, "rows"), b.field(work, "stop")
    listed = b.not_(b.is_null(rows))
    with b.count(_int(0), _int(shape.lanes)) as lane:
        distance, place = b.extract_element(near, lane), b.add(group, lane)
        near_enough = b.icmp_signed("<=", distance, b.get(b.array(work, "bound"), query))
        with b.if_then(b.and_(near_enough, b.icmp_signed("<", place, stop))):
            row = b.local(_I64)
            b.store(place, row)
            with b.if_then(listed):
                b.store(b.get(rows, place), row)
            found = b.load(row, typ=_I64)
            with b.if_then(_stands(b, work, query, found)):
                slot = b.add(found, b.field(work, "base"))
                _keep(b, work, shape, compact, query=query, slot=slot, far=distance)
    b.ret_void()
    return function


def _stands(b: _Builder, work: ir.Value, query: ir.Value, row: ir.Value) -> ir.Value:
    """Whether a row is of the version and passes the query's filter."""
    answer = b.local(ir.IntType(1))
    b.store(ir.Constant(ir.IntType(1), 1), answer)
    born, passes = b.array(work, "born"), b.array(work, "passes")
    with b.if_then(b.not_(b.is_null(born))):
        watermark = b.field(work, "watermark")
        here = b.icmp_signed("<=", b.get(born, row), watermark)
        lives = b.icmp_signed(">", b.get(b.array(work, "died"), row), watermark)
        b.store(b.and_(here, lives), answer)
    with b.if_then(b.not_(b.is_null(passes))):
        mask = b.get(passes, query, _POINTER)
        with b.if_then(b.not_(b.is_null(mask))):
            past = b.icmp_unsigned("!=", b.get(mask, row, _I8), ir.Constant(_I8, 0))
            b.store(b.and_(b.load(answer, typ=past.type), past), answer)
    return b.load(answer, typ=ir.IntType(1))


def _keep(
    b: _Builder, work: ir.Value, shape: _Shape, compact: ir.Function, *, query: ir.Value, slot: ir.Value, far: ir.Value
) -> None:
    """Counts a found slot, lowers the bound while k are found below it, and notes the slot where there is room."""
    bounds, withins, kepts = (b.array(work, name) for name in ("bound", "within", "kept"))
    counts = b.at(b.array(work, "counts"), b.mul(query, _int(shape.code_bytes * 8 + 1)), _I32)
    b.put(counts, far, b.add(b.get(counts, far, _I32), _int32(1)))
    b.put(withins, query, b.add(b.get(withins, query), _int(1)))
    k = b.get(b.array(work, "k"), query)
    head, lower, done = (b.append_basic_block(name) for name in ("look", "lower", "bounded"))
    b.branch(head)
    b.position_at_end(head)
    bound = b.get(bounds, query)
    below = b.sub(b.get(withins, query), b.zext(b.get(counts, bound, _I32), _I64))
    b.cbranch(b.icmp_signed(">=", below, k), lower, done)
    b.position_at_end(lower)
    b.put(withins, query, below)
    b.put(bounds, query, b.sub(bound, _int(1)))
    b.branch(head)
    b.position_at_end(done)
    room = b.field(work, "room")
    with b.if_then(b.icmp_signed("==", b.get(kepts, query), room), likely=False):
        b.call(compact, [work, query])
    kept = b.get(kepts, query)
    with b.if_then(b.icmp_signed("<", kept, room)):
        at = b.add(b.mul(query, room), kept)
        b.put(b.array(work, "slots"), at, slot)
        b.put(b.array(work, "distances"), at, b.trunc(far, _I32))
        b.put(kepts, query, b.add(kept, _int(1)))


def _compact(module: ir.Module) -> ir.Function:
    """Drops what is no longer within a query's bound; gives up, as `kept` says, when less than a quarter goes."""
    function = ir.Function(module, ir.FunctionType(_VOID, [_POINTER, _I64]), "compact")
    function.attributes.add("noinline")
    work, query = function.args
    b = _Builder(function.append_basic_block())
    room, bound = b.field(work, "room"), b.get(b.array(work, "bound"), query)
    first = b.mul(query, room)
    slots = b.at(b.array(work, "slots"), first, _I64)
    distances = b.at(b.array(work, "distances"), first, _I32)
    left = b.local(_I64)
    b.store(_int(0), left)
    with b.count(_int(0), room) as i:
        distance = b.get(distances, i, _I32)
        with b.if_then(b.icmp_signed("<=", b.sext(distance, _I64), bound)):
            to = b.load(left, typ=_I64)
            b.put(slots, to, b.get(slots, i))
            b.put(distances, to, distance)
            b.store(b.add(to, _int(1)), left)
    kept = b.load(left, typ=_I64)
    full = b.icmp_signed(">", b.mul(kept, _int(4)), b.mul(room, _int(3)))
    b.put(b.array(work, "kept"), query, b.select(full, b.add(room, _int(1)), kept))
    b.ret_void()
    return function
