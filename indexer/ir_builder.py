"""llvmlite's builder with what kernel_ir.py writes its loops with: counting, arrays, the fields of a work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from indexer.kernel import FIELDS, PART, ROW, SHIFT

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
VOID = ir.VoidType()


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """llvmlite's builder with loops, array places and the fields of the work."""

    @contextmanager
    def count(self, start: ir.Value, stop: ir.Value, step: int | ir.Value = 1) -> Iterator[ir.Value]:
        """For i in range(start, stop, step), signed."""
        before = self.block
        head, body, after = (self.append_basic_block(name) for name in ("head", "body", "after"))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(I64)
        i.add_incoming(start, before)
        self.cbranch(self.icmp_signed("<", i, stop), body, after)
        self.position_at_end(body)
        yield i
        i.add_incoming(self.add(i, int64(step) if isinstance(step, int) else step), self.block)
        self.branch(head)
        self.position_at_end(after)

    @contextmanager
    def each_bit(self, bits: ir.Value) -> Iterator[ir.Value]:
        """For each bit that is set, its number, from the least on; `bits` is not 0."""
        before, body, after = self.block, self.append_basic_block("bit"), self.append_basic_block("after")
        self.branch(body)
        self.position_at_end(body)
        left = self.phi(I64)
        left.add_incoming(bits, before)
        yield self.cttz(left, ir.Constant(ir.IntType(1), 1))
        fewer = self.and_(left, self.sub(left, int64(1)))
        left.add_incoming(fewer, self.block)
        self.cbranch(self.icmp_unsigned("!=", fewer, int64(0)), body, after)
        self.position_at_end(after)

    def local(self, kind: ir.Type) -> ir.Value:
        """A variable, made at the function's start, where LLVM turns it into a register."""
        with self.goto_entry_block():
            return self.alloca(kind)

    def at(self, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        """The place of pointer[index]."""
        return self.gep(pointer, [index], source_etype=kind)

    def get(self, pointer: ir.Value, index: ir.Value, kind: ir.Type = I64) -> ir.Value:
        """pointer[index]."""
        return self.load(self.at(pointer, index, kind), typ=kind)

    def put(self, pointer: ir.Value, index: ir.Value, value: ir.Value) -> None:
        """pointer[index] = value."""
        self.store(value, self.at(pointer, index, value.type))

    def field(self, work: ir.Value, name: str) -> ir.Value:
        """A number of the work."""
        return self.get(work, int64(FIELDS.index(name)))

    def array(self, work: ir.Value, name: str) -> ir.Value:
        """An array of the work."""
        return self.get(work, int64(FIELDS.index(name)), POINTER)

    def place(self, work: ir.Value, listed: ir.Value) -> tuple[ir.Value, ir.Value]:
        """(the part that a listed row is in, the row)."""
        number = self.lshr(listed, int64(SHIFT))
        part = self.at(self.array(work, "parts"), self.mul(number, int64(PART)), I64)
        return part, self.and_(listed, int64(ROW))

    def keep_order(self) -> None:
        """Nothing is read before this place that stands behind it: the compiler otherwise mixes loads at will."""
        self.asm(ir.FunctionType(VOID, []), "", "~{memory}", [], side_effect=True)

    def is_null(self, pointer: ir.Value) -> ir.Value:
        """Whether a pointer is null."""
        return self.icmp_unsigned("==", pointer, ir.Constant(POINTER, None))


def int64(value: int) -> ir.Constant:
    """A constant."""
    return ir.Constant(I64, value)


def int32(value: int) -> ir.Constant:
    """A constant."""
    return ir.Constant(I32, value)
