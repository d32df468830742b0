"""Compiles the scan kernel for this machine's processor, once per code width, in some tens of milliseconds.

LLVM comes inside the llvmlite package, so that no compiler is needed where dotstream runs and every processor gets its
own widest vectors: AVX-512 with its population count, AVX2, NEON. ctypes lets go of the GIL while a kernel runs.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FIELDS = (
    "codes",  # uint8 [rows, code bytes]
    "born",  # int64 [rows]; null: every row counts
    "died",  # int64 [rows]
    "watermark",  # rows count when born <= watermark < died
    "passes",  # per query a pointer to uint8 [rows], 0: left out; null: all pass
    "rows",  # pick: int64 [n and as far as the padding goes], ascending; null in a scan
    "start",  # scan: the first row. pick: 0
    "stop",  # scan: behind the last row, a whole number of groups behind `start`. pick: how many of `rows` count
    "base",  # slot of row 0
    "queries",  # uint8 [nq, code bytes]
    "nq",  # a multiple of the queries per step
    "k",  # int64 [nq]
    "bound",  # int64 [nq], in and out: the largest distance that is still wanted; -1: none
    "within",  # int64 [nq], in and out: how many were found within the bound
    "kept",  # int64 [nq], in and out: how many are in `slots`; above `room`: they did not fit, `within` still holds
    "counts",  # uint32 [nq, bits + 1], in and out: how many were found at each distance
    "room",  # entries per query in the two that follow
    "slots",  # int64 [nq, room]
    "distances",  # int32 [nq, room]
)
"""What a work holds: addresses and numbers, int64 each, in this order."""
_LOCK = threading.Lock()
Entry = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Compiled functions for one width of codes. Each takes the address of a work (`FIELDS`).

    Attributes:
        code_bytes: the width.
        lanes: codes per group.
        scan: for 1 and for 2 queries per step, over codes in their order.
        pick: the same over listed rows.
        engine: keeps the machine code alive.
    """

    code_bytes: int
    lanes: int
    scan: tuple[Entry, ...]
    pick: tuple[Entry, ...]
    engine: Any


_COMPILED: dict[int, Kernel] = {}


def kernel(code_bytes: int) -> Kernel:
    """The kernel for a width, compiled at the first call; nobody who asks for one that is there waits for that."""
    found = _COMPILED.get(code_bytes)
    if found is None:
        with _LOCK:
            found = _COMPILED.get(code_bytes)
            if found is None:
                found = _COMPILED[code_bytes] = _host_kernel(code_bytes)
    return found


def _host_kernel(code_bytes: int) -> Kernel:
    from llvmlite import binding  # noqa: PLC0415 - processes that never search do not load LLVM

    features = dict(binding.get_host_cpu_features())
    lanes = 8 if features.get("avx512f") else 4 if features.get("avx2") else 2
    # Processors of the first AVX-512 years are compiled for half its width unless told otherwise.
    chosen = ",".join(f"{'+' if on else '-'}{name}" for name, on in features.items()) + ",-prefer-256-bit"
    return compiled(code_bytes, lanes, binding.get_host_cpu_name(), chosen if features else "")


def compiled(code_bytes: int, lanes: int, cpu: str, features: str) -> Kernel:
    """Compiles for a given processor; tests compile for less than the one at hand.

    Args:
        code_bytes: width of a code.
        lanes: 64-bit lanes per vector; wider than the processor's is slower, not wrong.
        cpu: LLVM's name for it.
        features: LLVM's feature string.
    """
    from llvmlite import binding  # noqa: PLC0415

    from indexer.kernel_ir import module_text  # noqa: PLC0415

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(module_text(code_bytes, lanes))
    module.verify()
    target = binding.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3)
    passes = binding.create_pass_builder(target, binding.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, target)
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def entries(way: str) -> tuple[Entry, ...]:
        return tuple(signature(engine.get_function_address(f"{way}_{queries}")) for queries in (1, 2))

    return Kernel(code_bytes, lanes, entries("scan"), entries("pick"), engine)
