"""The picture of `dotstream bench hamming`: time per query by batch size, and its growth with the number of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ops.bench._report import Report

COLOURS = {
    "dotstream": "#c8232c",
    "faiss, best block": "#3b6fb6",
    "faiss IndexBinaryFlat": "#8fb3dd",
    "usearch exact": "#9a9a9a",
}
WIDTHS = (4096, 1280)


def draw(report: Report, path: Path) -> None:
    """Draws it into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
    for axis, bits in zip(axes, WIDTHS, strict=False):
        _batches(axis, report, bits)
    _growth(axes[-1], report)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=5, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _batches(axis: Any, report: Report, bits: int) -> None:
    sizes = (1, 16, 256)
    for number, (name, colour) in enumerate(COLOURS.items()):
        heights = [report.figures[f"{bits} bits, batch of {size}, {name}"].value / size for size in sizes]
        places = [at + (number - 1.5) * 0.2 for at in range(len(sizes))]
        bars = axis.bar(places, heights, 0.2, color=colour, label=name)
        axis.bar_label(bars, [f"{height:.3g}" for height in heights], fontsize=7, padding=1)
    axis.axhline(report.figures[f"{bits} bits, read"].value, color="black", lw=0.8, ls=":", label="plain read")
    axis.set_yscale("log")
    axis.margins(y=0.15)
    axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axis.set(title=f"1M codes of {bits} bits, one thread", xlabel="queries in a batch", ylabel="ms per query")


def _growth(axis: Any, report: Report) -> None:
    for bits, colour in zip(WIDTHS, ("#c8232c", "#e08a2e"), strict=True):
        start = f"{bits} bits, growth, "
        points = [
            (int(name.removeprefix(start).split()[0]), figure)
            for name, figure in report.figures.items()
            if name.startswith(start)
        ]
        codes = [n for n, _ in points]
        axis.plot(codes, [one.value for _, one in points], "o-", color=colour, label=f"one query, {bits} bits")
        axis.plot(codes, [one.limit for _, one in points], ":", color=colour, label=f"plain read, {bits} bits")
    axis.set(xscale="log", yscale="log", title="growth, one thread", xlabel="codes", ylabel="ms")
    axis.grid(which="major", color="#dddddd")
    axis.legend(fontsize=7)
