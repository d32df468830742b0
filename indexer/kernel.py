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

SHIFT = 32
"""Where rows are listed, the number of the part that a row is in stands above so many bits of it."""
ROW = (1 << SHIFT) - 1
"""The bits of the row."""
FIELDS = (
    "codes",  # uint8 [rows, code bytes]
    "born",  # int64 [rows]; null: every row counts
    "died",  # int64 [rows]
    "watermark",  # rows count when born <= watermark < died
    "parts",  # for each part that rows are listed of, the four above; of a lone part, the work itself
    "passes",  # per query (sift: per part) a pointer to uint8 [rows], 0: left out; null: all pass
    "rows",  # pick: int64 [n and as far as the padding goes], the part above `SHIFT`, ascending for speed; null in a
    # scan. sift: int64 [n], in and out
    "base",  # added to a row or what is listed, that is its slot
    "start",  # scan: the first row. pick: 0
    "stop",  # scan: behind the last row; codes are read on to the end of its group. pick: how many of `rows` count.
    # sift: likewise, in and out
    "stretches",  # stretches: int64 [n, 2], (start, stop) of as many scans
    "stretched",  # stretches: n
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
PART = 4
"""So many of these are a part's in `parts`."""
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
        stretches: as `scan`, of many stretches.
        sift: moves those of the listed rows to the front that belong to the version and pass.
        engine: keeps the machine code alive.
    """

    code_bytes: int
    lanes: int
    scan: tuple[Entry, ...]
    pick: tuple[Entry, ...]
    stretches: tuple[Entry, ...]
    sift: Entry
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

    def entry(name: str) -> Entry:
        return signature(engine.get_function_address(name))

    def entries(way: str) -> tuple[Entry, ...]:
        return entry(f"{way}_1"), entry(f"{way}_2")

    scan, pick, stretches = entries("scan"), entries("pick"), entries("stretches")
    return Kernel(code_bytes, lanes, scan, pick, stretches, entry("sift"), engine)
