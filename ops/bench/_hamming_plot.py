"""The picture of `dotstream bench hamming`: batches, one query in its variations, growth, memory, and the stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.bench._report import Figure, Report

COLOURS = {
    "dotstream": "#c8232c",
    "faiss, best setting": "#3b6fb6",
    "faiss IndexBinaryFlat": "#8fb3dd",
    "usearch exact": "#9a9a9a",
}
WIDTHS = {4096: "#c8232c", 1280: "#e08a2e"}
SIZES = (1, 16, 256)
STORES = (
    "dotstream",
    "dotstream, one thread",
    "faiss IndexBinaryFlat",
    "Milvus Lite",
    "pgvector",
    "sqlite-vec",
    "LanceDB",
    "usearch HNSW",
)


def draw(report: Report, path: Path) -> None:
    """Draws it into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    for axis, bits in zip(axes[0], WIDTHS, strict=False):
        _batches(axis, report, bits)
    _variations(axes[0, 2], report)
    _growth(axes[1, 0], report)
    _memory(axes[1, 1], report)
    _stores(axes[1, 2], report)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _batches(axis: Any, report: Report, bits: int) -> None:
    for number, (name, colour) in enumerate(COLOURS.items()):
        heights = [report.figures[f"{bits} bits, batch of {size}, {name}"].value / size for size in SIZES]
        places = [at + (number - 1.5) * 0.21 for at in range(len(SIZES))]
        bars = axis.bar(places, heights, 0.21, color=colour, label=name)
        axis.bar_label(bars, [f"{height:.3g}" for height in heights], fontsize=7, padding=1)
    axis.axhline(report.figures[f"{bits} bits, read"].value, color="black", lw=0.8, ls=":", label="plain read")
    axis.set_yscale("log")
    axis.margins(y=0.2)
    axis.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
    codes = report.conditions["codes"].split()[0]
    axis.set(title=f"{codes} codes of {bits} bits, one thread", xlabel="queries in a batch", ylabel="ms per query")
    axis.legend(fontsize=7)


def _variations(axis: Any, report: Report) -> None:
    """What one query takes, as parts of a plain read of the same bytes on one thread, by the same clock."""
    rows = {
        "1 query": "read",
        "1 query, 10 % dead": "read",
        "1 query, filter that keeps 50%": "read",
        "1 query, filter that keeps 10%": "read",
        "1 query, filter that keeps 1%": "read",
        "1 query, 2 threads, wall": "read, wall",
        "read, 2 threads, wall": "read, wall",
    }
    for number, (bits, colour) in enumerate(WIDTHS.items()):
        values = [report.figures[f"{bits} bits, {row}"].value for row in rows]
        reads = [report.figures[f"{bits} bits, {row}"].value for row in rows.values()]
        shares = [value / read for value, read in zip(values, reads, strict=True)]
        places = [at + (number - 0.5) * 0.38 for at in range(len(rows))]
        bars = axis.barh(places, shares, 0.38, color=colour, label=f"{bits} bits")
        axis.bar_label(bars, [f"{share:.2f}" for share in shares], fontsize=7, padding=2)
    axis.axvline(1, color="black", lw=0.8, ls=":")
    axis.set_yticks(range(len(rows)), [row.removesuffix(", wall") for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(title="one query beside a plain read of all codes", xlabel="time, the read on one thread = 1")
    axis.legend(fontsize=7)


def _growth(axis: Any, report: Report) -> None:
    for bits, colour in WIDTHS.items():
        codes, figures = _by_codes(report, f"{bits} bits, growth, ")
        axis.plot(codes, [one.value for one in figures], "o-", color=colour, label=f"one query, {bits} bits")
        axis.plot(codes, [one.limit for one in figures], ":", color=colour, label=f"plain read, {bits} bits")
    axis.set(xscale="log", yscale="log", title="time by number of codes, one thread", xlabel="codes", ylabel="ms")
    axis.grid(which="major", color="#dddddd")
    axis.legend(fontsize=7)


def _memory(axis: Any, report: Report) -> None:
    for bits, colour in WIDTHS.items():
        codes, mapped = _by_codes(report, f"{bits} bits, mapped, ")
        _, private = _by_codes(report, f"{bits} bits, memory, ")
        axis.plot(codes, [one.value for one in mapped], "o-", color=colour, label=f"mapped files, {bits} bits")
        axis.plot(codes, [one.limit for one in mapped], ":", color=colour, label=f"the codes alone, {bits} bits")
        least = [max(one.value, 0.1) for one in private]
        axis.plot(codes, least, "s--", color=colour, label=f"the process's own, {bits} bits")
    axis.set(xscale="log", yscale="log", title="memory by number of codes", xlabel="codes", ylabel="MiB")
    axis.grid(which="major", color="#dddddd")
    axis.legend(fontsize=7)


def _by_codes(report: Report, start: str) -> tuple[list[int], Sequence[Figure]]:
    """The figures whose names begin so, by the number of codes that follows."""
    found = {name.removeprefix(start): figure for name, figure in report.figures.items() if name.startswith(start)}
    return [int(name.split()[0]) for name in found], list(found.values())


def _stores(axis: Any, report: Report) -> None:
    start = f"stores, {report.conditions['stores'].split()[0]} codes, "
    for number, (name, colour) in enumerate((("one query", "#3b6fb6"), ("append until found", "#e08a2e"))):
        figures = [report.figures.get(f"{start}{store}, {name}") for store in STORES]
        places = [at + (number - 0.5) * 0.38 for at, one in enumerate(figures) if one is not None]
        values = [one.value for one in figures if one is not None]
        bars = axis.barh(places, values, 0.38, color=colour, label=name)
        axis.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=7, padding=2)
    axis.set_yticks(range(len(STORES)), STORES, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set(xscale="log", title=f"stores, {report.conditions['stores']} of 4096 bits", xlabel="ms")
    axis.legend(fontsize=7)
